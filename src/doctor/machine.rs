//! What this machine has to offer: open files, and addresses to listen on.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use tokio::net::TcpSocket;

use super::report::{Check, Finding, Status};
use crate::app::OpenFiles;
use crate::config::{Config, ListenAddress};
use crate::server::SocketFile;

/// Compares the limit of open files with what the configuration may need.
pub(super) fn examine_open_files(config: &Config) -> Finding {
    let files = OpenFiles::foresee(config);
    let Some(allowed) = files.allowed else {
        return Finding::ok(Check::OpenFiles, "there is no limit");
    };
    let seen = format!(
        "{} may be needed for all connections, {allowed} are allowed",
        files.needed()
    );
    if files.warning().is_none() {
        return Finding::ok(Check::OpenFiles, seen);
    }
    let seen = format!("{seen}: {} clients at once", files.client_room());
    let advice = "raise the hard limit (LimitNOFILE= in the unit, ulimit -Hn), or lower \
                  max_connections of the listeners";
    Finding::bad(Check::OpenFiles, Status::Warn, seen, advice)
}

/// Tries whether every listener could be bound; none of them accepts anything meanwhile.
pub(super) fn examine_addresses(config: &Config) -> Vec<Finding> {
    let listeners = config.listeners.iter().enumerate();
    let mut tried: Vec<_> = listeners
        .map(|(index, listener)| {
            let key = format!("listeners[{index}].address");
            (key, try_to_bind(&listener.address))
        })
        .collect();
    tried.push((
        "admin.address".to_owned(),
        try_to_bind(&ListenAddress::Tcp(config.admin.address)),
    ));

    let mut findings = Vec::new();
    let (mut free, mut taken) = (Vec::new(), Vec::new());
    for (key, attempt) in tried {
        match attempt {
            Ok(Bind::Chosen) => {}
            Ok(Bind::Free) => free.push(key),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => taken.push(key),
            Err(error) => findings.push(Finding::bad(
                Check::Addresses,
                Status::Fail,
                format!("{key} cannot be listened on: {error}"),
                "give an address of this machine, and a port or folder that this account may use",
            )),
        }
    }
    if !taken.is_empty() && !free.is_empty() {
        let seen = format!("{} in use, {} free", taken.join(", "), free.join(", "));
        let advice = "a running gateway would have them all: find out who has these (ss -ltnp)";
        findings.push(Finding::bad(Check::Addresses, Status::Warn, seen, advice));
    } else if !taken.is_empty() {
        let seen = "all in use, as they are while a gateway runs";
        findings.push(Finding::ok(Check::Addresses, seen));
    } else if findings.is_empty() {
        findings.push(Finding::ok(Check::Addresses, "all can be listened on"));
    }
    findings
}

/// How an address could be bound.
enum Bind {
    /// It is free.
    Free,
    /// The system chooses; that is always possible.
    Chosen,
}

fn try_to_bind(address: &ListenAddress) -> io::Result<Bind> {
    match address {
        ListenAddress::Tcp(address) => try_tcp(*address),
        ListenAddress::Unix(path) => try_unix(path),
        // systemd has bound it, or will.
        ListenAddress::Systemd(_) => Ok(Bind::Chosen),
    }
}

/// Binds and does not listen, so that no client can come in by mistake.
fn try_tcp(address: SocketAddr) -> io::Result<Bind> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(match address.port() {
        0 => Bind::Chosen,
        _ => Bind::Free,
    })
}

/// Looks without binding, which would leave a file behind.
fn try_unix(path: &Path) -> io::Result<Bind> {
    match SocketFile::look(path)? {
        SocketFile::InUse => Err(io::ErrorKind::AddrInUse.into()),
        // The next gateway replaces it.
        SocketFile::LeftOver => Ok(Bind::Free),
        SocketFile::Absent => {
            let folder = path.parent().unwrap_or(path);
            std::fs::metadata(folder).map(|_| Bind::Free)
        }
    }
}
