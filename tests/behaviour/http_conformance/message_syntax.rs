//! Message syntax and connections: RFC 9112.

use std::io::ErrorKind;

use super::{FINE, Pair, framed, head};
use crate::support::{ScriptedUpstream, eventually, payment, post};

/// A request that nobody sends but who was smuggled.
const SMUGGLED: &str = "GET /pay/echo/smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// The first line of most requests here.
const POST: &str = "POST /pay/echo/a";

/// A body above what is held, so that it streams.
fn long() -> String {
    "x".repeat(100_000)
}

/// RFC 9112, 2.2
///
/// MUST: take a bare CR for invalid, or replace it by SP.
///
/// Here: invalid, in heads, chunk lines and trailers: 400 and closed.
#[test]
fn rfc9112_2_2_a_bare_cr_is_refused() {
    let pair = Pair::start();
    for bytes in [
        framed(POST, &["X-A: a\rX-B: b"], ""),
        framed(POST, &["X-A: a\r"], ""),
        format!("{POST} HTTP/1.1\r\rHost: a\r\n\r\n"),
        framed(
            POST,
            &["Transfer-Encoding: chunked"],
            "5\rXhello\r\n0\r\n\r\n",
        ),
    ] {
        pair.refuses_and_closes(bytes, 400, "request-malformed");
    }
}

/// RFC 9112, 2.2
///
/// MAY: take a bare LF for the end of a line.
///
/// Here: not taken, in heads, chunk lines and trailers; who takes it reads another message than who
/// does not. 400 and closed.
#[test]
fn rfc9112_2_2_a_bare_lf_is_refused() {
    let pair = Pair::start();
    let chunked = ["Transfer-Encoding: chunked"];
    for bytes in [
        format!("{POST} HTTP/1.1\nHost: a\n\n"),
        format!("{POST} HTTP/1.1\r\nHost: a\nX-A: b\r\n\r\n"),
        format!("{POST} HTTP/1.1\r\nHost: a\r\n\n"),
        framed(POST, &chunked, "5\nhello\r\n0\r\n\r\n"),
        framed(POST, &chunked, "5;\nhello\r\n0\r\n\r\n"),
        framed(POST, &chunked, "5\r\nhello\n0\r\n\r\n"),
        framed(POST, &chunked, "0\r\nA: b\n\r\n"),
    ] {
        pair.refuses_and_closes(bytes, 400, "request-malformed");
    }
    let sound = framed(POST, &chunked, "5\r\nhello\r\n0\r\nA: b\r\n\r\n");
    assert_eq!(pair.serves(sound).body, b"hello");
}

/// RFC 9112, 2.2
///
/// MUST: refuse a message with whitespace before its first field, or skip such lines.
///
/// Here: 400 and closed.
#[test]
fn rfc9112_2_2_whitespace_before_the_first_field_is_refused() {
    let pair = Pair::start();
    for space in [" ", "\t"] {
        let bytes = format!("{POST} HTTP/1.1\r\n{space}X-A: b\r\nHost: a\r\n\r\n");
        pair.refuses_and_closes(bytes, 400, "request-malformed");
    }
}

/// RFC 9112, 2.2
///
/// SHOULD: ignore at least one empty line before a request.
///
/// Here: one is ignored, also between requests of a connection; more are 400 and closed.
#[test]
fn rfc9112_2_2_one_empty_line_before_a_request_is_ignored() {
    let pair = Pair::start();
    let request = head(POST, &["Content-Length: 0"]);
    let mut client = pair.connect();
    for _ in 0..2 {
        assert_eq!(client.exchange(format!("\r\n{request}")).status(), 200);
    }
    pair.refuses_and_closes(format!("\r\n\r\n{request}"), 400, "request-malformed");
    pair.refuses_and_closes(format!("\n{request}"), 400, "request-malformed");
}

/// RFC 9112, 2.3
///
/// MUST: send one's own version in what is forwarded.
///
/// Here: MODEN is always asked in HTTP/1.1; replies are HTTP/1.1, to clients of HTTP/1.0 in their
/// version, whatever MODEN speaks.
#[test]
fn rfc9112_2_3_messages_are_sent_in_our_own_version() {
    let pair = Pair::answering("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    let answer = pair.exchange(payment("a"));
    assert_eq!(answer.start_line, "HTTP/1.1 200 OK");
    let old = format!("{POST} HTTP/1.0\r\nContent-Length: 2\r\n\r\n{{}}");
    assert!(pair.exchange(old).start_line.starts_with("HTTP/1.0 200"));
    for request in pair.upstream.requests() {
        assert!(request.start_line.ends_with(" HTTP/1.1"), "{request:?}");
    }
}

/// RFC 9112, 3
///
/// MUST: answer 414 to a target that is longer than one wishes to parse.
///
/// Here: `uri-too-long` for a request line that does not end within `max_header_bytes`; closed.
#[test]
fn rfc9112_3_a_target_that_is_too_long_is_414() {
    let pair = Pair::start();
    let target = format!("{POST}?{}", "a".repeat(20_000));
    pair.refuses_and_closes(head(&target, &["Content-Length: 0"]), 414, "uri-too-long");
}

/// RFC 9112, 3
///
/// SHOULD: support request lines of at least 8000 octets.
///
/// Here: up to `max_header_bytes`, which is at least 8 KiB and 16 KiB by default.
#[test]
fn rfc9112_3_request_lines_of_8000_octets_are_taken() {
    let pair = Pair::with(FINE, |builder| {
        builder.listener("max_header_bytes = \"8KiB\"")
    });
    let line = format!("{POST}?");
    let rest = 8_000 - line.len() - " HTTP/1.1".len();
    let target = format!("{line}{}", "a".repeat(rest));
    let sent = pair.serves(head(&target, &["Content-Length: 0"]));
    assert!(sent.target().ends_with(&"a".repeat(rest)));
}

/// RFC 9112, 3
///
/// SHOULD: answer 400 to an invalid request line, and not repair it.
///
/// Here: 400 and closed; nothing is trimmed, merged or encoded.
#[test]
fn rfc9112_3_an_invalid_request_line_is_refused_and_not_repaired() {
    let pair = Pair::start();
    for line in [
        "POST  /pay/echo/a HTTP/1.1",
        "POST /pay/echo/a  HTTP/1.1",
        "POST\t/pay/echo/a\tHTTP/1.1",
        "POST /pay/echo/a b HTTP/1.1",
        "POST /pay/echo/a HTTP/1.1 ",
        " POST /pay/echo/a HTTP/1.1",
        "POST /pay/echo/a http/1.1",
        "POST pay/echo/a HTTP/1.1",
        "POST /pay/echo/a#b HTTP/1.1",
        "PO(ST /pay/echo/a HTTP/1.1",
        "/pay/echo/a HTTP/1.1",
    ] {
        let bytes = format!("{line}\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        pair.refuses_and_closes(bytes, 400, "request-malformed");
    }
}

/// RFC 9112, 3
///
/// SHOULD: answer 501 to a method that is longer than any that is implemented.
///
/// Here: `not-implemented`.
#[test]
fn rfc9112_3_an_overlong_method_is_not_implemented() {
    let pair = Pair::start();
    let request = head(&format!("{} /pay/echo/a", "X".repeat(300)), &[]);
    pair.refuses(request, 501, "not-implemented");
}

/// RFC 9112, 3.2
///
/// MUST: answer 400 to HTTP/1.1 without Host, and to any request with several or an invalid one.
///
/// Here: so done; which host it names makes no difference, as the gateway serves under every name.
#[test]
fn rfc9112_3_2_a_request_names_exactly_one_valid_host() {
    let pair = Pair::start();
    let with = |version: &str, hosts: &str| {
        format!("{POST} HTTP/{version}\r\n{hosts}Content-Length: 0\r\n\r\n")
    };
    for (version, hosts) in [
        ("1.1", ""),
        ("1.1", "Host: a\r\nHost: a\r\n"),
        ("1.0", "Host: a\r\nhost: b\r\n"),
        ("1.1", "Host: a b\r\n"),
        ("1.1", "Host: a/b\r\n"),
        ("1.1", "Host: a, b\r\n"),
        ("1.1", "Host: a:b\r\n"),
        ("1.1", "Host: a:1:2\r\n"),
        ("1.1", "Host: a:999999\r\n"),
        ("1.1", "Host: [::1\r\n"),
        ("1.1", "Host: [::1]x\r\n"),
        ("1.1", "Host: http://a\r\n"),
        ("1.1", "Host: a?b\r\n"),
        ("1.0", "Host: a@b\r\n"),
    ] {
        pair.refuses(with(version, hosts), 400, "request-malformed");
    }
    for (version, hosts) in [
        ("1.0", ""),
        ("1.1", "Host:\r\n"),
        ("1.1", "Host: any.example\r\n"),
        ("1.1", "Host: a:8080\r\n"),
        ("1.1", "Host: a:\r\n"),
        ("1.1", "Host: [::1]:80\r\n"),
        ("1.0", "Host: 127.0.0.1\r\n"),
    ] {
        pair.serves(with(version, hosts));
    }
}

/// RFC 9112, 3.2.2
///
/// MUST: accept absolute-form, and ignore Host then.
///
/// Here: accepted with http and https; the host of the target is ignored, too, and MODEN is asked in
/// origin-form. One Host must be there all the same (3.2).
#[test]
fn rfc9112_3_2_2_absolute_form_is_accepted_and_its_host_ignored() {
    let pair = Pair::start();
    let length = ["Content-Length: 0"];
    for target in [
        "http://gateway.test/pay/echo/a?b",
        "HTTP://evil.example:1/pay/echo/a?b",
        "https://[::1]/pay/echo/a?b",
    ] {
        let sent = pair.serves(head(&format!("POST {target}"), &length));
        assert_eq!(sent.target(), "/pay/sandbox/echo/a?b");
        assert_eq!(sent.field("host"), pair.upstream.address().to_string());
    }
    let other = head("POST ftp://gateway.test/pay/echo/a", &length);
    pair.refuses(other, 400, "request-malformed");
    let without = "POST http://a/pay/echo/a HTTP/1.1\r\nContent-Length: 0\r\n\r\n";
    pair.refuses(without, 400, "request-malformed");
}

/// RFC 9112, 3.2.3
///
/// MUST: use authority-form with CONNECT only.
///
/// Here: 400 with any other method.
#[test]
fn rfc9112_3_2_3_authority_form_is_for_connect_only() {
    let pair = Pair::start();
    for method in ["GET", "POST", "OPTIONS"] {
        let request = head(&format!("{method} gateway.test:80"), &[]);
        pair.refuses(request, 400, "request-malformed");
    }
}

/// RFC 9112, 3.2.4
///
/// MUST: use asterisk-form with OPTIONS only.
///
/// Here: 400 with any other method.
#[test]
fn rfc9112_3_2_4_the_asterisk_is_for_options_only() {
    let pair = Pair::start();
    for method in ["GET", "POST", "PATCH"] {
        let request = head(&format!("{method} *"), &[]);
        pair.refuses(request, 400, "request-malformed");
    }
    assert_eq!(pair.exchange(head("OPTIONS *", &[])).status(), 204);
}

/// RFC 9112, 5.1
///
/// MUST: answer 400 to a request with whitespace between a field's name and the colon.
///
/// Here: 400 and closed.
#[test]
fn rfc9112_5_1_whitespace_before_the_colon_is_refused() {
    let pair = Pair::start();
    for field in [
        "X-A : b",
        "X-A\t: b",
        "Transfer-Encoding : chunked",
        "Content-Length : 5",
    ] {
        let bytes = framed(POST, &[field], "0\r\n\r\n");
        pair.refuses_and_closes(bytes, 400, "request-malformed");
    }
    let bytes = framed(POST, &[": b"], "");
    pair.refuses_and_closes(bytes, 400, "request-malformed");
}

/// RFC 9112, 5.1
///
/// MUST: remove such whitespace from an answer before it is forwarded.
///
/// Here: the answer is not forwarded at all: 502 `upstream-invalid`.
#[test]
fn rfc9112_5_1_whitespace_before_the_colon_makes_an_answer_invalid() {
    for field in [
        "X-A : b",
        "Transfer-Encoding : chunked",
        "Content-Length : 2",
    ] {
        assert_invalid(&format!(
            "HTTP/1.1 200 OK\r\n{field}\r\nContent-Length: 2\r\n\r\n{{}}"
        ));
    }
}

/// RFC 9112, 5.2
///
/// MUST: refuse a request with a folded field, or replace the fold by SP.
///
/// Here: 400 and closed.
#[test]
fn rfc9112_5_2_a_folded_field_is_refused() {
    let pair = Pair::start();
    for field in [
        "X-A: a\r\n b",
        "X-A: a\r\n\tb",
        "Transfer-Encoding:\r\n chunked",
    ] {
        let bytes = framed(POST, &[field], "0\r\n\r\n");
        pair.refuses_and_closes(bytes, 400, "request-malformed");
    }
}

/// RFC 9112, 5.2
///
/// MUST: answer 502 to a folded field of an answer, or replace the fold by SP.
///
/// Here: 502 `upstream-invalid`, `unknown`.
#[test]
fn rfc9112_5_2_a_folded_field_makes_an_answer_invalid() {
    assert_invalid("HTTP/1.1 200 OK\r\nX-A: a\r\n b\r\nContent-Length: 2\r\n\r\n{}");
    assert_invalid("HTTP/1.1 200 OK\r\nContent-Length:\r\n 2\r\n\r\n{}");
}

/// Wants this answer to be a 502 for its client, and its connection not to be used again.
#[track_caller]
fn assert_invalid(words: &str) {
    let pair = Pair::answering(words);
    for count in 1..=2 {
        let answer = pair.exchange(payment("a"));
        let seen = (answer.status(), answer.outcome());
        assert_eq!(seen, (502, "unknown"), "{words:?}");
        assert_eq!(answer.code(), "upstream-invalid", "{words:?}");
        assert_eq!(pair.upstream.connection_count(), count, "{words:?}");
        assert_eq!(pair.upstream.requests().len(), count, "{words:?}");
    }
}

/// RFC 9112, 6.1
///
/// MAY: reject a request with Content-Length beside Transfer-Encoding.
///
/// Here: 400 and closed, in either order and whatever they say.
#[test]
fn rfc9112_6_1_content_length_beside_transfer_encoding_is_refused() {
    let pair = Pair::start();
    let body = format!("0\r\n\r\n{SMUGGLED}");
    let length = format!("Content-Length: {}", body.len());
    for fields in [
        [&*length, "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", &length],
        ["transfer-encoding: CHUNKED", "Content-Length: 0"],
        ["Content-Length: x", "Transfer-Encoding: chunked"],
    ] {
        let bytes = framed(POST, &fields, &body);
        pair.refuses_and_closes(bytes, 400, "request-malformed");
    }
    pair.serves(framed(POST, &["Transfer-Encoding: chunked"], "0\r\n\r\n"));
    pair.serves(framed(POST, &["Content-Length: 2"], "{}"));
}

/// RFC 9112, 6.1
///
/// SHOULD: handle an answer with both as an error.
///
/// Here: 502 `upstream-invalid`, and the connection is given up.
#[test]
fn rfc9112_6_1_content_length_beside_transfer_encoding_makes_an_answer_invalid() {
    let both = "Transfer-Encoding: chunked\r\nContent-Length: 2";
    assert_invalid(&format!(
        "HTTP/1.1 200 OK\r\n{both}\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n"
    ));
}

/// RFC 9112, 6.1
///
/// MUST: take Transfer-Encoding in HTTP/1.0 for faulty framing, and close the connection.
///
/// Here: 400 and closed; an answer in HTTP/1.0 with it is 502.
#[test]
fn rfc9112_6_1_transfer_encoding_in_http_1_0_is_faulty() {
    let pair = Pair::start();
    let bytes = format!("{POST} HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}");
    pair.refuses_and_closes(bytes, 400, "request-malformed");
    assert_invalid("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n");
}

/// RFC 9112, 6.1
///
/// SHOULD: answer 501 to a transfer coding that is not understood.
///
/// Here: `not-implemented` and closed; chunked is the one that is.
#[test]
fn rfc9112_6_1_an_unknown_coding_is_not_implemented() {
    let pair = Pair::start();
    for codings in ["gzip, chunked", "identity, chunked", "x, chunked"] {
        let field = format!("Transfer-Encoding: {codings}");
        let bytes = framed(POST, &[&field], "0\r\n\r\n");
        pair.refuses_and_closes(bytes, 501, "not-implemented");
    }
}

/// RFC 9112, 6.1
///
/// MUST NOT: apply chunked more than once.
///
/// Here: 400 and closed, on one line or several; an answer like that is 502.
#[test]
fn rfc9112_6_1_chunked_twice_is_refused() {
    let pair = Pair::start();
    let line = "Transfer-Encoding: chunked";
    for fields in [&["Transfer-Encoding: chunked, chunked"][..], &[line, line]] {
        let bytes = framed(POST, fields, "0\r\n\r\n");
        pair.refuses_and_closes(bytes, 400, "request-malformed");
    }
    assert_invalid("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n");
}

/// RFC 9112, 6.2
///
/// MUST NOT: send Content-Length in a message with Transfer-Encoding.
///
/// Here: a body has a length or is in chunks, both ways; held ones always have a length.
#[test]
fn rfc9112_6_2_no_length_beside_chunks_is_sent() {
    let body = long();
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let pair = Pair::answering(format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}"
    ));
    let request = framed(POST, &["Transfer-Encoding: chunked"], &chunked);
    let answer = pair.exchange(request);
    for message in [&answer, &pair.last()] {
        assert_eq!(message.all("transfer-encoding"), ["chunked"]);
        assert!(message.all("content-length").is_empty());
        assert!(message.body == body.as_bytes());
    }
    let held = pair.exchange(payment("a"));
    assert!(pair.last().all("transfer-encoding").is_empty());
    assert_eq!(held.all("transfer-encoding"), ["chunked"]);
    let small = Pair::answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    let answer = small.exchange(payment("a"));
    assert_eq!(answer.all("content-length"), ["0"]);
    assert!(answer.all("transfer-encoding").is_empty());
}

/// RFC 9112, 6.3
///
/// MUST: answer 400 and close where a request's last coding is not chunked.
///
/// Here: so done.
#[test]
fn rfc9112_6_3_chunked_that_is_not_last_is_refused() {
    let pair = Pair::start();
    for codings in [
        "chunked, gzip",
        "identity",
        "chunked;a=b",
        "\"chunked\"",
        "",
    ] {
        let field = format!("Transfer-Encoding: {codings}");
        let bytes = framed(POST, &[&field], "0\r\n\r\n");
        pair.refuses_and_closes(bytes, 400, "request-malformed");
    }
}

/// RFC 9112, 6.3
///
/// MUST: answer 400 and close where Content-Length is invalid or has several values that differ.
///
/// Here: so done; a list is refused even where its values are the same, lines that are the same count
/// as one.
#[test]
fn rfc9112_6_3_an_invalid_length_is_refused() {
    let pair = Pair::start();
    for length in [
        "",
        "+5",
        "-5",
        "0x5",
        "5 5",
        "5.0",
        "5;",
        "5, 6",
        "5,5",
        "five",
        "9223372036854775808",
        "18446744073709551616",
        "18446744073709551621",
    ] {
        let field = format!("Content-Length: {length}");
        let bytes = framed(POST, &[&field], "hello");
        pair.refuses_and_closes(bytes, 400, "request-malformed");
    }
    let lines = ["Content-Length: 5", "content-length: 6"];
    pair.refuses_and_closes(framed(POST, &lines, "hello!"), 400, "request-malformed");
    let alike = ["Content-Length: 5", "content-length: 5"];
    let sent = pair.serves(framed(POST, &alike, "hello"));
    assert_eq!(
        (sent.all("content-length"), &*sent.body),
        (vec!["5"], &b"hello"[..])
    );
    pair.serves(framed(POST, &["Content-Length: 0005"], "hello"));
}

/// RFC 9112, 6.3
///
/// MUST: answer 502, discard the answer and close where Content-Length of an answer is invalid.
///
/// Here: `upstream-invalid`, `unknown`; values that are the same count as one.
#[test]
fn rfc9112_6_3_an_invalid_length_of_an_answer_is_502() {
    for length in ["+2", "0x2", "", "2, 3", "18446744073709551618", "-2"] {
        assert_invalid(&format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{{}}"
        ));
    }
    let differing = "Content-Length: 2\r\nContent-Length: 3";
    assert_invalid(&format!("HTTP/1.1 200 OK\r\n{differing}\r\n\r\n{{}}"));
    let pair = Pair::answering("HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\n{}");
    let answer = pair.exchange(payment("a"));
    assert_eq!(
        (answer.status(), answer.all("content-length")),
        (200, vec!["2"])
    );
}

/// RFC 9112, 6.3
///
/// MUST NOT: take what follows a complete answer on a connection for the answer to a later request.
///
/// Here: the answer is passed on, and the connection is given up.
#[test]
fn rfc9112_6_3_what_follows_an_answer_is_never_the_next_one() {
    let forged = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";
    for surplus in [forged, "x", "\r\n"] {
        let pair = Pair::answering(format!("{FINE}{surplus}"));
        let mut client = pair.connect();
        for count in 1..=3 {
            let answer = client.exchange(payment("a"));
            assert_eq!(answer.body, b"{}", "behind {surplus:?}");
            assert_eq!(answer.outcome(), "answered");
            assert_eq!(pair.upstream.connection_count(), count);
        }
    }
}

/// RFC 9112, 6.3
///
/// MUST NOT: take a request with a length and fewer bytes for complete.
///
/// Here: nothing of a held body is sent on; a streamed one is cut off at MODEN, never completed, and
/// its outcome is `unknown`.
#[test]
fn rfc9112_6_3_a_short_body_is_never_completed() {
    let pair = Pair::start();
    for bytes in [
        framed(POST, &["Content-Length: 10"], "hello"),
        framed(POST, &["Transfer-Encoding: chunked"], "a\r\nhello"),
        framed(POST, &["Transfer-Encoding: chunked"], "5\r\nhello\r\n"),
    ] {
        let mut client = pair.connect();
        client.begin(bytes);
        client.half_close();
        let answer = client.answer();
        assert_eq!((answer.status(), answer.outcome()), (400, "not-sent"));
    }
    assert_eq!(pair.upstream.connection_count(), 0);
    let mut client = pair.connect();
    let length = format!("Content-Length: {}", long().len() + 1);
    client.begin(framed(POST, &[&length], &long()));
    eventually("its beginning at MODEN", || {
        (pair.upstream.connection_count() == 1).then_some(())
    });
    client.half_close();
    // The cores write in no order among each other.
    let lines = pair.gateway.await_log_lines(4);
    let unknown = lines.iter().filter(|line| line["outcome"] == "unknown");
    assert_eq!(unknown.count(), 1);
    assert!(pair.upstream.requests().is_empty(), "none looked whole");
}

/// RFC 9112, 6.3
///
/// MUST: read the content of any method that has a framing for it.
///
/// Here: the body of a GET is its body and is sent on with its length; it is never a request.
#[test]
fn rfc9112_6_3_the_body_of_a_get_is_a_body() {
    let pair = Pair::start();
    let length = format!("Content-Length: {}", SMUGGLED.len());
    let sent = pair.serves(framed("GET /pay/echo/a", &[&length], SMUGGLED));
    assert_eq!(sent.body, SMUGGLED.as_bytes());
    assert_eq!(sent.field("content-length"), SMUGGLED.len().to_string());
    assert_eq!(pair.upstream.requests().len(), 1);
}

/// RFC 9112, 6.3
///
/// MUST: take an answer without a length or chunks for as long as its connection lasts.
///
/// Here: read to the end, which is complete in clear text and with TLS after close_notify; a client of
/// HTTP/1.1 gets it with a length or in chunks.
#[test]
fn rfc9112_6_3_an_answer_without_framing_lasts_until_the_end() {
    for (content, framing) in [
        ("{}".to_owned(), "content-length"),
        (long(), "transfer-encoding"),
    ] {
        let pair = Pair::hanging_up_after(format!("HTTP/1.1 200 OK\r\n\r\n{content}"));
        let mut client = pair.connect();
        let answer = client.exchange(payment("a"));
        assert!(answer.body == content.as_bytes());
        assert_eq!(answer.all(framing).len(), 1);
        assert_eq!(client.exchange(payment("b")).status(), 200, "it lives on");
    }
}

/// RFC 9112, 7.1
///
/// MUST: recognize chunk sizes that overflow, and not wrap around.
///
/// Here: 400 and closed; so are sizes that are no hexadecimal number, and data that does not end where
/// its size says.
#[test]
fn rfc9112_7_1_a_chunk_size_that_cannot_be_is_refused() {
    let pair = Pair::start();
    for body in [
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5g\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloXX\r\n0\r\n\r\n",
        "4\r\nhello\r\n0\r\n\r\n",
    ] {
        let bytes = framed(POST, &["Transfer-Encoding: chunked"], body);
        pair.refuses_and_closes(bytes, 400, "request-malformed");
    }
    let sound = "00005\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n";
    let sent = pair.serves(framed(POST, &["Transfer-Encoding: chunked"], sound));
    assert_eq!(sent.body, b"hello0123456789");
}

/// RFC 9112, 7.1.1
///
/// MUST: ignore chunk extensions that are not known.
///
/// Here: ignored and never passed on.
#[test]
fn rfc9112_7_1_1_chunk_extensions_are_ignored() {
    let pair = Pair::start();
    let body = "2;a\r\n{}\r\n1;b=c;d=\"e;f\"\r\n \r\n0;g\r\n\r\n";
    let sent = pair.serves(framed(POST, &["Transfer-Encoding: chunked"], body));
    assert_eq!(sent.body, b"{} ");
}

/// RFC 9112, 7.1.1
///
/// SHOULD: limit the total length of chunk extensions, and answer 4xx beyond it.
///
/// Here: 400 and closed, in one extension or in many.
#[test]
fn rfc9112_7_1_1_chunk_extensions_are_limited() {
    let pair = Pair::start();
    let one = format!("2;{}\r\n{{}}\r\n0\r\n\r\n", "a".repeat(20_000));
    let many = format!("{}0\r\n\r\n", "1;aaaaaaaaaaaaaaa\r\nx\r\n".repeat(2_000));
    for body in [one, many] {
        let bytes = framed(POST, &["Transfer-Encoding: chunked"], &body);
        pair.refuses_and_closes(bytes, 400, "request-malformed");
    }
}

/// RFC 9112, 7.1.2
///
/// MAY: discard trailers.
///
/// Here: discarded; too long ones, and lines that are no field, are 400 and closed.
#[test]
fn rfc9112_7_1_2_trailers_are_discarded_and_limited() {
    let pair = Pair::start();
    let chunked = ["Transfer-Encoding: chunked"];
    let sent = pair.serves(framed(POST, &chunked, "2\r\n{}\r\n0\r\nX-T: t\r\n\r\n"));
    assert!(sent.all("x-t").is_empty());
    let long = format!("0\r\nX-T: {}\r\n\r\n", "t".repeat(20_000));
    let many = format!("0\r\n{}\r\n", "X-T: t\r\n".repeat(5_000));
    for body in [&*long, &many, "0\r\nX-T\r\n\r\n", "0\r\nX-T: t\0\r\n\r\n"] {
        let bytes = framed(POST, &chunked, body);
        pair.refuses_and_closes(bytes, 400, "request-malformed");
    }
}

/// RFC 9112, 8
///
/// MUST NOT: make an incomplete answer look complete.
///
/// Here: a held one becomes a 502 or 504, `unknown`; a streamed one is cut off with a reset, chunks without
/// their end, and `unknown` in the log.
#[test]
fn rfc9112_8_an_incomplete_answer_never_looks_whole() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}".to_owned(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Le".to_owned(),
    ] {
        let pair = Pair::hanging_up_after(&answer);
        let answer = pair.exchange(payment("a"));
        assert_eq!((answer.status(), answer.outcome()), (502, "unknown"));
    }
    let length = long().len();
    for head in [
        format!("Content-Length: {}\r\n\r\n", length + 1),
        format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n"),
    ] {
        let pair = Pair::hanging_up_after(format!("HTTP/1.1 200 OK\r\n{head}{}", long()));
        for version in ["1.1", "1.0"] {
            let mut client = pair.connect();
            client.begin(format!(
                "{POST} HTTP/{version}\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
            ));
            let cut = client.try_answer().expect_err("it is cut");
            assert!(
                matches!(
                    cut.error.kind(),
                    ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof
                ),
                "{cut:?}"
            );
        }
        for line in pair.gateway.await_log_lines(2) {
            assert_eq!(line["outcome"], "unknown");
        }
    }
}

/// RFC 9112, 9.3
///
/// MUST: read the whole body of a request that was answered early, or close the connection.
///
/// Here: a short body that is there is read, and the next request served; a long one, and one that does
/// not come, ends with `Connection: close`. None is read as a request.
#[test]
fn rfc9112_9_3_the_body_of_a_refused_request_is_no_request() {
    let pair = Pair::start();
    let length = format!("Content-Length: {}", SMUGGLED.len());
    let mut client = pair.connect();
    let refused = client.exchange(framed("POST /elsewhere", &[&length], SMUGGLED));
    assert_eq!(refused.status(), 404);
    assert!(refused.all("connection").is_empty());
    assert_eq!(client.exchange(payment("a")).status(), 200);
    assert_eq!(pair.upstream.requests().len(), 1, "nothing was smuggled");

    let body = SMUGGLED.repeat(3_000);
    let length = format!("Content-Length: {}", body.len());
    let mut client = pair.connect();
    client.begin(head("POST /elsewhere", &[&length]));
    let refused = client.answer();
    assert_eq!(
        (refused.status(), refused.field("connection")),
        (404, "close")
    );
    // It may be closed before all of this is written.
    let _ = client.try_write(&body);
    assert!(client.rest().is_empty());
    assert_eq!(pair.upstream.requests().len(), 1, "nothing was smuggled");
}

/// RFC 9112, 9.3
///
/// MUST: keep a connection of HTTP/1.0 only where the client asks for it.
///
/// Here: closed, unless `Connection: keep-alive` asks; then the reply says that it was heard.
#[test]
fn rfc9112_9_3_http_1_0_is_kept_only_if_asked() {
    let pair = Pair::start();
    let request = |fields: &str| format!("{POST} HTTP/1.0\r\n{fields}Content-Length: 0\r\n\r\n");
    let mut client = pair.connect();
    assert_eq!(client.exchange(request("")).status(), 200);
    assert!(client.rest().is_empty(), "closed");
    let mut client = pair.connect();
    for _ in 0..2 {
        let answer = client.exchange(request("Connection: keep-alive\r\n"));
        assert_eq!(
            answer.field("connection").to_ascii_lowercase(),
            "keep-alive"
        );
    }
}

/// RFC 9112, 6.1
///
/// MUST NOT: send Transfer-Encoding to a client of HTTP/1.0.
///
/// Here: an answer of unknown length goes until the connection ends, even where keep-alive was asked.
#[test]
fn rfc9112_6_1_http_1_0_gets_no_chunks() {
    let chunked = format!("{:x}\r\n{}\r\n0\r\n\r\n", long().len(), long());
    let pair = Pair::answering(format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}"
    ));
    let request = format!("{POST} HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n");
    let answer = pair.exchange(request);
    assert!(answer.all("transfer-encoding").is_empty());
    assert!(answer.all("content-length").is_empty());
    assert!(answer.body == long().as_bytes());
    let lines = pair.gateway.await_log_lines(1);
    assert_eq!(lines[0]["outcome"], "answered");
}

/// RFC 9112, 9.3.2
///
/// MUST: answer pipelined requests in their order.
///
/// Here: nothing of a request is looked at before the reply to the one before it is written, so a POST
/// never runs beside another of its connection.
#[test]
fn rfc9112_9_3_2_pipelined_requests_run_one_after_the_other() {
    let upstream = ScriptedUpstream::start(|mut conversation| {
        while let Some(request) = conversation.request() {
            let id = request.field("x-request-id").to_owned();
            conversation.answer(&format!("{{\"id\":\"{id}\"}}"));
        }
    });
    let pair = Pair::before(upstream, |builder| builder.threads(1));
    let mut client = pair.connect();
    let requests: Vec<_> = (0..20).map(|number| payment(&number.to_string())).collect();
    client.begin(requests.concat());
    for number in 0..20 {
        let answer = client.answer();
        assert_eq!(answer.json()["id"], number.to_string());
        assert_eq!(answer.field("x-request-id"), number.to_string());
    }
    assert_eq!(pair.upstream.connection_count(), 1, "never two at once");
}

/// RFC 9112, 9.3.2
///
/// SHOULD NOT: pipeline behind a request of a non-idempotent method before its final status is there.
///
/// Here: nothing is ever pipelined to MODEN: one request at a time for each connection.
#[test]
fn rfc9112_9_3_2_nothing_is_pipelined_to_moden() {
    let upstream = ScriptedUpstream::start(|mut conversation| {
        while conversation.request().is_some() {
            let socket = conversation.socket();
            socket.set_nonblocking(true).expect("a socket");
            let next = socket.peek(&mut [0]);
            socket.set_nonblocking(false).expect("a socket");
            let kind = next.expect_err("nothing behind the request").kind();
            assert_eq!(kind, ErrorKind::WouldBlock);
            conversation.answer("{}");
        }
    });
    let pair = Pair::before(upstream, |builder| builder.threads(1));
    let mut client = pair.connect();
    let requests: Vec<_> = (0..5).map(|number| payment(&number.to_string())).collect();
    client.begin(requests.concat());
    for _ in 0..5 {
        assert_eq!(client.answer().status(), 200);
    }
}

/// RFC 9112, 9.6
///
/// MUST: close after the answer to a request with `Connection: close`, and say close with it.
///
/// Here: so done; MODEN's `Connection: close` ends its connection and not the client's.
#[test]
fn rfc9112_9_6_close_is_obeyed_and_said() {
    let pair =
        Pair::answering("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}");
    let mut client = pair.connect();
    for count in 1..=2 {
        let answer = client.exchange(payment("a"));
        assert!(answer.all("connection").is_empty(), "{answer:?}");
        assert_eq!(pair.upstream.connection_count(), count);
    }
    let fields = [("Connection", "close")];
    let answer = client.exchange(post("/pay/gateway", &fields, "{}"));
    assert_eq!(
        (answer.status(), answer.field("connection")),
        (200, "close")
    );
    assert!(client.rest().is_empty(), "closed");
}

/// RFC 9112, 9.6
///
/// MUST NOT: read further requests behind one with close.
///
/// Here: what follows is never looked at.
#[test]
fn rfc9112_9_6_nothing_behind_close_is_read() {
    let pair = Pair::start();
    let mut client = pair.connect();
    let last = post("/pay/gateway", &[("Connection", "close")], "{}");
    client.begin([last, payment("never")].concat());
    assert_eq!(client.answer().status(), 200);
    assert!(client.rest().is_empty());
    assert_eq!(pair.upstream.requests().len(), 1);
}

/// RFC 9112, 9.6
///
/// SHOULD: close in stages, so that a last answer is not lost to a reset.
///
/// Here: the sending side is closed first, and what the client still sends is read and thrown away, up to
/// a bound; so 413 and its like arrive.
#[test]
fn rfc9112_9_6_a_last_answer_is_not_lost_to_a_reset() {
    let pair = Pair::with(FINE, |builder| {
        builder.listener("max_body_bytes = \"64KiB\"")
    });
    let body = long().repeat(5);
    let length = format!("Content-Length: {}", body.len());
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    for request in [
        framed(POST, &[&length], &body),
        framed(POST, &["Transfer-Encoding: chunked"], &chunked),
    ] {
        for _ in 0..10 {
            let mut client = pair.connect();
            // Without listening before all is written, as careless clients do.
            let _ = client.try_write(&request);
            let answer = client.try_answer().expect("the answer arrives");
            assert_eq!((answer.status(), &*answer.code()), (413, "body-too-large"));
        }
    }
}
