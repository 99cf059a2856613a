//! `[[listeners]]`: where clients are served.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::faults::Report;
use super::{AdminConfig, Expected, units};
use crate::secret::Source;

/// The least that hyper can be given for a request's head.
const LEAST_HEADER_BYTES: usize = 8192;

/// The longest path of a Unix socket: `sun_path` has 108 bytes, the last of them zero.
///
/// # Source
/// unix(7).
const LONGEST_SOCKET_PATH_BYTES: usize = 107;

/// The longest name of a socket that systemd passes.
///
/// # Source
/// systemd.socket(5), `FileDescriptorName=`.
const LONGEST_SOCKET_NAME_BYTES: usize = 255;

/// What is wrong with a listener that others can reach and that asks nobody who they are.
pub const OPEN_TO_OTHERS: &str = "can be reached from other machines, and nobody would be asked \
    who they are: use a loopback address such as 127.0.0.1 or a unix: path, or write \
    allow_anonymous = true in this listener to allow it";

/// What is wrong with TLS on a Unix socket.
pub const TLS_ON_UNIX_SOCKET: &str = "makes no sense on a Unix socket, which nobody can listen in \
    on: take it out, or use an IP address and a port";

/// One place where clients are served, with its limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListenerConfig {
    /// IP address and port, `unix:` and a path, or `systemd:` and the name of sockets that systemd
    /// passes; default `127.0.0.1:8080`. Restart-only.
    pub address: ListenAddress,
    /// Serves clients that nobody knows, even from other machines; default false.
    ///
    /// Loopback and Unix listeners serve them anyway.
    pub allow_anonymous: bool,
    /// From the first byte of a request to the end of its head; default 5 s.
    #[serde(with = "units::positive_duration")]
    #[schemars(with = "units::DurationText")]
    pub header_timeout: Duration,
    /// For the whole request body; default 10 s.
    #[serde(with = "units::positive_duration")]
    #[schemars(with = "units::DurationText")]
    pub body_timeout: Duration,
    /// How long a connection may wait for its next request; default 60 s.
    #[serde(with = "units::positive_duration")]
    #[schemars(with = "units::DurationText")]
    pub idle_timeout: Duration,
    /// From the first byte of a TLS handshake to its end; default 5 s. Without `tls` it is not used.
    #[serde(with = "units::positive_duration")]
    #[schemars(with = "units::DurationText")]
    pub tls_timeout: Duration,
    /// Connections at once; default 10000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: usize,
    /// Connections of one address at once, IPv6 addresses of one /64 together; one more is closed as
    /// soon as it is accepted. Default 0, which is no bound; on Unix sockets there is none.
    #[schemars(range(max = 1_000_000))]
    pub max_connections_per_address: usize,
    /// The longest head of a request; default 16 KiB, at least 8 KiB.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub max_header_bytes: usize,
    /// Fields of a request's head, and of its trailers; default 100, which is also the most.
    #[schemars(range(min = 1, max = 100))]
    pub max_header_fields: usize,
    /// Requests on one connection, the last of which is answered with `Connection: close`; default
    /// 10000, zero for no limit.
    pub max_requests_per_connection: u64,
    /// The longest body of a request; default 4 MiB, zero allows empty ones only.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub max_body_bytes: u64,
    /// Speaks TLS, with this certificate and its key; by default plain HTTP. Where it stands is read
    /// at start only, what stands there is taken up when it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ListenerTls")]
    pub tls: Option<ListenerTls>,
}

impl Default for ListenerConfig {
    fn default() -> Self {
        Self {
            address: ListenAddress::Tcp((Ipv4Addr::LOCALHOST, 8080).into()),
            allow_anonymous: false,
            header_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            tls_timeout: Duration::from_secs(5),
            max_connections: 10_000,
            max_connections_per_address: 0,
            max_header_bytes: 16 * 1024,
            max_header_fields: 100,
            max_requests_per_connection: 10_000,
            max_body_bytes: 4 * 1024 * 1024,
            tls: None,
        }
    }
}

/// The files that a TLS listener shows who it is by; both are needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerTls {
    /// A PEM file: the listener's certificate, behind it those between it and the authority.
    pub certificate: PathBuf,
    /// A PEM file: the private key of the first certificate. It is a secret; others must not be
    /// able to read it.
    pub key: PathBuf,
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("x-expected" = "an address such as \"127.0.0.1:8080\", \"unix:/run/a.sock\" or \"systemd:http\""))]
pub enum ListenAddress {
    /// An IP address and a port; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// The absolute path of a socket, written with `unix:` before it.
    Unix(PathBuf),
    /// The `FileDescriptorName` of sockets that systemd passes, written with `systemd:` before it.
    ///
    /// Where they listen is known at start only.
    Systemd(String),
}

impl ListenAddress {
    /// Whether it is certain that only processes of this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
            Self::Systemd(_) => false,
        }
    }

    /// Whether both cannot be bound at once; port 0 is a different port each time.
    fn collides_with(&self, other: &Self) -> bool {
        self == other && !matches!(self, Self::Tcp(address) if address.port() == 0)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
            Self::Systemd(name) => write!(formatter, "systemd:{name}"),
        }
    }
}

impl TryFrom<String> for ListenAddress {
    type Error = Expected;

    fn try_from(text: String) -> Result<Self, Expected> {
        if let Some(name) = text.strip_prefix("systemd:") {
            let is_name = name.chars().all(|c| c.is_ascii_graphic() && c != ':');
            if name.is_empty() || !is_name || name.len() > LONGEST_SOCKET_NAME_BYTES {
                return Err(Expected(
                    "systemd: and the FileDescriptorName of a socket unit, found another string",
                ));
            }
            return Ok(Self::Systemd(name.to_owned()));
        }
        if let Some(path) = text.strip_prefix("unix:") {
            let is_path = path.starts_with('/') && !path.ends_with('/') && !path.contains('\0');
            if !is_path || path.len() > LONGEST_SOCKET_PATH_BYTES {
                return Err(Expected(
                    "unix: and an absolute path of at most 107 bytes, found another string",
                ));
            }
            return Ok(Self::Unix(path.into()));
        }
        text.parse().map(Self::Tcp).map_err(|_| {
            Expected(
                "an IP address and a port such as \"127.0.0.1:8080\", unix: and a path, or \
                 systemd: and a name, found another string",
            )
        })
    }
}

impl From<ListenAddress> for String {
    fn from(address: ListenAddress) -> Self {
        address.to_string()
    }
}

/// The listeners when none are configured: one, for this machine only.
pub(super) fn default_list() -> Vec<ListenerConfig> {
    vec![ListenerConfig::default()]
}

/// Checks what no single value can know: who can reach a listener, and whether all can be bound.
pub(super) fn check(listeners: &[ListenerConfig], admin: &AdminConfig, report: &mut Report) {
    for (index, listener) in listeners.iter().enumerate() {
        check_openness(index, listener, report);
        if listener.max_header_bytes < LEAST_HEADER_BYTES {
            report.fault(
                &format!("listeners[{index}].max_header_bytes"),
                "expected a size of at least 8KiB, found a smaller one",
            );
        }
        if let Some(tls) = &listener.tls {
            check_tls(index, tls, &listener.address, report);
        }
        check_collisions(index, listener, listeners, admin, report);
    }
}

/// What is no path is refused before any message could show it: it may be the key itself.
fn check_tls(index: usize, tls: &ListenerTls, address: &ListenAddress, report: &mut Report) {
    let key = format!("listeners[{index}].tls");
    if matches!(address, ListenAddress::Unix(_)) {
        report.fault(&key, TLS_ON_UNIX_SOCKET);
    }
    let files = [("certificate", &tls.certificate), ("key", &tls.key)];
    for (name, path) in files {
        if let Err(impossible) = Source::File(path.clone()).check() {
            report.fault(&format!("{key}.{name}"), impossible.to_string());
        }
    }
}

/// No two listeners can be bound to one address; those at fault have none of their own.
fn check_collisions(
    index: usize,
    listener: &ListenerConfig,
    listeners: &[ListenerConfig],
    admin: &AdminConfig,
    report: &mut Report,
) {
    let key = |index| format!("listeners[{index}].address");
    let collides = |other: &ListenAddress| other.collides_with(&listener.address);
    let first = listeners
        .iter()
        .take(index)
        .position(|earlier| collides(&earlier.address));
    if let Some(first) = first.filter(|first| !report.is_at_fault(&key(*first))) {
        report.fault(&key(index), format!("is the same as {}", key(first)));
    }
    if collides(&ListenAddress::Tcp(admin.address)) && !report.is_at_fault("admin.address") {
        report.fault(&key(index), "is the same as admin.address");
    }
}

/// A listener that others can reach and that asks nobody who they are must be wanted.
///
/// Of a socket that systemd passes this is known, and asked, when it is there.
fn check_openness(index: usize, listener: &ListenerConfig, report: &mut Report) {
    if listener.address.is_local() || matches!(listener.address, ListenAddress::Systemd(_)) {
        return;
    }
    if listener.allow_anonymous {
        report.warn(format!(
            "listeners[{index}] serves other machines without asking who they are; everybody who \
             reaches it can make payments"
        ));
    } else {
        report.fault(&format!("listeners[{index}].address"), OPEN_TO_OTHERS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ListenAddress, Expected> {
        text.to_owned().try_into()
    }

    #[test]
    fn reads_addresses_of_every_kind() {
        for text in [
            "127.0.0.1:8080",
            "[::1]:0",
            "0.0.0.0:80",
            "unix:/run/gateway.sock",
            "systemd:http",
            "systemd:moden-gateway.socket",
        ] {
            assert_eq!(parse(text).expect("an address").to_string(), text);
        }
    }

    #[test]
    fn refuses_what_cannot_be_listened_on() {
        let long = format!("unix:/{}", "x".repeat(LONGEST_SOCKET_PATH_BYTES));
        for text in [
            "",
            "8080",
            ":8080",
            "localhost:8080",
            "127.0.0.1",
            "unix:",
            "unix:a",
            &long,
            "systemd:",
            "systemd:a:b",
            "systemd:a b",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn knows_who_can_reach_an_address() {
        for text in [
            "127.0.0.1:1",
            "127.9.9.9:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
            "unix:/a",
        ] {
            assert!(parse(text).expect("an address").is_local(), "{text}");
        }
        for text in [
            "0.0.0.0:1",
            "[::]:1",
            "10.0.0.1:1",
            "[::ffff:10.0.0.1]:1",
            "systemd:http",
        ] {
            assert!(!parse(text).expect("an address").is_local(), "{text}");
        }
    }
}
