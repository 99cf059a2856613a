//! How many connections there may be, and how long one may say nothing.

use std::io::{ErrorKind, Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;

use crate::support::{
    Client, TestGateway, TestSimulator, captured_log, eventually, metrics, payment,
};

const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 5, 1);
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 5, 2);

fn sum(gateway: &TestGateway, name: &str) -> f64 {
    let text = String::from_utf8(gateway.admin("/metrics").body).expect("it is text");
    let scrape = metrics::parse(&text).expect("it is valid");
    scrape.sum(name, &[("listener", "0")])
}

fn await_connections(gateway: &TestGateway, count: f64) {
    eventually("so many connections", || {
        (sum(gateway, "gateway_server_connections") == count).then_some(())
    });
}

/// Whether the connection ended with a reset and without a word.
fn is_reset(client: &mut Client) -> bool {
    let read = client.read_some(&mut [0; 16]);
    read.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

#[test]
fn an_address_has_as_many_connections_as_it_may() {
    let simulator = TestSimulator::start();
    let gateway = TestGateway::builder()
        .simulator(&simulator)
        .listener("max_connections_per_address = 2")
        .start();
    let connect = |source| Client::connect_from(source, gateway.address());
    let (mut first, second) = (connect(FIRST), connect(FIRST));
    await_connections(&gateway, 2.0);
    for _ in 0..3 {
        assert!(is_reset(&mut connect(FIRST)));
    }
    let refused = "gateway_server_connections_refused_total";
    assert_eq!(sum(&gateway, refused), 3.0);
    let log = captured_log();
    let told = log.lines().filter(|line| {
        line.contains("max_connections_per_address") && line.contains(&FIRST.to_string())
    });
    assert_eq!(told.count(), 1, "once a second at most");

    let mut other = connect(SECOND);
    assert_eq!(other.exchange(payment("other")).status(), 200);
    assert_eq!(first.exchange(payment("first")).status(), 200);
    drop(second);
    await_connections(&gateway, 2.0);
    assert_eq!(connect(FIRST).exchange(payment("third")).status(), 200);
    assert_eq!(sum(&gateway, refused), 3.0);
    assert_eq!(
        sum(&gateway, "gateway_server_connections_accepted_total"),
        4.0
    );
}

#[test]
fn unix_sockets_have_no_bound_for_an_address() {
    let simulator = TestSimulator::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("gateway.sock");
    let gateway = TestGateway::builder()
        .simulator(&simulator)
        .tables(&format!(
            "[[listeners]]\naddress = \"unix:{}\"\nmax_connections_per_address = 1",
            path.display()
        ))
        .start();
    let clients: Vec<_> = (0..3)
        .map(|_| UnixStream::connect(&path).expect("it listens"))
        .collect();
    for mut client in clients {
        client.write_all(&payment("unix")).expect("it is open");
        let mut start = [0; 12];
        client.read_exact(&mut start).expect("an answer");
        assert_eq!(&start, b"HTTP/1.1 200");
    }
    drop(gateway);
}

#[test]
fn beyond_the_bound_a_connection_waits_until_one_ends() {
    let simulator = TestSimulator::start();
    let gateway = TestGateway::builder()
        .simulator(&simulator)
        .listener("max_connections = 2")
        .start();
    let (mut first, silent) = (gateway.connect(), gateway.connect());
    assert_eq!(first.exchange(payment("first")).status(), 200);
    await_connections(&gateway, 2.0);
    let mut waiting = gateway.connect();
    waiting.begin(payment("waiting"));
    assert_eq!(first.exchange(payment("again")).status(), 200);
    assert_eq!(
        sum(&gateway, "gateway_server_connections_accepted_total"),
        2.0
    );
    drop(silent);
    assert_eq!(waiting.answer().status(), 200);
}

#[test]
fn a_connection_that_says_nothing_ends_at_its_deadline() {
    let simulator = TestSimulator::start();
    let gateway = TestGateway::builder()
        .simulator(&simulator)
        .listener("idle_timeout = \"200ms\"")
        .start();
    let mut silent: Vec<_> = (0..20).map(|_| gateway.connect()).collect();
    for client in &mut silent {
        assert!(client.rest().is_empty(), "it ends without a word");
    }
    await_connections(&gateway, 0.0);
    assert!(gateway.stop().is_empty(), "none of them was a request");
}

#[test]
fn a_connection_that_said_nothing_for_a_while_is_served() {
    let simulator = TestSimulator::start();
    let gateway = TestGateway::before(&simulator);
    let mut silent: Vec<_> = (0..20).map(|_| gateway.connect()).collect();
    await_connections(&gateway, 20.0);
    for (number, client) in silent.iter_mut().enumerate() {
        let request = payment(&format!("late-{number}"));
        let (start, rest) = request.split_at(1);
        client.begin(&request[..0]);
        client.write(start);
        client.write(rest);
        assert_eq!(client.answer().status(), 200);
    }
}

#[test]
fn a_drain_ends_connections_that_say_nothing() {
    let simulator = TestSimulator::start();
    let mut gateway = TestGateway::before(&simulator);
    let mut silent: Vec<_> = (0..20).map(|_| gateway.connect()).collect();
    let mut late = gateway.connect();
    await_connections(&gateway, 21.0);
    gateway.begin_drain();
    eventually("failing readiness", || {
        (gateway.admin("/readyz").status() == 503).then_some(())
    });
    let answer = late.exchange(payment("late"));
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.field("connection"), "close");
    for client in &mut silent {
        assert!(client.rest().is_empty());
    }
    gateway.stop();
}
