//! Forwarding and fields: RFC 9110.

use std::sync::{Arc, OnceLock};

use super::{FINE, Pair, framed, head};
use crate::support::{AUTHORIZATION, Client, ScriptedUpstream, TestGateway, payment, post};

/// RFC 9110, 4.2.4
///
/// SHOULD: treat user information in an http URI as an error.
///
/// Here: 400 `request-malformed`, in an absolute target and in `Host`.
#[test]
fn rfc9110_4_2_4_user_information_is_refused() {
    let pair = Pair::start();
    for target in [
        "http://user@gateway.test/pay/gateway",
        "http://gateway.test@evil.example/pay/gateway",
        "http://:@gateway.test/pay/gateway",
    ] {
        let request = head(&format!("POST {target}"), &["Content-Length: 0"]);
        pair.refuses(request, 400, "request-malformed");
    }
    let host = "POST /pay/gateway HTTP/1.1\r\nHost: a@b\r\nContent-Length: 0\r\n\r\n";
    pair.refuses(host, 400, "request-malformed");
    pair.serves(head(
        "POST http://gateway.test/pay/gateway",
        &["Content-Length: 0"],
    ));
}

/// RFC 9110, 5.1
///
/// MUST: forward fields that are not known, unless they are blocked by configuration.
///
/// Here: they pass both ways.
#[test]
fn rfc9110_5_1_unknown_fields_pass_both_ways() {
    let pair = Pair::answering("HTTP/1.1 200 OK\r\nX-Of-Moden: b\r\nContent-Length: 2\r\n\r\n{}");
    let answer = pair.exchange(post("/pay/gateway", &[("X-Of-The-Client", "a")], "{}"));
    assert_eq!(answer.field("x-of-moden"), "b");
    assert_eq!(pair.last().field("x-of-the-client"), "a");
}

/// RFC 9110, 5.3
///
/// MUST NOT: change the order of field lines of one name.
///
/// Here: lines stay lines, in their order, both ways.
#[test]
fn rfc9110_5_3_lines_of_one_name_keep_their_order() {
    let pair = Pair::answering(
        "HTTP/1.1 200 OK\r\nX-B: 1\r\nX-C: -\r\nx-b: 2, 3\r\nX-B: 4\r\nContent-Length: 2\r\n\r\n{}",
    );
    let fields = [("X-A", "1"), ("X-D", "-"), ("x-a", "2, 3"), ("X-A", "4")];
    let answer = pair.exchange(post("/pay/gateway", &fields, "{}"));
    assert_eq!(pair.last().all("x-a"), ["1", "2, 3", "4"]);
    assert_eq!(answer.all("x-b"), ["1", "2, 3", "4"]);
}

/// RFC 9110, 5.5
///
/// MUST: reject CR, LF and NUL in a field value, or replace them by SP.
///
/// Here: rejected with 400, and the connection is closed; an answer of MODEN's with NUL in it is 502.
#[test]
fn rfc9110_5_5_controls_in_a_value_are_refused() {
    let pair = Pair::start();
    for field in ["X-A: a\0b", "X-A: a\rb", "X-A: a\nb", "X-A: a\nX-B: b"] {
        let request = framed("POST /pay/gateway", &[field, "Content-Length: 0"], "");
        pair.refuses_and_closes(request, 400, "request-malformed");
    }
    let pair = Pair::answering("HTTP/1.1 200 OK\r\nX-A: a\0b\r\nContent-Length: 2\r\n\r\n{}");
    let answer = pair.exchange(payment("a"));
    assert_eq!(
        (answer.status(), &*answer.code()),
        (502, "upstream-invalid")
    );
}

/// RFC 9110, 5.5
///
/// MUST: leave out whitespace around a field value before it is used.
///
/// Here: so done, for lengths and hosts as for what is passed on.
#[test]
fn rfc9110_5_5_whitespace_around_values_is_left_out() {
    let pair = Pair::start();
    let request = "POST /pay/gateway HTTP/1.1\r\nHost: \t gateway.test \t\r\nContent-Length:\t2 \r\n\
                   X-A: \t a b \t\r\nConnection:\tX-B \r\nX-B: 1\r\n\r\n{}";
    let sent = pair.serves(request);
    assert_eq!(sent.field("x-a"), "a b");
    assert_eq!(sent.body, b"{}");
    assert!(sent.all("x-b").is_empty());
}

/// RFC 9110, 6.5.1
///
/// MUST NOT: merge trailers into the fields of the head.
///
/// Here: trailers are discarded, both ways, whatever they name.
#[test]
fn rfc9110_6_5_1_trailers_are_discarded() {
    let trailers = "Authorization: Basic eA==\r\nContent-Length: 9\r\nHost: evil\r\nX-T: t\r\n";
    let pair = Pair::answering(format!(
        "HTTP/1.1 200 OK\r\nTrailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n\
         2\r\n{{}}\r\n0\r\nGateway-Outcome: unknown\r\n{trailers}\r\n"
    ));
    let fields = ["Transfer-Encoding: chunked", "Trailer: Authorization, X-T"];
    let body = format!("2\r\n{{}}\r\n0\r\n{trailers}\r\n");
    let answer = pair.exchange(framed("POST /pay/gateway", &fields, &body));
    assert_eq!(answer.outcome(), "answered");
    assert_eq!(answer.body, b"{}");
    assert!(answer.all("x-t").is_empty() && answer.all("trailer").is_empty());
    let sent = pair.last();
    assert_eq!(sent.field("authorization"), AUTHORIZATION);
    assert_eq!(sent.field("content-length"), "2");
    assert_eq!(sent.field("host"), pair.upstream.address().to_string());
    assert!(sent.all("x-t").is_empty() && sent.all("trailer").is_empty());
}

/// RFC 9110, 6.6.1
///
/// MUST: put a Date on one's own answers 2xx, 3xx and 4xx.
///
/// Here: on every reply, 5xx included.
#[test]
fn rfc9110_6_6_1_own_replies_have_a_date() {
    let pair = Pair::with(FINE, |builder| {
        builder.listener("max_body_bytes = \"1KiB\"")
    });
    for (request, status) in [
        (head("OPTIONS *", &[]), 204),
        (head("GET /elsewhere", &[]), 404),
        (head("POST /pay/gateway", &["Content-Length: 1025"]), 413),
        (head("POST /pay/gateway", &["Content-Length: x"]), 400),
        (head("BREW /pay/gateway", &[]), 501),
    ] {
        let answer = pair.exchange(request);
        assert_eq!(answer.status(), status);
        assert_is_date(answer.field("date"));
    }
}

/// RFC 9110, 6.6.1
///
/// MUST: add a Date to an answer that came without one, if it is forwarded.
///
/// Here: added where it is missing, passed on where it is there.
#[test]
fn rfc9110_6_6_1_an_answer_without_a_date_gets_one() {
    assert_is_date(Pair::start().exchange(payment("a")).field("date"));
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    let pair = Pair::answering(format!(
        "HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Length: 2\r\n\r\n{{}}"
    ));
    assert_eq!(pair.exchange(payment("a")).field("date"), date);
}

#[track_caller]
fn assert_is_date(text: &str) {
    let date = httpdate::parse_http_date(text).expect("an IMF-fixdate");
    assert_eq!(httpdate::fmt_http_date(date), text);
    let age = date.elapsed().unwrap_or_default();
    assert!(age.as_secs() < 60, "{text} is {age:?} old");
}

/// RFC 9110, 7.2
///
/// MUST: send the authority of the target in Host.
///
/// Here: the authority of `base_url`, always; the client's Host goes nowhere.
#[test]
fn rfc9110_7_2_the_host_sent_is_the_configured_one() {
    let pair = Pair::start();
    let origin = pair.upstream.address().to_string();
    for host in ["evil.example", "api.modenpay.io:443", "[::1]:80", ""] {
        let request =
            format!("POST /pay/gateway HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n");
        let sent = pair.serves(request);
        assert_eq!(sent.all("host"), [&origin]);
        assert_eq!(sent.target(), "/pay/sandbox/gateway", "origin-form");
    }
    let absolute = head(
        "POST http://evil.example/pay/gateway",
        &["Content-Length: 0"],
    );
    assert_eq!(pair.serves(absolute).all("host"), [&origin]);
    assert!(pair.upstream.requests().len() == 5, "all to the one origin");
}

/// RFC 9110, 7.6
///
/// MUST NOT: forward a message to itself.
///
/// Here: a request whose Via has our pseudonym is 508 `loop-detected`, so a `base_url` that leads back
/// here ends after one round.
#[test]
fn rfc9110_7_6_a_loop_ends_after_one_round() {
    let gateway_address = Arc::new(OnceLock::new());
    let told = Arc::clone(&gateway_address);
    // A way back to the gateway, as a wrong `base_url` would be one.
    let upstream = ScriptedUpstream::start(move |mut conversation| {
        while let Some(request) = conversation.request() {
            let via = request.all("via").join(", ");
            let fields = [("Via", via.as_str())];
            let mut client = Client::connect(*told.get().expect("it is told"));
            let answer = client.exchange(post("/pay/gateway", &fields, "{}"));
            let code = answer.code();
            conversation.answer(&format!("{{\"inner\":\"{code}\"}}"));
        }
    });
    let gateway = TestGateway::builder().scripted(&upstream).start();
    gateway_address.set(gateway.address()).expect("told once");
    let answer = gateway.exchange(payment("a"));
    assert_eq!(answer.json()["inner"], "loop-detected");
    drop(gateway);
    assert_eq!(upstream.requests().len(), 1);
}

/// RFC 9110, 7.6.1
///
/// MUST: remove every field that any Connection line of a request names, and Connection itself.
///
/// Here: removed before the credential and Host are set, so that a client can have neither removed.
#[test]
fn rfc9110_7_6_1_every_connection_line_of_a_request_is_obeyed() {
    let pair = Pair::start();
    let fields = [
        "Connection: close, X-One",
        "X-One: 1",
        "X-Two: 2",
        "cOnNeCtIoN: x-tWO , Authorization,host,content-length",
        "X-Kept: 3",
        "Content-Length: 2",
        "Connection: \t, ,connection, via",
    ];
    let sent = pair.serves(framed("POST /pay/gateway", &fields, "{}"));
    for name in ["connection", "x-one", "x-two"] {
        assert!(sent.all(name).is_empty(), "{name}");
    }
    assert_eq!(sent.all("authorization"), [AUTHORIZATION]);
    assert_eq!(sent.all("host"), [pair.upstream.address().to_string()]);
    assert_eq!(sent.all("content-length"), ["2"]);
    assert_eq!(sent.all("via"), ["1.1 moden-gateway"]);
    assert_eq!(sent.all("x-kept"), ["3"]);
}

/// RFC 9110, 7.6.1
///
/// MUST: remove every field that any Connection line of an answer names, and Connection itself.
///
/// Here: removed; the verdict on the reply is set afterwards.
#[test]
fn rfc9110_7_6_1_every_connection_line_of_an_answer_is_obeyed() {
    let pair = Pair::answering(
        "HTTP/1.1 200 OK\r\nConnection: X-One\r\nX-One: 1\r\nX-Two: 2\r\nX-Kept: 3\r\n\
         connection: x-two, gateway-outcome\r\nContent-Length: 2\r\n\r\n{}",
    );
    let answer = pair.exchange(payment("a"));
    for name in ["connection", "x-one", "x-two"] {
        assert!(answer.all(name).is_empty(), "{name}");
    }
    assert_eq!(answer.all("x-kept"), ["3"]);
    assert_eq!(answer.outcome(), "answered");
}

/// RFC 9110, 7.6.1
///
/// SHOULD: remove Proxy-Connection, Keep-Alive, TE, Transfer-Encoding and Upgrade even where Connection
/// does not name them.
///
/// Here: removed both ways, named or not.
#[test]
fn rfc9110_7_6_1_fields_of_one_hop_end_here_unnamed() {
    let pair = Pair::answering(
        "HTTP/1.1 200 OK\r\nProxy-Connection: keep-alive\r\nKeep-Alive: timeout=5\r\nUpgrade: h2c\r\n\
         TE: trailers\r\nContent-Length: 2\r\n\r\n{}",
    );
    let fields = [
        ("Proxy-Connection", "keep-alive"),
        ("Keep-Alive", "timeout=5"),
        ("TE", "trailers"),
        ("Upgrade", "websocket"),
    ];
    let answer = pair.exchange(post("/pay/gateway", &fields, "{}"));
    let sent = pair.last();
    for name in ["proxy-connection", "keep-alive", "te", "upgrade"] {
        assert!(sent.all(name).is_empty(), "{name} reached MODEN");
        assert!(answer.all(name).is_empty(), "{name} reached the client");
    }
    let chunked = framed(
        "POST /pay/gateway",
        &["Transfer-Encoding: chunked"],
        "0\r\n\r\n",
    );
    assert!(pair.serves(chunked).all("transfer-encoding").is_empty());
}

/// RFC 9110, 7.6.2
///
/// MUST: answer OPTIONS with Max-Forwards 0 as its last recipient, and not forward it.
///
/// Here: 204 with the methods of the path in Allow, `not-sent`; where no route allows OPTIONS, 405 as
/// without the field. TRACE is 405 in any case.
#[test]
fn rfc9110_7_6_2_options_with_no_hop_left_is_answered_here() {
    let pair = Pair::start();
    let answer = pair.exchange(head("OPTIONS /pay/echo/a", &["Max-Forwards: 0"]));
    assert_eq!((answer.status(), answer.outcome()), (204, "not-sent"));
    let methods = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT";
    assert_eq!(answer.field("allow"), methods);
    assert!(answer.all("content-length").is_empty());
    assert_eq!(pair.upstream.connection_count(), 0);
    let refused = pair.exchange(head("OPTIONS /pay/gateway", &["Max-Forwards: 0"]));
    assert_eq!(refused.code(), "method-not-allowed");
    let trace = pair.exchange(head("TRACE /pay/echo/a", &["Max-Forwards: 0"]));
    assert_eq!(trace.code(), "method-not-allowed");
    let lines = pair.gateway.await_log_lines(3);
    let ours = lines.iter().find(|line| line["status"] == 204);
    assert_eq!(ours.expect("it has its line")["outcome"], "not-sent");
}

/// RFC 9110, 7.6.2
///
/// MUST: send OPTIONS on with Max-Forwards one lower, and add none where there is none.
///
/// Here: so done; a value that is no number is 400, and other methods keep theirs.
#[test]
fn rfc9110_7_6_2_max_forwards_is_counted_down() {
    let pair = Pair::start();
    for (received, sent) in [("1", "0"), ("10", "9"), ("007", "6")] {
        let field = format!("Max-Forwards: {received}");
        let arrived = pair.serves(head("OPTIONS /pay/echo/a", &[&field]));
        assert_eq!(arrived.all("max-forwards"), [sent]);
    }
    let huge = format!("Max-Forwards: {}", "9".repeat(40));
    let arrived = pair.serves(head("OPTIONS /pay/echo/a", &[&huge]));
    assert_eq!(arrived.all("max-forwards"), [(u64::MAX - 1).to_string()]);
    let without = pair.serves(head("OPTIONS /pay/echo/a", &[]));
    assert!(without.all("max-forwards").is_empty());
    let of_a_post = pair.serves(post("/pay/gateway", &[("Max-Forwards", "5")], "{}"));
    assert_eq!(of_a_post.all("max-forwards"), ["5"]);
    for fields in [
        &["Max-Forwards: -1"][..],
        &["Max-Forwards: x"],
        &["Max-Forwards:"],
        &["Max-Forwards: 1", "Max-Forwards: 1"],
    ] {
        let request = head("OPTIONS /pay/echo/a", fields);
        pair.refuses(request, 400, "request-malformed");
    }
}

/// RFC 9110, 7.6.3
///
/// MUST: append a member to Via of a request, with the version in which it was received.
///
/// Here: on a line of its own behind those that are there, which stay as they are.
#[test]
fn rfc9110_7_6_3_via_is_appended_with_the_version_received() {
    let pair = Pair::start();
    let sent = pair.serves(post(
        "/pay/gateway",
        &[("Via", "1.0 fred, 2 p.example")],
        "{}",
    ));
    let expected = ["1.0 fred, 2 p.example", "1.1 moden-gateway"];
    assert_eq!(sent.all("via"), expected);
    let old = "POST /pay/gateway HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(pair.serves(old).all("via"), ["1.0 moden-gateway"]);
}

/// RFC 9110, 7.6.3
///
/// SHOULD: name an intermediary inside a firewall by a pseudonym.
///
/// Here: `moden-gateway`, in Via of requests and in Proxy-Status; no host, port or version of software. Replies
/// get no Via, which is a MAY.
#[test]
fn rfc9110_7_6_3_via_tells_a_pseudonym_only() {
    let pair = Pair::start();
    let answer = pair.exchange(payment("a"));
    assert_eq!(pair.last().field("via"), "1.1 moden-gateway");
    assert!(
        answer.all("via").is_empty(),
        "which may be, and tells clients nothing"
    );
    let refused = pair.exchange(head("GET /elsewhere", &[]));
    let status = refused.field("proxy-status");
    assert_eq!(status.split(';').next(), Some("moden-gateway"));
    assert!(refused.all("server").is_empty());
}

/// RFC 9110, 7.7
///
/// MUST NOT: change path and query of a target, other than to map it by configuration.
///
/// Here: what follows `/pay` is sent byte for byte below the base URL's path; what could be read in two
/// ways is refused, never normalized.
#[test]
fn rfc9110_7_7_path_and_query_are_sent_byte_for_byte() {
    let pair = Pair::start();
    for rest in [
        "/echo/a-b._~/C",
        "/echo/a?",
        "/echo/a?x=%2F%2f..%2e/../;@&=+$,'()*!~",
        "/echo/a?a=b?c=/d",
    ] {
        let sent = pair.serves(head(&format!("GET /pay{rest}"), &[]));
        assert_eq!(sent.target(), format!("/pay/sandbox{rest}"));
    }
    for path in ["/pay/echo/a%2Fb", "/pay/echo//a", "/pay/echo/./a"] {
        pair.refuses(head(&format!("GET {path}"), &[]), 400, "path-ambiguous");
    }
}

/// RFC 9110, 7.7
///
/// MUST NOT: transform content of a message with `no-transform`.
///
/// Here: no content is ever transformed or decoded, with or without it.
#[test]
fn rfc9110_7_7_content_is_never_transformed() {
    // Neither is gzip, whatever its field says.
    let content = "\u{1f}no gzip at all";
    let length = content.len();
    let pair = Pair::answering(format!(
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {length}\r\n\r\n{content}"
    ));
    let fields = [
        ("Content-Encoding", "gzip"),
        ("Cache-Control", "no-transform"),
    ];
    let answer = pair.exchange(post("/pay/gateway", &fields, content));
    assert_eq!(answer.field("content-encoding"), "gzip");
    assert_eq!(answer.body, content.as_bytes());
    let sent = pair.last();
    assert_eq!(sent.field("content-encoding"), "gzip");
    assert_eq!(sent.field("cache-control"), "no-transform");
    assert_eq!(sent.body, content.as_bytes());
}

/// RFC 9110, 7.8
///
/// MAY: ignore Upgrade.
///
/// Here: ignored and not passed on, because Java's client offers h2c on every first request; what
/// follows is HTTP/1.1.
#[test]
fn rfc9110_7_8_an_upgrade_is_ignored() {
    let pair = Pair::start();
    let fields = [
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAAQAAP__",
        "Content-Length: 0",
    ];
    let mut client = pair.connect();
    let answer = client.exchange(head("POST /pay/gateway", &fields));
    assert_eq!((answer.status(), answer.outcome()), (200, "answered"));
    let sent = pair.last();
    for name in ["upgrade", "connection", "http2-settings"] {
        assert!(sent.all(name).is_empty(), "{name}");
    }
    assert_eq!(client.exchange(payment("a")).status(), 200);
}

/// RFC 9110, 8.6
///
/// MUST NOT: forward a Content-Length that is known to be wrong.
///
/// Here: the length is that of the body as received, whatever its framing was.
#[test]
fn rfc9110_8_6_the_length_sent_is_that_of_the_body() {
    let pair = Pair::start();
    let chunked = "1\r\na\r\n3;x\r\nbcd\r\n0\r\n\r\n";
    let sent = pair.serves(framed(
        "POST /pay/gateway",
        &["Transfer-Encoding: chunked"],
        chunked,
    ));
    assert_eq!(
        (sent.field("content-length"), &*sent.body),
        ("4", &b"abcd"[..])
    );
    let sent = pair.serves(framed(
        "POST /pay/gateway",
        &[
            "Content-Length: 2",
            "Content_Length: 9",
            "Content.Length: 9",
        ],
        "{}",
    ));
    assert_eq!(sent.all("content-length"), ["2"]);
    assert!(sent.all("content_length").is_empty(), "no twin passes");
    assert!(sent.all("content.length").is_empty(), "no twin passes");
}

/// RFC 9110, 8.6
///
/// SHOULD: send `Content-Length: 0` with an empty POST.
///
/// Here: with POST, PUT and PATCH; not with methods that usually have no content.
#[test]
fn rfc9110_8_6_an_empty_post_says_that_it_is_empty() {
    let pair = Pair::start();
    for method in ["POST", "PUT", "PATCH"] {
        let sent = pair.serves(head(&format!("{method} /pay/echo/a"), &[]));
        assert_eq!(sent.all("content-length"), ["0"], "{method}");
    }
    for method in ["GET", "DELETE", "OPTIONS"] {
        let sent = pair.serves(head(&format!("{method} /pay/echo/a"), &[]));
        assert!(sent.all("content-length").is_empty(), "{method}");
    }
}

/// RFC 9110, 8.6
///
/// MAY: announce with HEAD the length of what GET would have brought.
///
/// Here: passed on as MODEN says it, and no content is awaited.
#[test]
fn rfc9110_8_6_an_answer_to_head_keeps_its_length() {
    let pair = Pair::answering("HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n");
    let mut client = pair.connect();
    for _ in 0..2 {
        let answer = client.exchange(head("HEAD /pay/echo/a", &[]));
        assert_eq!(answer.field("content-length"), "12345");
        assert_eq!(answer.outcome(), "answered");
    }
}

/// RFC 9110, 9.1
///
/// SHOULD: answer 501 to a method that is not known, and 405 to one that is known and not allowed.
///
/// Here: known are the methods of RFC 9110, PATCH and those that a route names; case counts.
#[test]
fn rfc9110_9_1_an_unknown_method_is_not_implemented() {
    let pair = Pair::with(FINE, |builder| {
        builder.tables(
            "[[routes]]\nname = \"reports\"\npath = \"/pay/reports/*\"\nmethods = [\"REPORT\"]\n",
        )
    });
    for method in ["BREW", "PROPFIND", "post", "Post", "X"] {
        let request = head(&format!("{method} /pay/gateway"), &["Content-Length: 0"]);
        pair.refuses(request, 501, "not-implemented");
    }
    pair.serves(head("REPORT /pay/reports/a", &[]));
    let known = head("REPORT /pay/echo/a", &[]);
    pair.refuses(known, 405, "method-not-allowed");
    for method in ["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"] {
        let answer = pair
            .gateway
            .exchange(head(&format!("{method} /pay/gateway"), &[]));
        assert_eq!(answer.status(), 405, "{method}");
    }
}

/// RFC 9110, 9.2.2
///
/// SHOULD NOT: repeat a request of a non-idempotent method by oneself, unless it is known that it was
/// never applied.
///
/// Here: a request of which a byte was offered to a socket is never sent again, whatever its method; it
/// is `unknown`.
#[test]
fn rfc9110_9_2_2_what_has_left_is_never_sent_again() {
    let upstream = ScriptedUpstream::start(|mut conversation| {
        // The first exchange of a connection is fine; after the second it is reset.
        if conversation.request().is_some() {
            conversation.say(FINE);
        }
        if conversation.request().is_some() {
            conversation.reset();
        }
    });
    let pair = Pair::before(upstream, |builder| builder.threads(1));
    let mut client = pair.connect();
    assert_eq!(client.exchange(payment("a")).outcome(), "answered");
    let lost = client.exchange(payment("b"));
    assert_eq!((lost.status(), lost.outcome()), (502, "unknown"));
    assert_eq!(pair.upstream.requests().len(), 2, "each once");
    assert_eq!(pair.upstream.connection_count(), 1);
}

/// RFC 9110, 9.3.6
///
/// MAY: refuse CONNECT.
///
/// Here: 405 in every form, and what follows is no tunnel.
#[test]
fn rfc9110_9_3_6_connect_opens_no_tunnel() {
    let pair = Pair::start();
    for target in ["gateway.test:443", "/pay/echo/a", "127.0.0.1:9090"] {
        let request = head(&format!("CONNECT {target}"), &[]);
        let answer = pair.refuses(request, 405, "method-not-allowed");
        assert!(!answer.field("allow").contains("CONNECT"));
    }
}

/// RFC 9110, 9.3.7
///
/// MAY: answer `OPTIONS *` for the server as a whole.
///
/// Here: 204 with the methods of all routes in Allow, `not-sent`; the connection goes on.
#[test]
fn rfc9110_9_3_7_options_for_the_gateway_itself() {
    let pair = Pair::start();
    let mut client = pair.connect();
    let answer = client.exchange(head("OPTIONS *", &[]));
    assert_eq!((answer.status(), answer.outcome()), (204, "not-sent"));
    let methods = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT";
    assert_eq!(answer.field("allow"), methods);
    let with_body = framed("OPTIONS *", &["Content-Length: 2"], "{}");
    assert_eq!(client.exchange(with_body).status(), 204);
    assert_eq!(client.exchange(payment("a")).outcome(), "answered");
    assert_eq!(pair.upstream.requests().len(), 1);
}

/// RFC 9110, 9.3.8
///
/// MUST NOT: send credentials in TRACE; an answer would show them.
///
/// Here: TRACE is 405 everywhere and never forwarded, not even by a route that names it.
#[test]
fn rfc9110_9_3_8_trace_is_never_forwarded() {
    let pair = Pair::start();
    for target in ["/pay/echo/a", "/pay/gateway", "http://a/pay/echo/a"] {
        let request = head(&format!("TRACE {target}"), &[]);
        let answer = pair.refuses(request, 405, "method-not-allowed");
        assert!(!answer.field("allow").contains("TRACE"));
    }
}

/// RFC 9110, 10.1.1
///
/// MAY: answer 417 to an expectation that cannot be met.
///
/// Here: 417 to everything but `100-continue`.
#[test]
fn rfc9110_10_1_1_an_unknown_expectation_is_417() {
    let pair = Pair::start();
    for value in ["y 100-continue", "100-continue, x", "something", "100"] {
        let request = post("/pay/gateway", &[("Expect", value)], "{}");
        pair.refuses(request, 417, "expectation-failed");
    }
    let sent = pair.serves(post("/pay/gateway", &[("Expect", "100-Continue")], "{}"));
    assert!(sent.all("expect").is_empty(), "it was answered here");
}

/// RFC 9110, 10.1.1
///
/// MUST: answer an expectation of 100-continue with a final status at once where the head decides, and
/// not wait for the content first.
///
/// Here: 404, 413, 429 and 503 come before any content, and no 100 before them.
#[test]
fn rfc9110_10_1_1_a_refusal_comes_before_the_content() {
    let pair = Pair::with(FINE, |builder| {
        builder.listener("max_body_bytes = \"1KiB\"").tables(
            "[[limits]]\nname = \"hourly\"\nrequests = 1\nper = [\"route\"]\nperiod = \"1h\"",
        )
    });
    assert_eq!(pair.exchange(payment("a")).status(), 200);
    for (target, length, status) in [
        ("/elsewhere", 2, 404),
        ("/pay/echo/a", 1_025, 413),
        ("/pay/gateway", 2, 429),
    ] {
        let mut client = pair.connect();
        let length = format!("Content-Length: {length}");
        let fields = ["Expect: 100-continue", &length];
        client.begin(head(&format!("POST {target}"), &fields));
        let answer = client.answer();
        assert_eq!(answer.status(), status);
        assert!(answer.interim.is_empty(), "{:?}", answer.interim);
    }
}

/// RFC 9110, 10.1.1
///
/// MUST: send 100 to a client that expects it, where its content is wanted.
///
/// Here: once the request is admitted, and before the content is waited for.
#[test]
fn rfc9110_10_1_1_100_is_sent_where_the_content_is_wanted() {
    let pair = Pair::start();
    let mut client = pair.connect();
    let fields = ["Expect: 100-continue", "Content-Length: 2"];
    client.begin(head("POST /pay/gateway", &fields));
    assert_eq!(
        read_exactly(&mut client, 25),
        b"HTTP/1.1 100 Continue\r\n\r\n"
    );
    client.write("{}");
    assert_eq!(client.answer().outcome(), "answered");
    assert!(pair.last().all("expect").is_empty());
}

fn read_exactly(client: &mut Client, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    let mut filled = 0;
    while filled < count {
        let room = bytes.get_mut(filled..).expect("there is room");
        match client.read_some(room).expect("the gateway answers") {
            0 => break,
            read => filled += read,
        }
    }
    bytes.truncate(filled);
    bytes
}

/// RFC 9110, 10.1.1
///
/// MUST: ignore a 100-continue expectation of HTTP/1.0.
///
/// Here: no 100 is sent, and no expectation of HTTP/1.0 is refused either.
#[test]
fn rfc9110_10_1_1_an_expectation_of_http_1_0_is_ignored() {
    let pair = Pair::start();
    for value in ["100-continue", "something"] {
        let answer = pair.exchange(format!(
            "POST /pay/gateway HTTP/1.0\r\nExpect: {value}\r\nContent-Length: 2\r\n\r\n{{}}"
        ));
        assert_eq!((answer.status(), answer.outcome()), (200, "answered"));
        assert!(answer.interim.is_empty(), "{:?}", answer.interim);
        assert!(pair.last().all("expect").is_empty());
    }
}

/// RFC 9110, 10.1.4
///
/// MUST: name TE in Connection where it is sent.
///
/// Here: no TE is sent, since trailers are not honored.
#[test]
fn rfc9110_10_1_4_no_te_is_sent() {
    let pair = Pair::start();
    for fields in [
        &[("TE", "trailers")][..],
        &[("TE", "trailers, deflate;q=0.5"), ("Connection", "TE")],
    ] {
        let sent = pair.serves(post("/pay/gateway", fields, "{}"));
        assert!(sent.all("te").is_empty() && sent.all("connection").is_empty());
    }
}

/// RFC 9110, 11.7.2
///
/// MUST: consume Proxy-Authorization at the first proxy that it is meant for.
///
/// Here: it ends here and is nobody's credential, as is Authorization of the client.
#[test]
fn rfc9110_11_7_2_proxy_authorization_ends_here() {
    let pair = Pair::start();
    let fields = [
        ("Proxy-Authorization", "Basic eDp5"),
        ("Proxy_Authorization", "Basic eDp5"),
        ("Authorization", "Basic eDp5"),
    ];
    let sent = pair.serves(post("/pay/gateway", &fields, "{}"));
    assert!(sent.all("proxy-authorization").is_empty());
    assert!(sent.all("proxy_authorization").is_empty());
    assert_eq!(sent.all("authorization"), [AUTHORIZATION]);
}

/// RFC 9110, 15.2
///
/// MUST NOT: send a 1xx answer to a client of HTTP/1.0.
///
/// Here: none, neither of our own nor of MODEN's.
#[test]
fn rfc9110_15_2_no_interim_answer_to_http_1_0() {
    let pair = Pair::answering(format!("HTTP/1.1 103 Early Hints\r\n\r\n{FINE}"));
    let answer = pair.exchange(
        "POST /pay/gateway HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
    );
    assert_eq!(answer.status(), 200);
    assert!(answer.interim.is_empty(), "{:?}", answer.interim);
}

/// RFC 9110, 15.2
///
/// MUST: be able to parse one or more 1xx answers before the final one, even unexpected.
///
/// Here: they are read and swallowed, as a gateway may that forwards to no proxy's client.
#[test]
fn rfc9110_15_2_interim_answers_are_read_and_swallowed() {
    let pair = Pair::answering(format!(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\nX-A: b\r\n\r\n\
         HTTP/1.1 199 Odd\r\n\r\n{FINE}"
    ));
    let mut client = pair.connect();
    for _ in 0..2 {
        let answer = client.exchange(payment("a"));
        assert_eq!((answer.status(), answer.outcome()), (200, "answered"));
        assert!(answer.interim.is_empty(), "{:?}", answer.interim);
        assert!(answer.all("x-a").is_empty());
    }
    assert_eq!(pair.upstream.connection_count(), 1);
}

/// RFC 9110, 15.2.2
///
/// MUST: send 101 only to a client that asked for the protocol.
///
/// Here: 101 is never relayed; MODEN's is 502 `upstream-invalid`, and its connection is given up.
#[test]
fn rfc9110_15_2_2_switching_protocols_is_never_relayed() {
    let pair = Pair::answering("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n");
    let fields = [("Connection", "upgrade"), ("Upgrade", "x")];
    let answer = pair.exchange(post("/pay/gateway", &fields, "{}"));
    assert_eq!(
        (answer.status(), &*answer.code()),
        (502, "upstream-invalid")
    );
    assert_eq!(answer.outcome(), "unknown");
    assert_eq!(pair.exchange(payment("a")).status(), 502);
    assert_eq!(pair.upstream.connection_count(), 2);
}

/// RFC 9110, 15.5.2
///
/// MUST: send a challenge with 401, which speaks to the one whose credential it is about.
///
/// Here: MODEN's 401 is about the injected credential, not the caller's: 502 `credential-rejected`,
/// without MODEN's challenge.
#[test]
fn rfc9110_15_5_2_a_rejected_credential_is_not_the_clients() {
    let pair = Pair::answering(
        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"moden\"\r\n\
         Content-Length: 2\r\n\r\n{}",
    );
    let answer = pair.exchange(payment("a"));
    assert_eq!(
        (answer.status(), &*answer.code()),
        (502, "credential-rejected")
    );
    assert_eq!(
        answer.outcome(),
        "answered",
        "and 401 says that nothing was applied"
    );
    assert!(answer.all("www-authenticate").is_empty());
    assert_eq!(pair.upstream.requests().len(), 1);
}

/// RFC 9110, 15.5.6
///
/// MUST: list the allowed methods in Allow with 405.
///
/// Here: those of all routes for the path; with CONNECT, which names no path, those of all routes.
#[test]
fn rfc9110_15_5_6_405_lists_the_allowed_methods() {
    let pair = Pair::start();
    let answer = pair.exchange(head("GET /pay/gateway", &[]));
    assert_eq!((answer.status(), answer.field("allow")), (405, "POST"));
    let answer = pair.exchange(head("TRACE /pay/echo/a", &[]));
    let methods = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT";
    assert_eq!((answer.status(), answer.field("allow")), (405, methods));
    let answer = pair.exchange(head("CONNECT a:1", &[]));
    assert_eq!((answer.status(), answer.field("allow")), (405, methods));
}
