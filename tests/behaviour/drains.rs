//! Promise 12: told to end, the gateway finishes what it has accepted.
//!
//! Accepted is every request that a client began to write on an open connection before it was told
//! `Connection: close` or saw the end of the stream.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use moden_gateway::simulator::{Fault, Times};

use crate::support::{
    Client, Message, ScriptedUpstream, TestGateway, TestSimulator, alone, eventually, payment,
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

#[test]
fn no_accepted_request_fails_when_the_end_comes_under_load() {
    let _alone = alone();
    let simulator = TestSimulator::start();
    let mut gateway = TestGateway::before(&simulator);
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
            (answered.load(Ordering::Relaxed) > 20 * CONNECTIONS).then_some(())
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
