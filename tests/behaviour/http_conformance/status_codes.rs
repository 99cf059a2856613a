//! Status codes used on purpose.

use std::time::{Duration, SystemTime};

use super::{FINE, Pair, framed, head};
use crate::support::{ClosedPort, ScriptedUpstream, TestGateway, eventually, payment, post};

/// RFC 9110, 10.2.3
///
/// MUST: write Retry-After as a date or as seconds.
///
/// Here: whole seconds, at least 1, on 429 and on every 503 that passes by itself; MODEN's own, in either
/// form, passes unchanged.
#[test]
fn rfc9110_10_2_3_retry_after_is_in_seconds() {
    let pair = Pair::with(FINE, |builder| {
        builder.server("max_in_flight = 1").tables(
            "[[limits]]\nname = \"hourly\"\nrequests = 1\nper = [\"route\"]\nperiod = \"1h\"",
        )
    });
    assert_eq!(pair.exchange(payment("a")).status(), 200);
    let denied = pair.exchange(payment("b"));
    let seconds: u64 = denied.field("retry-after").parse().expect("digits");
    assert!((1..=3_600).contains(&seconds));
    let mut slow = pair.connect();
    slow.begin(head("POST /pay/echo/a", &["Content-Length: 5"]));
    eventually("the one place to be taken", || {
        let status = pair.gateway.admin("/status").json();
        (status["load"]["in_flight"] == 1).then_some(())
    });
    let full = pair.exchange(head("GET /pay/echo/a", &[]));
    assert_eq!(full.code(), "overloaded");
    assert_eq!(full.field("retry-after"), "1");
    slow.write("hello");
    // The limit, which is charged once for its route, denies nothing of this one.
    assert_eq!(slow.answer().status(), 200);

    for value in ["120", "Sun, 06 Nov 1994 08:49:37 GMT"] {
        let pair = Pair::answering(format!(
            "HTTP/1.1 503 Away\r\nRetry-After: {value}\r\nContent-Length: 0\r\n\r\n"
        ));
        assert_eq!(pair.exchange(payment("a")).field("retry-after"), value);
    }
}

/// RFC 9110, 15.5.9
///
/// SHOULD: send 408 with close when a request did not come in time; the client may repeat it.
///
/// Here: 408 `request-timeout` with close for a head or a held body that is late, so only when nothing has
/// gone to MODEN; nothing at all to a connection that has sent nothing.
#[test]
fn rfc9110_15_5_9_408_only_when_nothing_was_sent() {
    let pair = Pair::with(FINE, |builder| {
        builder.listener("header_timeout = \"200ms\"\nbody_timeout = \"200ms\"")
    });
    let started = SystemTime::now();
    for bytes in [
        "POST /pay/gateway HTTP/1.1\r\nHost: gate".to_owned(),
        framed("POST /pay/gateway", &["Content-Length: 10"], "hello"),
        framed(
            "POST /pay/gateway",
            &["Transfer-Encoding: chunked"],
            "5\r\nhel",
        ),
    ] {
        let mut client = pair.connect();
        client.begin(bytes);
        let answer = client.answer();
        assert_eq!((answer.status(), &*answer.code()), (408, "request-timeout"));
        assert_eq!(answer.outcome(), "not-sent");
        assert_eq!(answer.field("connection"), "close");
        assert!(client.rest().is_empty());
    }
    assert!(started.elapsed().unwrap_or_default() >= Duration::from_millis(600));
    assert_eq!(pair.upstream.connection_count(), 0);
}

/// RFC 9110, 15.5.12
///
/// MAY: answer 411 to a request whose length has to be announced.
///
/// Here: to GET and HEAD with a body in chunks that is too long to be held; a short one is sent with its
/// length, and other methods may stream.
#[test]
fn rfc9110_15_5_12_a_long_body_of_get_wants_a_length() {
    let pair = Pair::start();
    let chunks = |size: usize| format!("{size:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(size));
    let chunked = ["Transfer-Encoding: chunked"];
    let request = |line: &str, size: usize| framed(line, &chunked, &chunks(size));
    pair.refuses(request("GET /pay/echo/a", 70_000), 411, "length-required");
    let sent = pair.serves(request("GET /pay/echo/a", 100));
    assert_eq!(sent.field("content-length"), "100");
    assert!(pair.serves(request("POST /pay/echo/a", 70_000)).is_chunked);
}

/// RFC 9110, 15.5.14
///
/// MAY: close the connection to keep a client from going on with content that is too large.
///
/// Here: 413 `body-too-large` with close as soon as the length is known, without Retry-After, since it
/// will be too large later, too.
#[test]
fn rfc9110_15_5_14_413_comes_at_once() {
    let pair = Pair::with(FINE, |builder| {
        builder.listener("max_body_bytes = \"1KiB\"")
    });
    let mut client = pair.connect();
    client.begin(head("POST /pay/gateway", &["Content-Length: 1025"]));
    let answer = client.answer();
    assert_eq!((answer.status(), &*answer.code()), (413, "body-too-large"));
    assert_eq!(answer.field("connection"), "close");
    assert!(answer.all("retry-after").is_empty());
    pair.serves(post("/pay/gateway", &[], &"x".repeat(1_024)));
    assert_eq!(pair.upstream.requests().len(), 1);
}

/// RFC 9110, 15.5.20
///
/// MAY: answer 421 where a request came to a server that is not meant for its host.
///
/// Here: never sent, as the gateway serves under every name. A 421 of MODEN's would invite a client to
/// repeat even a POST elsewhere: it becomes 502 `upstream-invalid`.
#[test]
fn rfc9110_15_5_20_a_misdirected_request_is_not_the_clients() {
    let pair = Pair::answering("HTTP/1.1 421 Misdirected Request\r\nContent-Length: 0\r\n\r\n");
    let answer = pair.exchange(payment("a"));
    assert_eq!(
        (answer.status(), &*answer.code()),
        (502, "upstream-invalid")
    );
    assert_eq!(answer.outcome(), "answered");
    assert_eq!(pair.upstream.requests().len(), 1);
}

/// RFC 9110, 15.6.3
///
/// MUST: mean by 502 that the answer of the server behind was invalid.
///
/// Here: `upstream-invalid` and `upstream-reset`, each with its outcome; also where MODEN cannot be reached
/// at all.
#[test]
fn rfc9110_15_6_3_502_is_for_answers_that_are_none() {
    for (words, code) in [
        ("SSH-2.0-OpenSSH_9.2\r\n", "upstream-invalid"),
        ("HTTP/1.1 200 OK\r\nContent-Le", "upstream-reset"),
        ("", "upstream-reset"),
    ] {
        let pair = Pair::hanging_up_after(words);
        let answer = pair.exchange(payment("a"));
        assert_eq!(
            (answer.status(), answer.outcome()),
            (502, "unknown"),
            "{words:?}"
        );
        assert_eq!(answer.code(), code, "{words:?}");
    }
    let closed = ClosedPort::bind();
    let gateway = TestGateway::builder().base_url(closed.base_url()).start();
    let answer = gateway.exchange(payment("a"));
    assert_eq!((answer.status(), answer.outcome()), (502, "not-sent"));
    assert_eq!(answer.code(), "upstream-unreachable");
}

/// RFC 9110, 15.6.4
///
/// MAY: say with 503 when to come again.
///
/// Here: 503 is one's own overload, pause or want of a credential, always `not-sent`; the first two say
/// when to come again.
#[test]
fn rfc9110_15_6_4_503_is_for_what_the_gateway_cannot_do_now() {
    let gateway = TestGateway::builder()
        .base_url(ClosedPort::bind().base_url())
        .without_secret()
        .start_until("no credential");
    let answer = gateway.exchange(payment("a"));
    assert_eq!((answer.status(), answer.outcome()), (503, "not-sent"));
    assert_eq!(answer.code(), "credential-unavailable");
    assert!(answer.all("retry-after").is_empty(), "nobody knows when");
    drop(gateway);

    let pair = Pair::with(FINE, |builder| {
        builder
            .server("max_held_bytes = \"64KiB\"")
            .listener("body_timeout = \"60s\"")
    });
    let mut slow = pair.connect();
    slow.begin(head("POST /pay/echo/a", &["Transfer-Encoding: chunked"]));
    let answer = eventually("all room to be taken", || {
        Some(pair.exchange(head("GET /pay/echo/a", &[]))).filter(|answer| answer.status() == 503)
    });
    assert_eq!(
        (answer.outcome(), &*answer.code()),
        ("not-sent", "overloaded")
    );
    assert_eq!(answer.field("retry-after"), "1");
}

/// RFC 9110, 15.6.5
///
/// MUST: mean by 504 that the server behind did not answer in time.
///
/// Here: `upstream-timeout`, `unknown` once bytes had left.
#[test]
fn rfc9110_15_6_5_504_is_for_answers_that_do_not_come() {
    let upstream = ScriptedUpstream::start(|mut conversation| {
        if conversation.request().is_some() {
            conversation.listen();
        }
    });
    let pair = Pair::before(upstream, |builder| {
        builder.upstream("response_timeout = \"200ms\"")
    });
    let answer = pair.exchange(payment("a"));
    assert_eq!((answer.status(), answer.outcome()), (504, "unknown"));
    assert_eq!(answer.code(), "upstream-timeout");
    assert_eq!(pair.upstream.requests().len(), 1);
}

/// RFC 9110, 15.6.6
///
/// SHOULD: answer 505 to a major version that is not supported.
///
/// Here: 505 `version-not-supported` and closed to every version but 1.0 and 1.1, the preface of HTTP/2
/// included; 400 to a request line that names none.
#[test]
fn rfc9110_15_6_6_other_versions_are_505() {
    let pair = Pair::start();
    for version in ["HTTP/2.0", "HTTP/2", "HTTP/3.0", "HTTP/0.9", "HTTP/1.2"] {
        let bytes = format!("GET /pay/echo/a {version}\r\nHost: a\r\n\r\n");
        pair.refuses_and_closes(bytes, 505, "version-not-supported");
    }
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    pair.refuses_and_closes(preface, 505, "version-not-supported");
    pair.refuses_and_closes("GET /pay/echo/a\r\n", 400, "request-malformed");
}

/// RFC 6585, 4
///
/// MAY: say with 429 when to come again.
///
/// Here: 429 comes from a limit of the gateway's, always with Retry-After and `not-sent`; MODEN's own
/// passes unchanged, `answered`, and without a code of ours.
#[test]
fn rfc6585_4_429_tells_whose_limit_it_was() {
    let limit = "[[limits]]\nname = \"hourly\"\nrequests = 1\nperiod = \"1h\"";
    let pair = Pair::with(FINE, |builder| builder.tables(limit));
    assert_eq!(pair.exchange(payment("a")).status(), 200);
    let own = pair.exchange(payment("b"));
    assert_eq!((own.status(), own.outcome()), (429, "not-sent"));
    assert_eq!(own.code(), "limit-exceeded");
    assert_eq!(own.all("retry-after").len(), 1);
    assert_eq!(pair.upstream.requests().len(), 1);

    let pair = Pair::answering(
        "HTTP/1.1 429 Slow\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nslow",
    );
    let answer = pair.exchange(payment("a"));
    assert_eq!((answer.status(), answer.outcome()), (429, "answered"));
    assert_eq!(answer.field("content-type"), "text/plain");
    assert_eq!(answer.body, b"slow");
    assert!(answer.all("proxy-status").is_empty());
}

/// RFC 6585, 5
///
/// MAY: answer 431 to fields that are too large, one of them or all together.
///
/// Here: `header-too-large` and closed, above `max_header_bytes` and above `max_header_fields`.
#[test]
fn rfc6585_5_431_for_fields_that_are_too_large() {
    let pair = Pair::start();
    let long = "a".repeat(20_000);
    for fields in [
        format!("X-A: {long}\r\n"),
        format!("{long}: a\r\n"),
        "X-A: a\r\n".repeat(101),
        format!("X-A: {}\r\n", "a".repeat(1_000)).repeat(20),
    ] {
        let bytes = format!("POST /pay/gateway HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        pair.refuses_and_closes(bytes, 431, "header-too-large");
    }
    let many = "X-A: a\r\n".repeat(98);
    pair.serves(format!(
        "POST /pay/gateway HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n{many}\r\n"
    ));
}

/// RFC 8470, 5.1
///
/// MUST NOT: remove Early-Data from a request.
///
/// Here: passed on unchanged; none is added.
#[test]
fn rfc8470_5_1_early_data_is_passed_on() {
    let pair = Pair::start();
    let sent = pair.serves(post("/pay/gateway", &[("Early-Data", "1")], "{}"));
    assert_eq!(sent.all("early-data"), ["1"]);
    assert!(pair.serves(payment("a")).all("early-data").is_empty());
}

/// RFC 8470, 5.2
///
/// MUST: forward 425 to a client whose request said Early-Data.
///
/// Here: MODEN's 425 passes unchanged, and nothing is repeated.
#[test]
fn rfc8470_5_2_425_is_relayed() {
    let pair = Pair::answering("HTTP/1.1 425 Too Early\r\nContent-Length: 2\r\n\r\n{}");
    let answer = pair.exchange(post("/pay/gateway", &[("Early-Data", "1")], "{}"));
    assert_eq!((answer.status(), answer.outcome()), (425, "answered"));
    assert_eq!(pair.upstream.requests().len(), 1);
}
