//! The upstream's certificate is always verified, and not a byte of a request leaves before.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::thread;

use moden_gateway::domain::Environment;
use moden_gateway::simulator::SimulatorOptions;

use crate::support::{ClosedPort, Message, ScriptedUpstream, TestGateway, TestSimulator, payment};

fn simulator_with_tls(address: Ipv4Addr) -> TestSimulator {
    TestSimulator::start_with(SimulatorOptions {
        address: SocketAddr::from((address, 0)),
        tls: true,
        ..SimulatorOptions::default()
    })
}

fn ca_pem(simulator: &TestSimulator) -> &str {
    simulator.ca_pem().expect("it speaks TLS")
}

#[track_caller]
fn assert_unreachable(answer: &Message, error: &str) {
    assert_eq!(answer.status(), 502, "{answer:?}");
    assert_eq!(answer.code(), "upstream-unreachable");
    assert_eq!(answer.outcome(), "not-sent");
    let expected = format!("moden-gateway; error={error}");
    assert_eq!(answer.field("proxy-status"), expected);
}

#[test]
fn an_upstream_whose_authority_is_trusted_is_served_over_tls() {
    let simulator = simulator_with_tls(Ipv4Addr::LOCALHOST);
    let port = simulator.address().port();
    for host in ["127.0.0.1", "localhost"] {
        let gateway = TestGateway::builder()
            .base_url(format!("https://{host}:{port}/pay/sandbox"))
            .ca_file(ca_pem(&simulator))
            .start();
        let mut client = gateway.connect();
        for number in 0..3 {
            let answer = client.exchange(payment(&format!("{host}-{number}")));
            assert_eq!(answer.status(), 200, "{host}");
        }
        let lines = gateway.stop();
        assert_eq!(lines[2]["connection"], "reused", "TLS connections are kept");
    }
    assert_eq!(simulator.control().committed_total(), 6);
}

#[test]
fn an_upstream_whose_authority_nobody_trusts_is_sent_nothing() {
    let simulator = simulator_with_tls(Ipv4Addr::LOCALHOST);
    let gateway = TestGateway::builder().simulator(&simulator).start();
    let answer = gateway.exchange(payment("order-1"));
    assert_unreachable(&answer, "tls_certificate_error");
    assert_eq!(gateway.stop()[0]["outcome"], "not-sent");
    assert_eq!(simulator.control().request_count(), 0);
}

#[test]
fn an_upstream_with_the_authority_of_somebody_else_is_sent_nothing() {
    let simulator = simulator_with_tls(Ipv4Addr::LOCALHOST);
    let other = simulator_with_tls(Ipv4Addr::LOCALHOST);
    let gateway = TestGateway::builder()
        .simulator(&simulator)
        .ca_file(ca_pem(&other))
        .start();
    let answer = gateway.exchange(payment("order-1"));
    assert_unreachable(&answer, "tls_certificate_error");
    drop(gateway);
    assert_eq!(simulator.control().request_count(), 0);
}

#[test]
fn an_upstream_whose_certificate_is_for_another_name_is_sent_nothing() {
    // The certificate names 127.0.0.1, not this address.
    let simulator = simulator_with_tls(Ipv4Addr::new(127, 0, 0, 2));
    let gateway = TestGateway::builder()
        .simulator(&simulator)
        .ca_file(ca_pem(&simulator))
        .start();
    let answer = gateway.exchange(payment("order-1"));
    assert_unreachable(&answer, "tls_certificate_error");
    drop(gateway);
    assert_eq!(simulator.control().request_count(), 0);
}

#[test]
fn an_upstream_that_speaks_no_tls_is_sent_not_one_byte_of_http() {
    let upstream = ScriptedUpstream::start(|mut conversation| {
        conversation.say("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        conversation.listen();
    });
    let gateway = TestGateway::builder()
        .base_url(format!("https://{}/pay/sandbox", upstream.address()))
        .start();
    let answer = gateway.exchange(payment("order-1"));
    assert_unreachable(&answer, "tls_protocol_error");
    drop(gateway);
    for received in upstream.fragments() {
        let text = String::from_utf8_lossy(&received).into_owned();
        assert!(
            !text.contains("HTTP/1.1") && !text.contains("Basic"),
            "{text}"
        );
    }
}

#[test]
fn an_upstream_that_never_shakes_hands_is_given_up_with_nothing_sent() {
    let upstream = ScriptedUpstream::start(|mut conversation| conversation.listen());
    let gateway = TestGateway::builder()
        .base_url(format!("https://{}/pay/sandbox", upstream.address()))
        .upstream("tls_timeout = \"200ms\"")
        .start();
    let answer = gateway.exchange(payment("order-1"));
    assert_eq!(answer.status(), 504);
    assert_eq!(answer.code(), "upstream-timeout");
    assert_eq!(answer.outcome(), "not-sent");
    assert_eq!(
        answer.field("proxy-status"),
        "moden-gateway; error=connection_timeout"
    );
}

#[test]
fn a_name_that_does_not_resolve_is_sent_nothing() {
    let gateway = TestGateway::builder()
        .base_url("https://no-such-host.invalid/pay/sandbox")
        .upstream("connect_timeout = \"500ms\"")
        .start();
    let answer = gateway.exchange(payment("order-1"));
    assert_eq!(answer.outcome(), "not-sent");
    // Where no name server answers at all, waiting for one ends first.
    assert!(["upstream-unreachable", "upstream-timeout"].contains(&answer.code().as_str()));
}

/// An egress proxy that opens a tunnel wherever it is asked to.
fn egress_proxy() -> ScriptedUpstream {
    ScriptedUpstream::start(|mut conversation| {
        let Some(request) = conversation.request() else {
            return;
        };
        let origin = TcpStream::connect(request.target()).expect("the origin listens");
        conversation.say("HTTP/1.1 200 Connection established\r\n\r\n");
        let client = conversation.socket();
        thread::scope(|scope| {
            scope.spawn(|| pump(client, &origin));
            pump(&origin, client);
        });
    })
}

/// Copies until one side ends, and passes the end on.
fn pump(mut from: &TcpStream, mut to: &TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

#[test]
fn an_egress_proxy_carries_tls_to_moden_and_sees_nothing_of_it() {
    let simulator = simulator_with_tls(Ipv4Addr::LOCALHOST);
    let proxy = egress_proxy();
    let gateway = TestGateway::builder()
        .simulator(&simulator)
        .ca_file(ca_pem(&simulator))
        .upstream(&format!("proxy = \"http://{}\"", proxy.address()))
        .start();
    let mut client = gateway.connect();
    for number in 0..3 {
        let answer = client.exchange(payment(&format!("order-{number}")));
        assert_eq!(answer.status(), 200, "{answer:?}");
    }
    drop(gateway);
    assert_eq!(simulator.control().orders(Environment::Sandbox).len(), 3);
    let requests = proxy.requests();
    assert_eq!(requests.len(), 1, "one tunnel serves them all");
    let expected = format!("CONNECT {} HTTP/1.1", simulator.address());
    assert_eq!(requests[0].start_line, expected);
    assert!(requests[0].all("authorization").is_empty());
    assert!(requests[0].all("proxy-authorization").is_empty());
}

#[test]
fn an_egress_proxy_that_refuses_leaves_moden_without_a_byte() {
    let simulator = simulator_with_tls(Ipv4Addr::LOCALHOST);
    let refusals = [
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n",
        "",
    ];
    for refusal in refusals {
        let proxy = ScriptedUpstream::start(move |mut conversation| {
            conversation.request();
            conversation.say(refusal);
            conversation.close();
        });
        let gateway = TestGateway::builder()
            .simulator(&simulator)
            .ca_file(ca_pem(&simulator))
            .upstream(&format!("proxy = \"http://{}\"", proxy.address()))
            .start();
        let answer = gateway.exchange(payment("order-1"));
        assert_unreachable(&answer, "destination_unavailable");
    }
    assert_eq!(simulator.control().request_count(), 0);
}

#[test]
fn an_egress_proxy_that_is_not_there_is_not_gone_around() {
    let simulator = simulator_with_tls(Ipv4Addr::LOCALHOST);
    let nobody = ClosedPort::bind();
    let gateway = TestGateway::builder()
        .simulator(&simulator)
        .ca_file(ca_pem(&simulator))
        .upstream(&format!("proxy = \"http://{}\"", nobody.address()))
        .start();
    let answer = gateway.exchange(payment("order-1"));
    assert_unreachable(&answer, "connection_refused");
    drop(gateway);
    assert_eq!(simulator.control().request_count(), 0);
}
