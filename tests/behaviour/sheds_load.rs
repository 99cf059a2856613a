//! A full process turns new requests away before they cost anything, and keeps what it has begun.

use std::sync::{Arc, Condvar, Mutex};

use serde_json::Value;

use crate::support::{
    Client, Message, PATIENCE, ScriptedUpstream, TestGateway, captured_log, eventually, payment,
    post,
};

const KIB: usize = 1024;

/// Holds scripts back until so many may go on.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<usize>, Condvar)>);

impl Gate {
    fn let_through(&self, count: usize) {
        let (open, changed) = &*self.0;
        *open.lock().expect("no panic") += count;
        changed.notify_all();
    }

    fn pass(&self) {
        let (open, changed) = &*self.0;
        let open = open.lock().expect("no panic");
        let is_closed = |open: &mut usize| *open == 0;
        let waited = changed.wait_timeout_while(open, PATIENCE, is_closed);
        let (mut open, _) = waited.expect("no panic");
        *open = open.saturating_sub(1);
    }
}

/// An upstream that begins each answer at once, and ends it when the gate lets it through.
fn hesitant(gate: &Gate, beginning: impl Into<String>, end: impl Into<String>) -> ScriptedUpstream {
    let (gate, beginning, end) = (gate.clone(), beginning.into(), end.into());
    ScriptedUpstream::start(move |mut conversation| {
        while conversation.request().is_some() {
            conversation.say(&beginning);
            gate.pass();
            conversation.say(&end);
        }
    })
}

const FINE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

fn load(gateway: &TestGateway) -> Value {
    gateway.admin("/status").json()["load"].clone()
}

fn await_load(gateway: &TestGateway, key: &str, number: usize) {
    eventually(&format!("{key} to be {number}"), || {
        (load(gateway)[key] == number).then_some(())
    });
}

#[track_caller]
fn assert_shed(answer: &Message) {
    assert_eq!(answer.status(), 503, "{answer:?}");
    assert_eq!(answer.code(), "overloaded");
    assert_eq!(answer.outcome(), "not-sent");
    assert_eq!(answer.field("retry-after"), "1");
    let status = answer.field("proxy-status");
    assert_eq!(status, "moden-gateway; error=http_request_denied");
}

/// How many requests were turned away for this reason, as `/metrics` tells it.
fn shed(gateway: &TestGateway, reason: &str) -> u64 {
    let text = String::from_utf8(gateway.admin("/metrics").body).expect("metrics are text");
    let line = text
        .lines()
        .filter(|line| line.starts_with("gateway_proxy_shed_requests_total{"))
        .find(|line| line.contains(&format!("reason=\"{reason}\"")));
    let value = line.and_then(|line| line.rsplit(' ').next());
    value.expect("it is there").parse().expect("a count")
}

/// A POST of which only the first bytes of its body have come.
fn slow_post(gateway: &TestGateway, announced: Option<usize>) -> Client {
    let framing = match announced {
        Some(length) => format!("Content-Length: {length}\r\n\r\nx"),
        None => "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n".to_owned(),
    };
    let mut client = gateway.connect();
    client.begin(format!(
        "POST /pay/gateway HTTP/1.1\r\nHost: gateway.test\r\n{framing}"
    ));
    client
}

#[test]
fn one_request_too_many_is_shed_and_the_next_is_served_when_one_has_ended() {
    let gate = Gate::default();
    let upstream = hesitant(&gate, "", FINE);
    let gateway = TestGateway::builder()
        .scripted(&upstream)
        .server("max_in_flight = 2")
        .start();
    let mut running: Vec<_> = (0..2).map(|_| gateway.connect()).collect();
    for (number, client) in running.iter_mut().enumerate() {
        client.begin(payment(&format!("running-{number}")));
    }
    await_load(&gateway, "in_flight", 2);
    eventually("both requests at MODEN", || {
        (upstream.requests().len() == 2).then_some(())
    });

    let mut third = gateway.connect();
    for _ in 0..3 {
        let answer = third.exchange(payment("third"));
        assert_shed(&answer);
        assert!(answer.all("connection").is_empty(), "it may come again");
    }
    assert_eq!(upstream.connection_count(), 2, "nobody was connected to");
    assert_eq!(shed(&gateway, "in_flight"), 3);
    assert_eq!(load(&gateway)["max_in_flight"], 2);

    gate.let_through(1);
    await_load(&gateway, "in_flight", 1);
    gate.let_through(2);
    assert_eq!(third.exchange(payment("fourth")).status(), 200);
    for client in &mut running {
        assert_eq!(client.answer().outcome(), "answered");
    }
    drop((running, third));
    await_load(&gateway, "in_flight", 0);
    let lines = gateway.stop();
    let shed = lines.iter().filter(|line| line["code"] == "overloaded");
    assert_eq!(shed.count(), 3);
    assert_eq!(upstream.requests().len(), 3);
}

#[test]
fn what_is_shed_takes_nothing_of_any_limit() {
    let gate = Gate::default();
    let upstream = hesitant(&gate, "", FINE);
    let gateway = TestGateway::builder()
        .scripted(&upstream)
        .server("max_in_flight = 1")
        .tables("[[limits]]\nname = \"hourly\"\nrequests = 3\nperiod = \"1h\"")
        .start();
    let mut first = gateway.connect();
    first.begin(payment("first"));
    await_load(&gateway, "in_flight", 1);
    for _ in 0..5 {
        let answer = gateway.exchange(payment("shed"));
        assert_shed(&answer);
        assert!(answer.all("ratelimit").is_empty(), "no policy was asked");
    }
    gate.let_through(2);
    assert_eq!(first.answer().field("ratelimit"), "\"hourly\";r=2;t=1200");
    await_load(&gateway, "in_flight", 0);
    let second = gateway.exchange(payment("second"));
    assert!(second.field("ratelimit").starts_with("\"hourly\";r=1;"));
}

/// The room of a body is taken before its first byte: as much as it announces, or the most that is
/// held of one that announces nothing.
#[test]
fn bodies_that_come_slowly_leave_no_room_for_more() {
    let gate = Gate::default();
    gate.let_through(100);
    let upstream = hesitant(&gate, "", FINE);
    let gateway = TestGateway::builder()
        .scripted(&upstream)
        .server("max_held_bytes = \"100KiB\"")
        .start();
    let slow = slow_post(&gateway, Some(60 * KIB));
    await_load(&gateway, "held_bytes", 60 * KIB);
    assert_shed(&slow_post(&gateway, Some(41 * KIB)).answer());
    assert_shed(&slow_post(&gateway, None).answer());
    assert_eq!(shed(&gateway, "held_bytes"), 2);
    assert_eq!(upstream.connection_count(), 0);
    // What fits is served all the while, and what is streamed is not held.
    let fits = "x".repeat(40 * KIB);
    assert_eq!(
        gateway.exchange(post("/pay/gateway", &[], &fits)).status(),
        200
    );
    let streamed = "x".repeat(200 * KIB);
    assert_eq!(
        gateway
            .exchange(post("/pay/gateway", &[], &streamed))
            .status(),
        200
    );
    await_load(&gateway, "held_bytes", 60 * KIB);

    drop(slow);
    await_load(&gateway, "held_bytes", 0);
    await_load(&gateway, "in_flight", 0);
    let mut chunked = slow_post(&gateway, None);
    await_load(&gateway, "held_bytes", 64 * KIB);
    chunked.write("0\r\n\r\n");
    assert_eq!(chunked.answer().status(), 200);
    await_load(&gateway, "held_bytes", 0);
}

#[test]
fn answers_are_held_whole_in_any_case_and_keep_new_requests_out() {
    let gate = Gate::default();
    let (beginning, end) = ("a".repeat(40 * KIB), "b".repeat(20 * KIB));
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 60 * KIB);
    let upstream = hesitant(&gate, head + &beginning, end.clone());
    let gateway = TestGateway::builder()
        .scripted(&upstream)
        .server("max_held_bytes = \"64KiB\"")
        .start();
    let mut clients: Vec<_> = (0..2).map(|_| gateway.connect()).collect();
    for client in &mut clients {
        client.begin(post("/pay/gateway", &[], ""));
    }
    await_load(&gateway, "held_bytes", 80 * KIB);
    assert_shed(&gateway.exchange(post("/pay/gateway", &[], "")));
    gate.let_through(2);
    for client in &mut clients {
        let answer = client.answer();
        assert_eq!(answer.outcome(), "answered");
        assert!(answer.body == [beginning.as_bytes(), end.as_bytes()].concat());
    }
    drop(clients);
    await_load(&gateway, "held_bytes", 0);
}

#[test]
fn the_log_is_told_once_that_requests_are_shed() {
    let gateway = TestGateway::builder()
        .base_url("http://127.0.0.1:9/pay/sandbox")
        .server("max_held_bytes = \"64KiB\"")
        .start();
    let slow = slow_post(&gateway, None);
    await_load(&gateway, "held_bytes", 64 * KIB);
    for number in 0..20 {
        let id = format!("told-once-{number}");
        let answer = gateway.exchange(post("/pay/gateway", &[("X-Request-Id", &id)], "{}"));
        assert_shed(&answer);
    }
    let log = captured_log();
    assert!(log.contains("requests are turned away"), "it is told");
    assert!(!log.contains("told-once-"), "and not of each");
    drop(slow);
}
