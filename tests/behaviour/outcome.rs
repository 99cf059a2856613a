//! Every reply and every log line says what became of the request, and it is true.
//!
//! Each case is tried a thousand times against an upstream that is killed at one exact point.

use std::collections::BTreeMap;
use std::io::ErrorKind;

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
    let gateway = TestGateway::builder().base_url(nobody.base_url()).start();
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
    let gateway = TestGateway::builder().scripted(&upstream).start();
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
    let gateway = TestGateway::builder().scripted(&upstream).start();
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
    let gateway = TestGateway::builder().scripted(&upstream).start();
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
    let gateway = TestGateway::builder().scripted(&upstream).start();
    let expected = Expected {
        status: 502,
        code: Some("upstream-reset"),
        outcome: "unknown",
    };
    try_a_thousand_times(gateway, &expected);
    assert_each_arrived_once(&upstream);
}

#[test]
fn a_chunked_answer_without_its_end_leaves_it_unknown() {
    let upstream = killed_after("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n");
    let gateway = TestGateway::builder().scripted(&upstream).start();
    for number in 0..4 {
        let answer = gateway.exchange(payment(&format!("try-{number}")));
        assert_eq!(answer.code(), "upstream-reset");
        assert_eq!(answer.outcome(), "unknown");
    }
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
fn an_answer_that_ends_with_its_connection_is_complete_when_that_closes_in_order() {
    let upstream = ScriptedUpstream::start(|mut conversation| {
        if conversation.request().is_some() {
            conversation.say("HTTP/1.1 200 OK\r\n\r\n{\"a\":1}");
            conversation.close();
        }
    });
    let gateway = TestGateway::builder().scripted(&upstream).start();
    let answer = gateway.exchange(payment("order-1"));
    assert_eq!(answer.outcome(), "answered");
    assert_eq!(answer.body, b"{\"a\":1}");
}

#[test]
fn garbage_for_an_answer_is_invalid_and_leaves_it_unknown() {
    for words in [
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}",
        "HTTP/1.1 200 OK\r\n: nameless\r\n\r\n",
    ] {
        let upstream = killed_after(words);
        let gateway = TestGateway::builder().scripted(&upstream).start();
        let answer = gateway.exchange(payment("order-1"));
        assert_eq!(answer.status(), 502, "{words:?}: {answer:?}");
        assert_eq!(answer.code(), "upstream-invalid", "{words:?}");
        assert_eq!(answer.outcome(), "unknown", "{words:?}");
        assert_eq!(upstream.requests().len(), 1);
    }
}

/// An answer with a body of this length in one chunk, and fields of the caller's.
fn chunked_answer(fields: &str, length: usize) -> String {
    let body = "x".repeat(length);
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n{length:x}\r\n{body}\r\n0\r\n\r\n")
}

#[test]
fn an_answer_with_a_length_and_chunks_is_invalid_and_leaves_it_unknown() {
    const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";
    // Held, and long enough to be streamed.
    for length in [5, 100_000] {
        for announced in [0, length - 1, length, length + 1] {
            let announced = format!("Content-Length: {announced}\r\n");
            for fields in [
                format!("{announced}{CHUNKED}"),
                format!("{CHUNKED}{announced}"),
            ] {
                let words = chunked_answer(&fields, length);
                let upstream = ScriptedUpstream::start(move |mut conversation| {
                    conversation.request();
                    conversation.say(&words);
                    conversation.listen();
                });
                let gateway = TestGateway::builder().scripted(&upstream).start();
                let answer = gateway.exchange(payment("order-1"));
                assert_eq!(answer.status(), 502, "{fields:?}: {:?}", answer.fields);
                assert_eq!(answer.code(), "upstream-invalid", "{fields:?}");
                assert_eq!(answer.outcome(), "unknown", "{fields:?}");
                assert_eq!(gateway.stop()[0]["outcome"], "unknown");
                assert_eq!(upstream.requests().len(), 1);
            }
        }
    }
}

#[test]
fn an_upstream_that_never_answers_leaves_it_unknown() {
    let upstream = ScriptedUpstream::start(|mut conversation| {
        conversation.request();
        conversation.listen();
    });
    let gateway = TestGateway::builder()
        .scripted(&upstream)
        .upstream("response_timeout = \"200ms\"")
        .start();
    let answer = gateway.exchange(payment("order-1"));
    assert_eq!(answer.status(), 504);
    assert_eq!(answer.code(), "upstream-timeout");
    assert_eq!(answer.outcome(), "unknown");
    assert_eq!(
        answer.field("proxy-status"),
        "moden-gateway; error=http_response_timeout"
    );
    assert_eq!(gateway.stop()[0]["outcome"], "unknown");
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn an_answer_that_stalls_leaves_it_unknown() {
    let upstream = ScriptedUpstream::start(|mut conversation| {
        conversation.request();
        conversation.say("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{");
        conversation.listen();
    });
    let gateway = TestGateway::builder()
        .scripted(&upstream)
        .upstream("body_idle_timeout = \"200ms\"")
        .start();
    let answer = gateway.exchange(payment("order-1"));
    assert_eq!(answer.code(), "upstream-timeout");
    assert_eq!(answer.outcome(), "unknown");
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
fn a_long_answer_that_is_cut_is_visibly_cut_and_unknown_in_the_log() {
    let chunk = "x".repeat(4096);
    for words in [
        format!("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{chunk}"),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\n{chunk}\r\n"),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1001\r\n{chunk}"),
    ] {
        let (answer, line) = streamed(words);
        let cut = answer.expect_err("a part must not look whole");
        let kind = cut.error.kind();
        assert_ne!(kind, ErrorKind::WouldBlock, "the client was left waiting");
        assert_eq!(line["outcome"], "unknown");
        assert_eq!(line["status"], 200);
    }
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
