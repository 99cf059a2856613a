//! The access log: one JSON line a request, the same fields in the same order, and nothing that a
//! peer sends can break it.

use moden_gateway::simulator::{Fault, Times};
use serde_json::{Map, Value};

use crate::support::{ScriptedUpstream, TestGateway, TestSimulator, payment, post};

/// Replaces what differs from run to run by its form, after checking that form.
fn redacted(line: &Value) -> String {
    let line = line.as_object().expect("an object");
    let redacted: Map<_, _> = line
        .iter()
        .map(|(key, value)| (key.clone(), redact(key, value)))
        .collect();
    serde_json::to_string_pretty(&redacted).expect("JSON")
}

fn redact(key: &str, value: &Value) -> Value {
    let text = value.as_str().unwrap_or_default();
    match key {
        "ts" => {
            assert_eq!(text.len(), "2026-09-21T14:13:20.007Z".len(), "{text}");
            assert!(text.ends_with('Z'), "{text}");
            "[time]".into()
        }
        "exchange_id" => {
            assert_eq!(
                text.parse::<uuid::Uuid>().map(|id| id.get_version_num()),
                Ok(7)
            );
            "[uuid]".into()
        }
        // Not the client's own.
        "request_id" if text != "abc" => {
            assert!(text.parse::<uuid::Uuid>().is_ok(), "{text}");
            "[uuid]".into()
        }
        "peer" | "listener" => {
            assert!(text.starts_with("127.0.0.1:"), "{text}");
            "[address]".into()
        }
        "duration_ms" | "upstream_ms" => {
            assert!(
                value.as_f64().is_some_and(|millis| millis >= 0.0),
                "{value}"
            );
            "[milliseconds]".into()
        }
        _ => value.clone(),
    }
}

/// The line of one request.
fn line_of(gateway: TestGateway, request: &[u8]) -> String {
    gateway.exchange(request);
    let lines = gateway.stop();
    assert_eq!(lines.len(), 1);
    redacted(&lines[0])
}

#[test]
fn the_line_of_a_success() {
    let simulator = TestSimulator::start();
    let request = post("/pay/inquire/wallet?q=1", &[("X-Request-Id", "abc")], "");
    insta::assert_snapshot!(line_of(TestGateway::before(&simulator), &request));
}

#[test]
fn the_line_of_a_refusal_of_ours() {
    let simulator = TestSimulator::start();
    let request = post("/pay/../gateway", &[("X-Request-Id", "abc")], "");
    insta::assert_snapshot!(line_of(TestGateway::before(&simulator), &request));
}

#[test]
fn the_line_of_a_refusal_of_moden_s() {
    let simulator = TestSimulator::start();
    let fields = [
        ("X-Request-Id", "abc"),
        ("Content-Type", "application/json"),
    ];
    let request = post("/pay/gateway", &fields, "{\"coin\":\"USDT\"}");
    insta::assert_snapshot!(line_of(TestGateway::before(&simulator), &request));
}

#[test]
fn the_line_of_an_exchange_without_an_answer() {
    let simulator = TestSimulator::start();
    let control = simulator.control();
    control.set_fault(Fault::LostAfterCommit, Times::Always);
    insta::assert_snapshot!(line_of(TestGateway::before(&simulator), &payment("abc")));
}

#[test]
fn the_line_of_what_is_no_request() {
    let simulator = TestSimulator::start();
    let request = "POST /pay/gateway HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\
                   Transfer-Encoding: chunked\r\n\r\n";
    let gateway = TestGateway::before(&simulator);
    insta::assert_snapshot!(line_of(gateway, request.as_bytes()));
}

#[test]
fn the_line_says_what_was_malformed() {
    let simulator = TestSimulator::start();
    let cases: [(&str, &str); 7] = [
        ("POST /pay/a HTTP/1.1\nHost: a\r\n\r\n", "bare-line-feed"),
        ("POST /pay/a HTTP/1.1\r\nHost: a\0\r\n\r\n", "character"),
        ("POST /pay/a HTTP/2.0\r\nHost: a\r\n\r\n", "version"),
        ("POST /pay/a HTTP/1.1\r\n\r\n", "host"),
        ("POST * HTTP/1.1\r\nHost: a\r\n\r\n", "target"),
        (
            "POST /pay/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            "body-incomplete",
        ),
        (
            "POST /pay/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "unknown-coding",
        ),
    ];
    for (request, reason) in cases {
        let gateway = TestGateway::before(&simulator);
        gateway.exchange(request.as_bytes());
        let lines = gateway.stop();
        assert_eq!(lines.len(), 1, "{request:?}");
        assert_eq!(lines[0]["reason"], reason, "{request:?}");
    }
}

#[test]
fn the_line_of_a_slow_head_counts_from_where_it_began() {
    let simulator = TestSimulator::start();
    let gateway = TestGateway::builder()
        .simulator(&simulator)
        .listener("header_timeout = \"300ms\"")
        .start();
    let mut client = gateway.connect();
    client.begin("POST /pay/gateway HTTP/1.1\r\nHost: ");
    assert_eq!(client.answer().status(), 408);
    let lines = gateway.stop();
    assert_eq!(lines[0]["reason"], "head-late");
    let took = lines[0]["duration_ms"].as_f64().expect("a number");
    assert!((300.0..5_000.0).contains(&took), "{took}");
}

#[test]
fn what_is_malformed_in_a_way_that_people_do_is_named() {
    let simulator = TestSimulator::start();
    let gateway = TestGateway::before(&simulator);
    let answer = gateway.exchange("POST pay/gateway HTTP/1.1\r\nHost: a\r\n\r\n");
    let detail = answer.json()["detail"].to_string();
    assert!(detail.contains("begin with /"), "{detail}");
    let answer = gateway.exchange(&b"\x16\x03\x01\x02\x00\x01\x00"[..]);
    let detail = answer.json()["detail"].to_string();
    assert!(detail.contains("TLS"), "{detail}");
    assert_eq!(gateway.stop()[1]["reason"], "tls");
}

#[test]
fn the_second_request_of_a_client_goes_by_a_proven_connection() {
    let simulator = TestSimulator::start();
    let gateway = TestGateway::before(&simulator);
    let mut client = gateway.connect();
    for number in 0..2 {
        client.exchange(payment(&format!("order-{number}")));
    }
    let lines = gateway.stop();
    assert_eq!(lines[0]["connection"], "new");
    assert_eq!(lines[1]["connection"], "reused");
    assert_eq!(lines[0]["peer"], lines[1]["peer"]);
    assert_ne!(lines[0]["exchange_id"], lines[1]["exchange_id"]);
}

#[test]
fn nothing_a_peer_sends_breaks_or_forges_a_line() {
    let upstream = ScriptedUpstream::start(|mut conversation| {
        if conversation.request().is_some() {
            conversation.say(
                "HTTP/1.1 412 x\r\nContent-Length: 44\r\n\r\n\
                 {\"code\":1,\"message\":\"\\n{\\\"outcome\\\":\\\"x\\\"}\"   }",
            );
        }
    });
    let gateway = TestGateway::builder().scripted(&upstream).start();
    let forged = "abc\",\"outcome\":\"answered";
    let hostile: [&[u8]; 7] = [
        b"POST /pay/a\"},{\"ts\":1} HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /pay/a\\\"b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /pay/%0a%0dERROR HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /pay/\xc3\xa9\xf0\x9f\x98\x80 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PO\"ST /pay/gateway HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /pay/gateway HTTP/1.1\r\nHost: a\r\nX-Request-Id: \xff\xfe\r\n\r\n",
        b"POST /pay/gateway HTTP/1.1\r\nHost: a\r\nUser-Agent: \x1b[2J\r\n\r\n",
    ];
    let mut requests: Vec<_> = hostile.map(<[u8]>::to_vec).into();
    requests.push(post("/pay/gateway", &[("X-Request-Id", forged)], "{}"));
    let mut decorated = 0;
    for request in requests {
        let answer = gateway.exchange(request);
        decorated += usize::from(!answer.all("gateway-outcome").is_empty());
    }
    let text = {
        gateway.await_log_lines(decorated);
        gateway.log_text()
    };
    assert!(decorated >= 4, "hardly anything was a request");
    assert!(
        text.bytes()
            .all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte))
    );
    let lines = gateway.stop();
    assert_eq!(lines.len(), decorated);
    for line in lines {
        assert!(!line.to_string().contains("forged"));
        assert_eq!(line["ts"].as_str().map(str::len), Some(24));
        let id = line["request_id"].as_str().expect("an id");
        assert_eq!(id.len(), 36, "{id:?} was taken over");
    }
}
