//! The service manager: what it is told, and the sockets that it passes.
//!
//! The test plays systemd: a datagram socket that hears the notifications, and a shell that passes
//! its own descriptors on as systemd would.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::Stdio;

use rustix::process::Signal;
use tempfile::TempDir;

use super::{FEW_SECONDS, RUN, address_in, configure};
use crate::support::program::{Program, start_by_shell, start_in};
use crate::support::{
    Client, ClosedPort, Conversation, PATIENCE, ScriptedUpstream, payment, write_private,
};

/// Passes the shell's stdin as a socket with this name.
const ONE_SOCKET: &str = r#"LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=http exec "$@" 3<&0"#;

/// Passes the shell's stdin and stdout as two sockets with this name.
const TWO_SOCKETS: &str =
    r#"LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=http:http exec "$@" 3<&0 4<&1 >/dev/null"#;

fn answering(mut conversation: Conversation) {
    while conversation.request().is_some() {
        conversation.answer("{}");
    }
}

/// A configuration with this listener instead of its own.
fn configure_listener(base_url: &str, listener: &str) -> TempDir {
    let folder = configure(base_url, "off");
    let path = folder.path().join("gateway.toml");
    let text = std::fs::read_to_string(&path).expect("it was written");
    let listener = format!("[[listeners]]\n{listener}\n");
    let text = text.replace("[[listeners]]\naddress = \"127.0.0.1:0\"\n", &listener);
    assert!(text.contains(&listener), "{text}");
    write_private(&path, &text);
    folder
}

/// Starts the program with a socket called `http`.
fn start_activated(folder: &TempDir, socket: impl Into<OwnedFd>) -> Program {
    let (socket, stdout) = (Stdio::from(socket.into()), Stdio::piped());
    start_by_shell(ONE_SOCKET, folder.path(), &RUN, socket, stdout)
}

#[track_caller]
fn assert_ends_in_order(mut program: Program) {
    program.signal(Signal::TERM);
    let ended = program.end_within(FEW_SECONDS).expect("an end");
    assert_eq!(ended.code(), Some(0));
}

/// The service manager's end of the notifications.
struct Notifications(UnixDatagram);

impl Notifications {
    /// Listens in this folder; with it, what the program has to know of that.
    fn listen(folder: &TempDir) -> (Self, (String, String)) {
        let path = folder.path().join("notify.sock");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        let patience = Some(PATIENCE);
        socket.set_read_timeout(patience).expect("a timeout");
        let variable = ("NOTIFY_SOCKET".to_owned(), path.display().to_string());
        (Self(socket), variable)
    }

    /// The next message with this line.
    fn until(&self, wanted: &str) -> String {
        loop {
            let mut message = [0; 512];
            let length = self.0.recv(&mut message).expect("a notification");
            let message = String::from_utf8_lossy(&message[..length]).into_owned();
            if message.lines().any(|line| line == wanted) {
                return message;
            }
        }
    }
}

#[test]
fn the_service_manager_hears_of_the_start_of_every_beat_and_of_the_end() {
    let folder = configure(&ClosedPort::bind().base_url(), "off");
    let (notifications, socket) = Notifications::listen(&folder);
    let watchdog = ("WATCHDOG_USEC".to_owned(), "100000".to_owned());
    let program = start_in(folder.path(), &RUN, &[socket, watchdog]);

    let ready = notifications.until("READY=1");
    assert!(ready.contains("STATUS=serving sandbox\n"), "{ready}");
    notifications.until("WATCHDOG=1");
    notifications.until("WATCHDOG=1");
    program.signal(Signal::TERM);
    let stopping = notifications.until("STOPPING=1");
    assert!(stopping.contains("STATUS=draining"), "{stopping}");
    assert_eq!(program.end().code, 0);
}

#[test]
fn a_start_without_a_credential_is_a_start_and_says_what_it_waits_for() {
    let folder = configure(&ClosedPort::bind().base_url(), "off");
    let path = folder.path().join("gateway.toml");
    let text = std::fs::read_to_string(&path).expect("it was written");
    let text = text.replace("echo demo-secret", "cat secret");
    write_private(&path, &text);
    let (notifications, socket) = Notifications::listen(&folder);
    let program = start_in(folder.path(), &RUN, &[socket]);

    let ready = notifications.until("READY=1");
    assert!(ready.contains("waiting for the credential"), "{ready}");
    write_private(&folder.path().join("secret"), "demo-secret");
    notifications.until("STATUS=serving sandbox");
    assert_ends_in_order(program);
}

#[test]
fn a_program_that_knows_a_secret_does_not_hear_what_systemd_says_to_the_gateway() {
    let folder = configure(&ClosedPort::bind().base_url(), "off");
    let seen = folder.path().join("seen");
    let path = folder.path().join("gateway.toml");
    let text = std::fs::read_to_string(&path).expect("it was written");
    let command = format!("env > '{}'; echo demo-secret", seen.display());
    let text = text.replace("echo demo-secret", &command);
    write_private(&path, &text);
    let names = [
        "LISTEN_PID",
        "LISTEN_FDS",
        "LISTEN_FDNAMES",
        "NOTIFY_SOCKET",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
    ];
    let variables = names.map(|name| (name.to_owned(), "1".to_owned()));
    let mut program = start_in(folder.path(), &RUN, &variables);
    program.stderr.until("the credential is loaded");
    let seen = std::fs::read_to_string(seen).expect("the command ran");
    assert!(seen.contains("PATH="), "{seen}");
    for name in names {
        assert!(!seen.contains(name), "{seen}");
    }
}

#[test]
fn who_comes_between_two_processes_waits_in_the_socket_that_systemd_keeps() {
    let upstream = ScriptedUpstream::start(answering);
    let folder = configure_listener(&upstream.base_url(), "address = \"systemd:http\"");
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("it is bound");
    let pass = || socket.try_clone().expect("a descriptor");

    let mut first = start_activated(&folder, pass());
    assert_eq!(address_in(&first.stderr.until("\"listening\"")), address);
    first.stderr.until("the credential is loaded");
    let answer = Client::connect(address).exchange(payment("order-1"));
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_ends_in_order(first);

    let mut between = Client::connect(address);
    between.begin(payment("order-2"));
    let second = start_activated(&folder, pass());
    let answer = between.answer();
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(answer.field("x-request-id"), "order-2");
    assert_ends_in_order(second);
}

#[test]
fn a_unix_socket_of_systemds_is_served_and_left_where_it_is() {
    let upstream = ScriptedUpstream::start(answering);
    let folder = configure_listener(&upstream.base_url(), "address = \"systemd:http\"");
    let path = folder.path().join("http.sock");
    let socket = UnixListener::bind(&path).expect("a socket");
    let mut program = start_activated(&folder, socket.try_clone().expect("a descriptor"));
    program.stderr.until("the credential is loaded");

    let mut client = UnixStream::connect(&path).expect("it listens");
    client.write_all(&payment("order-1")).expect("it is read");
    let mut start = [0; 15];
    client.read_exact(&mut start).expect("an answer");
    assert_eq!(&start, b"HTTP/1.1 200 OK");
    drop(client);
    assert_ends_in_order(program);
    assert!(path.exists(), "systemd's socket was removed");
}

#[test]
fn all_sockets_of_one_name_are_served() {
    let upstream = ScriptedUpstream::start(answering);
    let folder = configure_listener(&upstream.base_url(), "address = \"systemd:http\"");
    let sockets = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let addresses = sockets
        .each_ref()
        .map(|socket| socket.local_addr().expect("it is bound"));
    let [stdin, stdout] = sockets.map(|socket| Stdio::from(OwnedFd::from(socket)));
    let mut program = start_by_shell(TWO_SOCKETS, folder.path(), &RUN, stdin, stdout);
    program.stderr.until("the credential is loaded");
    for address in addresses {
        let answer = Client::connect(address).exchange(payment("order-1"));
        assert_eq!(answer.status(), 200, "{answer:?}");
    }
    assert_ends_in_order(program);
}

#[test]
fn what_systemd_passes_and_cannot_be_served_is_refused_in_plain_words() {
    let base_url = ClosedPort::bind().base_url();
    let local: OwnedFd = TcpListener::bind("127.0.0.1:0").expect("a port").into();
    let open: OwnedFd = TcpListener::bind("0.0.0.0:0").expect("a port").into();
    let datagrams: OwnedFd = UdpSocket::bind("127.0.0.1:0").expect("a port").into();
    let refusals = [
        (local, "systemd:https", "passed no socket of this name"),
        (open, "systemd:http", "write allow_anonymous = true"),
        (datagrams, "systemd:http", "accepts no connections"),
    ];
    for (socket, address, complaint) in refusals {
        let folder = configure_listener(&base_url, &format!("address = \"{address}\""));
        let ended = start_activated(&folder, socket).end();
        assert_eq!(ended.code, 78, "{}", ended.stderr);
        let key = format!("listeners[0].address {address}: systemd passed ");
        assert!(ended.stderr.contains(&key), "{}", ended.stderr);
        assert!(ended.stderr.contains(complaint), "{}", ended.stderr);
    }
}

#[test]
fn a_socket_that_others_can_reach_is_served_when_that_is_wanted() {
    let base_url = ClosedPort::bind().base_url();
    let listener = "address = \"systemd:http\"\nallow_anonymous = true";
    let folder = configure_listener(&base_url, listener);
    let socket = TcpListener::bind("0.0.0.0:0").expect("a port");
    let mut program = start_activated(&folder, socket);
    program
        .stderr
        .until("everybody who reaches it can make payments");
    program.stderr.until("\"serving\"");
    assert_ends_in_order(program);
}

#[test]
fn a_socket_that_no_listener_names_is_told_and_not_served() {
    let folder = configure(&ClosedPort::bind().base_url(), "off");
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut program = start_activated(&folder, socket);
    let line = program.stderr.until("a socket that no listener names");
    assert!(line.contains(r#""socket":"http""#), "{line}");
    assert_ends_in_order(program);
}

#[test]
fn check_says_what_it_cannot_know_of_a_socket_that_is_not_there_yet() {
    let base_url = ClosedPort::bind().base_url();
    let folder = configure_listener(&base_url, "address = \"systemd:http\"");
    let ended = start_in(folder.path(), &["check", "--config", "gateway.toml"], &[]).end();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let warning = "warning: listeners[0].address systemd:http is looked at when systemd passes it";
    assert!(ended.stdout.contains(warning), "{}", ended.stdout);
}
