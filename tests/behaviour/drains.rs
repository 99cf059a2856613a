//! Told to end, the gateway finishes what it has accepted.
//!
//! Accepted is every request that a client began to write on an open connection before it was told
//! `Connection: close` or saw the end of the stream.

mod signals;
mod stuck;
mod systemd;

use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, ErrorKind, PipeReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use moden_gateway::simulator::{Fault, Times};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::program::{Program, running_configuration, start_with};
use crate::support::{
    Client, ClosedPort, Message, ScriptedUpstream, TestGateway, TestSimulator, alone, eventually,
    in_parallel, payment, post, write_private,
};

const CONNECTIONS: usize = 64;

fn is_last(answer: &Message) -> bool {
    answer.all("connection").contains(&"close")
}

/// Pays again and again on one connection until told to stop; every payment must be answered.
fn keep_paying(address: SocketAddr, name: usize, answered: &AtomicUsize) {
    let mut client = Client::connect(address);
    for number in 0.. {
        let answer = client.exchange(payment(&format!("order-{name}-{number}")));
        assert_eq!(answer.status(), 200, "{answer:?}");
        assert_eq!(answer.outcome(), "answered");
        answered.fetch_add(1, Ordering::Relaxed);
        if is_last(&answer) {
            assert!(client.rest().is_empty());
            return;
        }
    }
}

/// Ends the gateway while all of [`CONNECTIONS`] pay, each having done so `least` times.
fn drain_under_load(simulator: &TestSimulator, mut gateway: TestGateway, least: usize) {
    let address = gateway.address();
    let answered = AtomicUsize::new(0);
    thread::scope(|scope| {
        for name in 0..CONNECTIONS {
            let answered = &answered;
            scope.spawn(move || keep_paying(address, name, answered));
        }
        // Open, silent, and about to speak in the middle of the drain.
        let silent: Vec<_> = (0..8).map(|_| gateway.connect()).collect();
        eventually("load", || {
            (answered.load(Ordering::Relaxed) > least * CONNECTIONS).then_some(())
        });
        gateway.begin_drain();
        for (number, mut client) in silent.into_iter().enumerate() {
            let answer = client.exchange(payment(&format!("late-order-{number}")));
            assert_eq!(answer.status(), 200, "{answer:?}");
            answered.fetch_add(1, Ordering::Relaxed);
        }
    });
    let lines = gateway.stop();
    let answered = answered.into_inner();
    assert_eq!(lines.len(), answered);
    assert!(lines.iter().all(|line| line["outcome"] == "answered"));
    let committed = simulator.control().committed_total();
    assert_eq!(usize::try_from(committed), Ok(answered));
}

#[test]
fn no_accepted_request_fails_when_the_end_comes_under_load() {
    let _alone = alone();
    let simulator = TestSimulator::start();
    let gateway = TestGateway::before(&simulator);
    drain_under_load(&simulator, gateway, 20);
}

#[test]
fn no_accepted_request_fails_when_the_end_comes_with_slow_answers_under_way() {
    let _alone = alone();
    let simulator = TestSimulator::start();
    let slow = Fault::Delay(Duration::from_millis(100));
    simulator.control().set_fault(slow, Times::Always);
    let gateway = TestGateway::builder()
        .simulator(&simulator)
        .server("drain_delay = \"300ms\"")
        .start();
    drain_under_load(&simulator, gateway, 2);
}

#[test]
fn everything_is_served_as_before_while_the_delay_lasts_and_then_nobody_new_is_let_in() {
    let _alone = alone();
    let simulator = TestSimulator::start();
    let mut gateway = TestGateway::builder()
        .simulator(&simulator)
        .server("drain_delay = \"2s\"")
        .start();
    let mut old = gateway.connect();
    assert_eq!(old.exchange(payment("order-1")).status(), 200);
    let begun = Instant::now();
    gateway.begin_drain();
    eventually("failing readiness", || {
        (gateway.admin("/readyz").body == b"draining\n").then_some(())
    });

    let answers = [
        old.exchange(payment("order-2")),
        gateway.exchange(payment("order-3")),
    ];
    for answer in answers {
        assert_eq!(answer.status(), 200, "{answer:?}");
        assert!(!is_last(&answer), "nobody is sent away: {answer:?}");
    }
    eventually("a closed listener", || {
        TcpStream::connect(gateway.address()).err().map(drop)
    });
    assert!(begun.elapsed() >= Duration::from_secs(2));
    assert_eq!(gateway.stop().len(), 3);
}

#[test]
fn a_slow_answer_under_way_is_finished_while_readiness_fails_and_nobody_new_is_let_in() {
    let simulator = TestSimulator::start();
    let control = simulator.control();
    control.set_fault(Fault::Delay(Duration::from_secs(1)), Times::Always);
    let mut gateway = TestGateway::before(&simulator);
    let mut client = gateway.connect();
    client.begin(payment("order-1"));
    eventually("the commit", || {
        (control.committed_total() == 1).then_some(())
    });

    gateway.begin_drain();
    eventually("failing readiness", || {
        let readiness = gateway.admin("/readyz");
        (readiness.status() == 503 && readiness.body == b"draining\n").then_some(())
    });
    assert_eq!(gateway.admin("/livez").status(), 200);
    eventually("a closed listener", || {
        TcpStream::connect(gateway.address()).err().map(drop)
    });

    let answer = client.answer();
    assert_eq!(answer.status(), 200);
    assert!(is_last(&answer), "{answer:?}");
    assert_eq!(gateway.stop()[0]["outcome"], "answered");
}

#[test]
fn a_long_answer_under_way_is_finished() {
    let _alone = alone();
    let simulator = TestSimulator::start();
    let control = simulator.control();
    control.set_fault(Fault::Large(16 << 20), Times::Always);
    let mut gateway = TestGateway::before(&simulator);
    let mut client = gateway.connect();
    client.begin(payment("order-1"));
    eventually("the commit", || {
        (control.committed_total() == 1).then_some(())
    });
    gateway.begin_drain();
    eventually("failing readiness", || {
        (gateway.admin("/readyz").status() == 503).then_some(())
    });
    assert_eq!(client.answer().body.len(), 16 << 20);
    assert_eq!(gateway.stop()[0]["outcome"], "answered");
}

#[test]
fn idle_connections_do_not_hold_up_the_end() {
    let simulator = TestSimulator::start();
    let gateway = TestGateway::before(&simulator);
    let mut used = gateway.connect();
    assert_eq!(used.exchange(payment("order-1")).status(), 200);
    let mut unused = gateway.connect();
    let begun = Instant::now();
    gateway.stop();
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    assert!(used.rest().is_empty());
    assert!(unused.rest().is_empty());
}

#[test]
fn what_does_not_end_in_time_is_cut_off_counted_and_logged_as_unknown() {
    let upstream = ScriptedUpstream::start(|mut conversation| {
        conversation.request();
        conversation.listen();
    });
    let gateway = TestGateway::builder()
        .scripted(&upstream)
        .server("drain_timeout = \"200ms\"")
        .start();
    let mut client = gateway.connect();
    client.begin(payment("order-1"));
    eventually("the request at the upstream", || upstream.requests().pop());
    let (report, lines) = gateway.stop_anyhow();
    assert!(report.unfinished > 0);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["request_id"], "order-1");
    assert_eq!(lines[0]["outcome"], "unknown");
    assert!(client.try_answer().is_err());
}

#[test]
fn a_connection_that_was_idle_for_long_still_gets_its_answer_when_the_drain_begins() {
    let _alone = alone();
    let simulator = TestSimulator::start();
    let mut gateway = TestGateway::before(&simulator);
    let mut used = gateway.connect();
    assert_eq!(used.exchange(payment("order-0")).status(), 200);
    let unused = gateway.connect();
    // Longer than a drain waits for an idle connection to speak.
    thread::sleep(Duration::from_millis(1500));
    gateway.begin_drain();
    eventually("the end of the listener", || {
        TcpStream::connect(gateway.address()).err().map(drop)
    });
    for (mut client, order) in [(used, "order-1"), (unused, "order-2")] {
        client.begin(payment(order));
        let answer = client.try_answer();
        let answer = answer.unwrap_or_else(|cut| panic!("{order} was not answered: {cut:?}"));
        assert_eq!(answer.status(), 200, "{answer:?}");
        assert_eq!(answer.outcome(), "answered");
        assert!(is_last(&answer), "{answer:?}");
        assert!(client.rest().is_empty());
    }
    assert_eq!(gateway.stop().len(), 3);
    assert_eq!(simulator.control().committed_total(), 3);
}

/// How long the program may take from SIGTERM to its end: `drain_timeout`, and a little for last
/// words that nobody hears.
const FEW_SECONDS: Duration = Duration::from_secs(8);

/// Writes a configuration for the binary in front of `base_url`.
fn configure(base_url: &str, access_log: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = running_configuration(base_url);
    let text = text.replace("[server]\n", "[server]\ndrain_timeout = \"2s\"\n");
    let text = format!("{text}[access_log]\noutput = \"{access_log}\"\n");
    write_private(&folder.path().join("gateway.toml"), &text);
    folder
}

const RUN: [&str; 3] = ["run", "--config", "gateway.toml"];

/// The address in the line that says where the program listens.
fn address_in(line: &str) -> SocketAddr {
    let line: Value = serde_json::from_str(line).expect("a line of JSON");
    let address = line["address"].as_str().expect("the address as bound");
    address.parse().expect("a TCP address")
}

/// Writes into a pipe until it takes nothing more.
fn fill(pipe: &PipeReader) {
    // Opened anew, since the program must not find its own end in non-blocking mode.
    let path = format!("/proc/self/fd/{}", pipe.as_raw_fd());
    let writer = OpenOptions::new().write(true).open(path);
    let mut writer = writer.expect("the pipe is open");
    rustix::io::ioctl_fionbio(&writer, true).expect("a pipe");
    for piece in ["\n".repeat(4096), "\n".to_owned()] {
        let full = loop {
            if let Err(error) = writer.write_all(piece.as_bytes()) {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
    }
}

#[track_caller]
fn assert_ends_by_sigterm(mut program: Program, code: i32) {
    program.signal(Signal::TERM);
    let ended = program.end_within(FEW_SECONDS);
    let ended = ended.unwrap_or_else(|| panic!("it still runs {FEW_SECONDS:?} after SIGTERM"));
    assert_eq!(ended.code(), Some(code), "{ended}");
}

#[test]
fn a_stdout_that_nobody_reads_holds_up_neither_requests_nor_the_end() {
    let _alone = alone();
    let upstream = ScriptedUpstream::start(|mut conversation| {
        while conversation.request().is_some() {
            conversation.answer("{}");
        }
    });
    let folder = configure(&upstream.base_url(), "stdout");
    let (unread, stdout) = io::pipe().expect("a pipe");
    fill(&unread);
    let mut program = start_with(folder.path(), &RUN, &[], stdout, Stdio::piped());
    let address = address_in(&program.stderr.until("\"listening\""));
    program.stderr.until("the credential is loaded");

    // Some 4 MB of lines: more than the program keeps for a slow reader.
    let path = format!("/pay/{}", "x".repeat(8000));
    let mut client = Client::connect(address);
    for number in 0..500 {
        let answer = client.exchange(post(&path, &[], "{}"));
        assert_eq!(answer.status(), 200, "request {number}: {answer:?}");
        assert_eq!(answer.outcome(), "answered");
    }
    assert_ends_by_sigterm(program, 0);
    drop(unread);
}

/// Starts the gateway with a stderr that is read until it serves, and never again; the pipe is
/// full then.
fn start_with_deaf_stderr(folder: &TempDir) -> (Program, SocketAddr, BufReader<PipeReader>) {
    let (reader, stderr) = io::pipe().expect("a pipe");
    let program = start_with(folder.path(), &RUN, &[], Stdio::null(), stderr);
    let mut unread = BufReader::new(reader);
    let mut until = |text: &str| {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            let read = unread.read_line(&mut line).expect("the program speaks");
            assert!(read > 0, "it ended without {text}");
        }
        line
    };
    let address = address_in(&until("\"listening\""));
    until("the credential is loaded");
    fill(unread.get_ref());
    (program, address, unread)
}

#[test]
fn a_stderr_that_nobody_reads_holds_up_neither_requests_nor_the_end() {
    let _alone = alone();
    let nobody = ClosedPort::bind();
    let folder = configure(&nobody.base_url(), "off");
    let file = folder.path().join("gateway.toml");
    let text = std::fs::read_to_string(&file).expect("it was written");
    write_private(&file, &format!("{text}[upstream]\nbreaker = \"off\"\n"));
    let (program, address, unread) = start_with_deaf_stderr(&folder);

    // Each leaves a warning: more of them than the program keeps for a slow reader.
    in_parallel(4, 4, |_| {
        let mut client = Client::connect(address);
        for number in 0..1500 {
            client.begin(payment(&format!("order-{number}")));
            let answer = client.try_answer();
            let answer = answer.unwrap_or_else(|cut| panic!("request {number}: {cut:?}"));
            assert_eq!(answer.code(), "upstream-unreachable");
            assert_eq!(answer.outcome(), "not-sent");
        }
    });
    assert_ends_by_sigterm(program, 0);
    drop(unread);
}

#[test]
fn a_drain_that_is_given_up_ends_though_nobody_reads_stderr() {
    let _alone = alone();
    let upstream = ScriptedUpstream::start(|mut conversation| {
        conversation.request();
        conversation.listen();
    });
    let folder = configure(&upstream.base_url(), "off");
    let (program, address, unread) = start_with_deaf_stderr(&folder);
    let mut client = Client::connect(address);
    client.begin(payment("order-without-answer"));
    eventually("the request at the upstream", || upstream.requests().pop());
    assert_ends_by_sigterm(program, 70);
    drop(unread);
}
