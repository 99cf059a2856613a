//! Every reply and every log line says what became of the request, and it is true.
//!
//! Each case is tried a thousand times against an upstream that is killed at one exact point; what
//! else an upstream can do, once each, stands in `survives_faults`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::{
    ClosedPort, Conversation, Cut, Message, ScriptedUpstream, TestGateway, alone, in_parallel,
    payment,
};

const TRIES: usize = 1000;
const CONCURRENCY: usize = 16;

/// What every try of a case must end in.
struct Expected {
    status: u16,
    code: Option<&'static str>,
    outcome: &'static str,
}

/// A gateway that goes on sending however much fails.
fn before(upstream: &ScriptedUpstream) -> TestGateway {
    TestGateway::builder()
        .scripted(upstream)
        .without_breaker()
        .start()
}

/// Sends a thousand payments, each on a connection of its own, and holds every reply and every
/// log line against `expected`.
fn try_a_thousand_times(gateway: TestGateway, expected: &Expected) {
    let answers = in_parallel(CONCURRENCY, TRIES, |number| {
        gateway.exchange(payment(&format!("try-{number}")))
    });
    for (number, answer) in answers.iter().enumerate() {
        assert_eq!(answer.status(), expected.status, "{answer:?}");
        assert_eq!(answer.outcome(), expected.outcome);
        assert_eq!(answer.field("x-request-id"), format!("try-{number}"));
        if let Some(code) = expected.code {
            assert_eq!(answer.code(), code);
        }
    }
    let lines = by_request_id(gateway.stop());
    assert_eq!(lines.len(), TRIES, "one line a request");
    for line in lines.values() {
        assert_eq!(line["outcome"], expected.outcome);
        assert_eq!(line["status"], expected.status);
        assert_eq!(line.get("code").and_then(Value::as_str), expected.code);
    }
}

fn by_request_id(lines: Vec<Value>) -> BTreeMap<String, Value> {
    let count = lines.len();
    let by_id: BTreeMap<_, _> = lines
        .into_iter()
        .map(|line| (line["request_id"].as_str().expect("an id").to_owned(), line))
        .collect();
    assert_eq!(by_id.len(), count, "a request has two lines");
    by_id
}

/// Every request arrived once: none was lost and none came twice.
fn assert_each_arrived_once(upstream: &ScriptedUpstream) {
    let mut ids: Vec<_> = upstream
        .requests()
        .iter()
        .map(|request| request.field("x-request-id").to_owned())
        .collect();
    ids.sort_unstable();
    let count = ids.len();
    ids.dedup();
    assert_eq!((count, ids.len()), (TRIES, TRIES), "arrivals, and requests");
    assert!(
        upstream.fragments().is_empty(),
        "something was sent besides"
    );
}

/// Reads a request, says `words`, and ends by a reset or in order, turn about.
fn killed_after(words: &'static str) -> ScriptedUpstream {
    ScriptedUpstream::start(move |mut conversation| {
        if conversation.request().is_none() {
            return;
        }
        conversation.say(words);
        end(conversation);
    })
}

fn end(conversation: Conversation) {
    if conversation.number.is_multiple_of(2) {
        conversation.reset();
    } else {
        conversation.close();
    }
}

#[test]
fn an_upstream_that_is_gone_before_the_connection_was_sent_nothing() {
    let _alone = alone();
    let nobody = ClosedPort::bind();
    let gateway = TestGateway::builder()
        .base_url(nobody.base_url())
        .without_breaker()
        .start();
    let expected = Expected {
        status: 502,
        code: Some("upstream-unreachable"),
        outcome: "not-sent",
    };
    try_a_thousand_times(gateway, &expected);
}

#[test]
fn an_upstream_that_resets_before_it_reads_leaves_it_unknown_or_untouched() {
    let _alone = alone();
    let upstream = ScriptedUpstream::start(|conversation| conversation.reset());
    let gateway = before(&upstream);
    let answers = in_parallel(CONCURRENCY, TRIES, |number| {
        gateway.exchange(payment(&format!("try-{number}")))
    });
    let lines = by_request_id(gateway.stop());
    for answer in &answers {
        let line = &lines[answer.field("x-request-id")];
        assert_eq!(answer.status(), 502, "{answer:?}");
        assert_ne!(answer.outcome(), "answered");
        assert_eq!(line["outcome"], answer.outcome());
    }
}

#[test]
fn an_upstream_that_is_killed_after_it_read_the_request_leaves_it_unknown() {
    let _alone = alone();
    let upstream = killed_after("");
    let gateway = before(&upstream);
    let expected = Expected {
        status: 502,
        code: Some("upstream-reset"),
        outcome: "unknown",
    };
    try_a_thousand_times(gateway, &expected);
    assert_each_arrived_once(&upstream);
}

#[test]
fn an_upstream_that_is_killed_in_the_head_of_its_answer_leaves_it_unknown() {
    let _alone = alone();
    let upstream = killed_after("HTTP/1.1 200 OK\r\nContent-Type: appl");
    let gateway = before(&upstream);
    let expected = Expected {
        status: 502,
        code: Some("upstream-reset"),
        outcome: "unknown",
    };
    try_a_thousand_times(gateway, &expected);
    assert_each_arrived_once(&upstream);
}

#[test]
fn an_upstream_that_is_killed_in_the_body_of_its_answer_leaves_it_unknown() {
    let _alone = alone();
    let upstream = killed_after("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"status\":");
    let gateway = before(&upstream);
    let expected = Expected {
        status: 502,
        code: Some("upstream-reset"),
        outcome: "unknown",
    };
    try_a_thousand_times(gateway, &expected);
    assert_each_arrived_once(&upstream);
}

#[test]
fn an_upstream_that_is_killed_after_its_complete_answer_has_answered() {
    let _alone = alone();
    let upstream = killed_after("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    // A connection is whole for a moment after its answer; the next request must not meet its end.
    let gateway = TestGateway::builder()
        .scripted(&upstream)
        .upstream("reuse_within = \"0s\"")
        .start();
    let expected = Expected {
        status: 200,
        code: None,
        outcome: "answered",
    };
    try_a_thousand_times(gateway, &expected);
    assert_each_arrived_once(&upstream);
}

#[test]
fn a_gateway_whose_connections_are_all_busy_has_sent_nothing() {
    let upstream = ScriptedUpstream::start(|mut conversation| {
        conversation.request();
        conversation.listen();
    });
    let gateway = TestGateway::builder()
        .scripted(&upstream)
        .server("drain_timeout = \"10s\"")
        .upstream("max_connections = 2\nqueue_timeout = \"0s\"\nresponse_timeout = \"500ms\"")
        .start();
    let answers = in_parallel(8, 8, |number| {
        gateway.exchange(payment(&format!("order-{number}")))
    });
    let overloaded = answers.iter().filter(|answer| answer.status() == 503);
    for answer in overloaded.clone() {
        assert_eq!(answer.code(), "overloaded");
        assert_eq!(answer.outcome(), "not-sent");
        assert_eq!(answer.field("retry-after"), "1");
    }
    assert_eq!(overloaded.count() + upstream.requests().len(), 8);
}

/// Sends one payment to an upstream that answers with these words, longer than is held.
fn streamed(words: String) -> (Result<Message, Cut>, Value) {
    let upstream = ScriptedUpstream::start(move |mut conversation| {
        if conversation.request().is_some() {
            conversation.say(&words);
            conversation.close();
        }
    });
    let gateway = TestGateway::builder()
        .scripted(&upstream)
        .upstream("hold_answer = \"1KiB\"")
        .start();
    let mut client = gateway.connect();
    client.begin(payment("order-1"));
    let answer = client.try_answer();
    let mut lines = gateway.stop();
    assert_eq!(upstream.requests().len(), 1);
    assert_eq!(lines.len(), 1);
    (answer, lines.remove(0))
}

#[test]
fn a_long_answer_that_is_complete_has_answered() {
    let chunk = "x".repeat(4096);
    for words in [
        format!("HTTP/1.1 200 OK\r\nContent-Length: 4096\r\n\r\n{chunk}"),
        format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\n{chunk}\r\n0\r\n\r\n"
        ),
        format!("HTTP/1.1 200 OK\r\n\r\n{chunk}"),
    ] {
        let (answer, line) = streamed(words);
        let answer = answer.expect("a complete answer");
        assert_eq!(answer.outcome(), "answered");
        assert_eq!(answer.body, chunk.as_bytes());
        assert_eq!(line["outcome"], "answered");
        assert_eq!(line["bytes_out"], 4096);
    }
}

#[test]
fn a_client_that_leaves_a_long_answer_does_not_change_what_became_of_it() {
    let upstream = ScriptedUpstream::start(|mut conversation| {
        if conversation.request().is_some() {
            conversation.say("HTTP/1.1 200 OK\r\nContent-Length: 8388608\r\n\r\n");
            conversation.say(vec![b'x'; 8 << 20]);
            conversation.close();
        }
    });
    let gateway = TestGateway::builder().scripted(&upstream).start();
    let mut client = gateway.connect();
    client.begin(payment("order-1"));
    client.read_some(&mut [0; 100]).expect("the head");
    drop(client);
    assert_eq!(gateway.await_log_lines(1)[0]["outcome"], "answered");
}
