//! What is stuck around the gateway: none of it may stop it from serving, or hold up its end.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::{FEW_SECONDS, RUN, address_in, configure};
use crate::support::program::{Program, sh, start_by_shell, start_in};
use crate::support::{
    Client, ClosedPort, ScriptedUpstream, alone, eventually, payment, write_private,
};

/// Replaces a text of a configuration of [`configure`].
fn replace(folder: &TempDir, old: &str, new: &str) {
    let path = folder.path().join("gateway.toml");
    let text = std::fs::read_to_string(&path).expect("it was written");
    let changed = text.replace(old, new);
    assert_ne!(text, changed);
    write_private(&path, &changed);
}

/// Whether something answers at this address within two seconds.
fn is_answered(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else {
        return false;
    };
    let patience = Some(Duration::from_secs(2));
    stream.set_read_timeout(patience).expect("a timeout");
    stream
        .write_all(b"POST /pay/x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        .expect("it is taken");
    stream.read(&mut [0; 64]).is_ok_and(|read| read > 0)
}

#[track_caller]
fn assert_ends(program: &mut Program, patience: Duration) {
    let told = Instant::now();
    program.signal(Signal::TERM);
    let ended = program.end_within(patience);
    assert!(ended.is_some(), "it still runs after {:?}", told.elapsed());
}

/// A service manager that reads nothing (PID 1 frozen, a container runtime's shim stopped).
#[test]
fn a_service_manager_that_reads_nothing_stops_neither_payments_nor_the_end() {
    let folder = configure(&ClosedPort::bind().base_url(), "off");
    let path = folder.path().join("notify.sock");
    let _never_read = UnixDatagram::bind(&path).expect("a socket");
    let variables = [
        ("NOTIFY_SOCKET".to_owned(), path.display().to_string()),
        ("WATCHDOG_USEC".to_owned(), "40000".to_owned()),
    ];
    let mut program = start_in(folder.path(), &RUN, &variables);
    let address = address_in(&program.stderr.until("\"listening\""));
    program.stderr.until("\"serving\"");
    // As many datagrams as the kernel queues (net.unix.max_dgram_qlen), and some.
    thread::sleep(Duration::from_secs(2));
    assert!(is_answered(address), "nothing is accepted any more");
    assert_ends(&mut program, FEW_SECONDS);
}

/// The service manager's limit is kept although one beat fell into a moment of standing still.
#[test]
fn one_missed_beat_is_made_up_for_before_the_watchdog_bites() {
    let _alone = alone();
    let folder = configure(&ClosedPort::bind().base_url(), "off");
    let path = folder.path().join("notify.sock");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    // Whether the beat comes before or after the cores' own signs of life is a race.
    replace(&folder, "threads = 1", "threads = 4");
    let limit = Duration::from_secs(12);
    let variables = [
        ("NOTIFY_SOCKET".to_owned(), path.display().to_string()),
        ("WATCHDOG_USEC".to_owned(), limit.as_micros().to_string()),
    ];
    let program = start_in(folder.path(), &RUN, &variables);
    socket.set_read_timeout(Some(2 * limit)).expect("a timeout");
    let next_beat = || loop {
        let mut message = [0; 512];
        let length = socket.recv(&mut message).expect("a notification");
        if message[..length].starts_with(b"WATCHDOG=1") {
            return Instant::now();
        }
    };
    let first = next_beat();
    thread::sleep(Duration::from_millis(600));
    // Half of the limit, as a live migration or a frozen cgroup can last.
    program.signal(Signal::STOP);
    thread::sleep(Duration::from_millis(5900));
    program.signal(Signal::CONT);
    let gap = next_beat().duration_since(first);
    assert!(gap < limit - Duration::from_secs(1), "no beat for {gap:?}");
}

/// `ends_within` is `drain_delay + drain_timeout + 3s`, here 5 s.
#[test]
fn a_secret_command_that_hangs_does_not_hold_up_the_end() {
    let folder = configure(&ClosedPort::bind().base_url(), "off");
    replace(&folder, "echo demo-secret", "sleep 60");
    let mut program = start_in(folder.path(), &RUN, &[]);
    program.stderr.until("\"listening\"");
    thread::sleep(Duration::from_millis(500));
    assert_ends(&mut program, Duration::from_secs(5));
}

#[test]
fn an_access_log_that_cannot_be_opened_yet_does_not_hold_up_the_end() {
    let folder = configure(&ClosedPort::bind().base_url(), "off");
    let fifo = folder.path().join("access.fifo");
    replace(&folder, "output = \"off\"", &format!("output = {fifo:?}"));
    assert!(sh(&format!("mkfifo '{}'", fifo.display())).status.success());
    let mut program = start_in(folder.path(), &RUN, &[]);
    program
        .stderr
        .until("access_log.output is still being opened");
    assert_ends(&mut program, FEW_SECONDS);
}

/// A Unix socket whose owner stands still with a full queue: connecting to it blocks.
fn stuck_unix_socket(folder: &TempDir) -> (UnixListener, Vec<std::os::fd::OwnedFd>) {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let path = folder.path().join("gateway.sock");
    replace(
        folder,
        "[[listeners]]\naddress = \"127.0.0.1:0\"",
        &format!("[[listeners]]\naddress = \"unix:{}\"", path.display()),
    );
    let listener = UnixListener::bind(&path).expect("a socket");
    rustix::net::listen(&listener, 0).expect("a short queue");
    let address = SocketAddrUnix::new(&path).expect("an address");
    let waiting = (0..3)
        .map(|_| {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let socket =
                rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
                    .expect("a socket");
            // The last of them find the queue full.
            let _ = rustix::net::connect(&socket, &address);
            socket
        })
        .collect();
    (listener, waiting)
}

#[test]
fn a_unix_socket_whose_owner_is_stuck_does_not_hang_the_start() {
    let folder = configure(&ClosedPort::bind().base_url(), "off");
    let _stuck = stuck_unix_socket(&folder);
    let mut program = start_in(folder.path(), &RUN, &[]);
    let ended = program.end_within(FEW_SECONDS);
    let ended = ended.expect("an end, as the address is taken");
    assert_eq!(ended.code(), Some(69));
}

#[test]
fn a_unix_socket_whose_owner_is_stuck_does_not_hang_doctor() {
    let folder = configure(&ClosedPort::bind().base_url(), "off");
    let _stuck = stuck_unix_socket(&folder);
    let mut doctor = start_in(folder.path(), &["doctor", "--config", "gateway.toml"], &[]);
    doctor.end_within(FEW_SECONDS).expect("an end");
}

/// A closed terminal, or an operator who wants a reload.
#[test]
fn a_hangup_does_not_cut_off_a_payment() {
    let upstream = ScriptedUpstream::start(|mut conversation| {
        while conversation.request().is_some() {
            thread::sleep(Duration::from_secs(1));
            conversation.answer("{}");
        }
    });
    let folder = configure(&upstream.base_url(), "off");
    let mut program = start_in(folder.path(), &RUN, &[]);
    let address = address_in(&program.stderr.until("\"listening\""));
    program.stderr.until("\"serving\"");
    let mut client = Client::connect(address);
    client.begin(payment("order-1"));
    eventually("the request at the upstream", || upstream.requests().pop());
    program.signal(Signal::HUP);
    let answer = client.try_answer();
    assert!(answer.is_ok_and(|answer| answer.status() == 200));
}

/// Starts a gateway under a limit of open files, lets 300 clients come, and asks the admin listener;
/// what it said when it started.
fn probe_beside_many_clients(limit: &str) -> String {
    let folder = configure(&ClosedPort::bind().base_url(), "off");
    let admin = {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        free.local_addr().expect("it is bound")
    };
    replace(
        &folder,
        "[admin]\naddress = \"127.0.0.1:0\"",
        &format!("[admin]\naddress = \"{admin}\""),
    );
    let script = format!("{limit}; exec \"$@\"");
    let (stdin, stdout) = (Stdio::null(), Stdio::piped());
    let mut program = start_by_shell(&script, folder.path(), &RUN, stdin, stdout);
    let started = program.stderr.up_to("\"listening\"");
    let address = address_in(started.last().expect("a line"));
    program.stderr.until("\"serving\"");
    assert!(is_answered(admin), "before");
    let _held: Vec<_> = (0..300).map(|_| TcpStream::connect(address)).collect();
    thread::sleep(Duration::from_millis(500));
    assert!(is_answered(admin), "no file is left for a probe");
    started.join("\n")
}

/// Containers often give a soft limit of 1024, of which a hard limit far above makes nothing.
#[test]
fn clients_that_hold_all_files_do_not_blind_the_probes() {
    let started = probe_beside_many_clients("ulimit -Sn 256");
    assert!(started.contains("raised the limit of open files"));
    assert!(!started.contains("clients are served at once"));
}

#[test]
fn clients_do_not_get_the_files_of_the_probes_where_the_limit_cannot_be_raised() {
    let started = probe_beside_many_clients("ulimit -n 256");
    let warning = "the hard limit allows 256: no more than 64 clients are served at once";
    assert!(started.contains(warning), "{started}");
}

/// READY=1 after STOPPING=1, and a status that says the opposite.
#[test]
fn an_end_that_comes_before_the_start_was_over_is_not_followed_by_its_news() {
    let folder = configure(&ClosedPort::bind().base_url(), "off");
    replace(&folder, "echo demo-secret", "sleep 2; echo demo-secret");
    replace(&folder, "[server]\n", "[server]\ndrain_delay = \"3s\"\n");
    let path = folder.path().join("notify.sock");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    let variable = ("NOTIFY_SOCKET".to_owned(), path.display().to_string());
    let mut program = start_in(folder.path(), &RUN, &[variable]);
    program.stderr.until("\"listening\"");
    thread::sleep(Duration::from_millis(500));
    assert_ends(&mut program, FEW_SECONDS);
    socket.set_nonblocking(true).expect("a socket");
    let mut told = String::new();
    let mut message = [0; 512];
    while let Ok(length) = socket.recv(&mut message) {
        told += &String::from_utf8_lossy(&message[..length]);
    }
    let (_, after) = told.split_once("STOPPING=1").expect("it said so");
    assert!(!after.contains("READY=1"), "{told}");
    assert!(!after.contains("STATUS=serving"), "{told}");
}

/// After a second signal inside the delay nothing more may be taken out of a socket of systemd's:
/// its next process would have served it.
#[test]
fn a_second_signal_takes_no_connection_out_of_a_passed_socket_to_drop_it() {
    let _alone = alone();
    let upstream = ScriptedUpstream::start(|mut conversation| {
        while conversation.request().is_some() {
            thread::sleep(Duration::from_millis(20));
            conversation.answer("{}");
        }
    });
    let folder = configure(&upstream.base_url(), "off");
    replace(
        &folder,
        "[[listeners]]\naddress = \"127.0.0.1:0\"",
        "[[listeners]]\naddress = \"systemd:http\"",
    );
    replace(&folder, "[server]\n", "[server]\ndrain_delay = \"1h\"\n");
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("it is bound");
    let script = r#"LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=http exec "$@" 3<&0"#;
    let (is_over, cut) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut named = 0;
    thread::scope(|scope| {
        for _ in 0..24 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let mut client = TcpStream::connect(address).expect("the socket stays");
                    let patience = Some(Duration::from_secs(10));
                    client.set_read_timeout(patience).expect("a timeout");
                    let _ = client.write_all(&payment("order-1"));
                    let is_cut = !client.read(&mut [0; 64]).is_ok_and(|read| read > 0);
                    // Whoever waits at the very end waits for a process that never comes.
                    if is_cut && !is_over.load(Ordering::Relaxed) {
                        cut.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        for _ in 0..6 {
            let stdin = Stdio::from(std::os::fd::OwnedFd::from(
                socket.try_clone().expect("a descriptor"),
            ));
            let mut program = start_by_shell(script, folder.path(), &RUN, stdin, Stdio::piped());
            program.stderr.until("\"serving\"");
            thread::sleep(Duration::from_millis(500));
            program.signal(Signal::TERM);
            program.stderr.until("\"draining\"");
            program.signal(Signal::TERM);
            let ended = program.end();
            let last = ended.stderr.lines().last().expect("a last line");
            let last: Value = serde_json::from_str(last).expect("a line of JSON");
            named += last["connections"].as_u64().unwrap_or_default();
        }
        is_over.store(true, Ordering::Relaxed);
        // The last clients are in the queue of a socket that nobody serves.
        drop(socket);
    });
    let cut = cut.into_inner() as u64;
    assert!(
        cut <= named,
        "{cut} connections were cut off, {named} are told"
    );
}
