//! Forwarded, trace context, problem documents, Proxy-Status, Basic, Idempotency-Key.

use std::collections::BTreeMap;

use moden_gateway::config::{self, LoadOptions};

use super::{FINE, Pair, framed, head};
use crate::support::{
    ClosedPort, Message, ScriptedUpstream, TestGateway, payment, post, write_private,
};

/// RFC 7239, 8.1
///
/// SHOULD: trust values of Forwarded only from hops that one trusts.
///
/// Here: nobody's is trusted, and neither are X-Forwarded-For and its like: who is limited, and what is
/// logged, is the address of the connection.
#[test]
fn rfc7239_8_1_nobody_can_be_somebody_else() {
    let limit = "[[limits]]\nname = \"each\"\nper = [\"client_ip\"]\nrequests = 1\nperiod = \"1h\"";
    let pair = Pair::with(FINE, |builder| builder.tables(limit));
    assert_eq!(pair.exchange(payment("a")).status(), 200);
    for (name, value) in [
        ("Forwarded", "for=192.0.2.1"),
        ("X-Forwarded-For", "192.0.2.1"),
        ("X-Real-IP", "192.0.2.1"),
    ] {
        let answer = pair.exchange(post("/pay/gateway", &[(name, value)], "{}"));
        assert_eq!(answer.status(), 429, "{name}");
    }
    for line in pair.gateway.await_log_lines(4) {
        let peer = line["peer"].as_str().expect("an address");
        assert!(peer.starts_with("127.0.0.1"), "{line}");
    }
}

/// RFC 7239, 8.3
///
/// SHOULD: keep from a third party what Forwarded tells of clients and of one's own network.
///
/// Here: Forwarded, X-Forwarded-For, -Host, -Proto and X-Real-IP are removed by default
/// (`headers.remove`); who empties the list has them passed on untouched. None is added.
#[test]
fn rfc7239_8_3_forwarding_fields_are_dropped_towards_moden() {
    let fields = [
        ("Forwarded", "for=\"[2001:db8::1]\";proto=https"),
        ("X-Forwarded-For", "10.0.0.1"),
        ("X-Forwarded-Host", "shop.internal"),
        ("X-Forwarded-Proto", "https"),
        ("X-Real-IP", "10.0.0.1"),
    ];
    let request = post("/pay/gateway", &fields, "{}");
    let sent = Pair::start().serves(&request);
    for (name, _) in fields {
        assert!(sent.all(&name.to_ascii_lowercase()).is_empty(), "{name}");
    }
    let pair = Pair::with(FINE, |builder| builder.tables("[headers]\nremove = []"));
    let sent = pair.serves(&request);
    for (name, value) in fields {
        assert_eq!(sent.all(&name.to_ascii_lowercase()), [value]);
    }
    assert!(pair.serves(payment("a")).all("forwarded").is_empty());
}

/// Trace Context, 3.4
///
/// MUST: leave traceparent and tracestate as they are where one takes no part in the trace.
///
/// Here: both pass untouched, valid or not, with all their lines; `headers.remove` can name them.
#[test]
fn trace_context_3_4_trace_fields_pass_untouched() {
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let fields = [
        ("traceparent", parent),
        ("tracestate", "a=1,b=2"),
        ("tracestate", "c=3"),
    ];
    let pair = Pair::start();
    let sent = pair.serves(post("/pay/gateway", &fields, "{}"));
    assert_eq!(sent.all("traceparent"), [parent]);
    assert_eq!(sent.all("tracestate"), ["a=1,b=2", "c=3"]);
    let sent = pair.serves(post("/pay/gateway", &[("traceparent", "zz-bad")], "{}"));
    assert_eq!(sent.all("traceparent"), ["zz-bad"]);
    let sent = pair.serves(payment("a"));
    assert!(sent.all("traceparent").is_empty(), "none is begun");

    let remove = "[headers]\nremove = [\"traceparent\", \"tracestate\"]";
    let pair = Pair::with(FINE, |builder| builder.tables(remove));
    let sent = pair.serves(post("/pay/gateway", &fields, "{}"));
    assert!(sent.all("traceparent").is_empty() && sent.all("tracestate").is_empty());
}

/// One reply of each kind that the gateway makes itself, without an upstream's doing.
fn refusals(pair: &Pair) -> Vec<Message> {
    [
        head("GET /elsewhere", &[]),
        head("POST /other", &["Content-Length: 0"]),
        head("GET /pay/gateway", &[]),
        head("TRACE /pay/gateway", &[]),
        head("POST /pay//a", &["Content-Length: 0"]),
        head("BREW /pay/a", &[]),
        head("POST *", &[]),
        framed("POST /pay/a", &["Expect: x", "Content-Length: 0"], ""),
        framed("POST /pay/a", &["Via: 1.1 moden-gateway"], ""),
        framed("POST /pay/a", &["Content-Length: 5000000"], ""),
        framed("POST /pay/a", &["Content-Length: x"], ""),
        framed("POST /pay/a", &["Transfer-Encoding: x, chunked"], ""),
        "POST /pay/a HTTP/3.0\r\n\r\n".to_owned(),
        head(&format!("GET /pay/{}", "a".repeat(20_000)), &[]),
    ]
    .map(|request| {
        let mut client = pair.connect();
        let _ = client.try_write(request);
        client.answer()
    })
    .into()
}

/// RFC 9457, 3
///
/// MUST: send a problem document as `application/problem+json`.
///
/// Here: every error of the gateway's own is one, with `type`, `title`, `status`, `detail`, and as
/// extensions `code`, `outcome` and `request_id`.
#[test]
fn rfc9457_3_every_error_is_a_problem_document() {
    let pair = Pair::start();
    for answer in refusals(&pair) {
        assert_eq!(answer.field("content-type"), "application/problem+json");
        let problem = answer.json();
        let text = |member: &str| problem[member].as_str().expect("a text").to_owned();
        let code = text("code");
        assert_eq!(text("type"), format!("urn:moden-gateway:problem:{code}"));
        assert!(!text("title").is_empty() && !text("detail").is_empty());
        assert_eq!(text("outcome"), answer.outcome());
        assert_eq!(text("request_id"), answer.field("x-request-id"));
        let length = answer.field("content-length");
        assert_eq!(length, answer.body.len().to_string());
    }
}

/// RFC 9457, 3.1.2
///
/// MUST: let `status` be the status that was sent.
///
/// Here: made from the same value.
#[test]
fn rfc9457_3_1_2_the_status_is_the_one_that_was_sent() {
    let pair = Pair::start();
    let mut seen = Vec::new();
    for answer in refusals(&pair) {
        assert_eq!(answer.json()["status"], answer.status());
        seen.push(answer.status());
    }
    seen.sort_unstable();
    seen.dedup();
    assert!(seen.len() >= 8, "{seen:?}");
}

/// RFC 9457, 3.1.3
///
/// SHOULD NOT: change the title from occurrence to occurrence of one type.
///
/// Here: it belongs to the code.
#[test]
fn rfc9457_3_1_3_the_title_belongs_to_the_type() {
    let pair = Pair::start();
    let mut titles = BTreeMap::new();
    let mut codes = 0;
    for _ in 0..2 {
        for answer in refusals(&pair) {
            let problem = answer.json();
            let title = problem["title"].to_string();
            let first = titles
                .entry(problem["type"].to_string())
                .or_insert(title.clone());
            assert_eq!(*first, title);
            codes += 1;
        }
    }
    assert!(titles.len() < codes);
}

/// RFC 9457, 5
///
/// SHOULD NOT: tell in a problem document how things are inside.
///
/// Here: `detail` is one of our own sentences; no text of a library or of MODEN's, no host, port, path or
/// field that the client sent.
#[test]
fn rfc9457_5_nothing_internal_is_told() {
    let closed = ClosedPort::bind();
    let gateway = TestGateway::builder().base_url(closed.base_url()).start();
    let unreachable = gateway.exchange(payment("a"));
    let port = closed.address().port().to_string();
    let invalid = Pair::hanging_up_after("SECRET-BANNER 1.2.3\r\n").exchange(payment("a"));
    let echoed = Pair::start().exchange(head("POST /pay/<script>x", &["Content-Length: 0"]));
    for answer in [unreachable, invalid, echoed] {
        let text = String::from_utf8(answer.body.clone()).expect("UTF-8");
        for internal in [
            "127.0.0.1",
            &port,
            "BANNER",
            "script",
            "hyper",
            "os error",
            "secret",
        ] {
            assert!(!text.contains(internal), "{internal} in {text}");
        }
        let details = answer.json()["detail"].as_str().map(str::len);
        assert!(details.is_some_and(|length| length > 10));
    }
}

/// RFC 9209, 2
///
/// SHOULD: keep the members of other hops in Proxy-Status, and append one's own behind them.
///
/// Here: `moden-gateway` on every error of one's own; the members on MODEN's answers are kept as they are,
/// and none is added to an answer that passes.
#[test]
fn rfc9209_2_members_of_other_hops_are_kept() {
    let prior = "edge.example; error=connection_timeout, other; received-status=503";
    let pair = Pair::answering(format!(
        "HTTP/1.1 504 Late\r\nProxy-Status: {prior}\r\nContent-Length: 0\r\n\r\n"
    ));
    let answer = pair.exchange(payment("a"));
    assert_eq!(answer.all("proxy-status"), [prior]);
    let own = pair.exchange(head("GET /elsewhere", &[]));
    assert_eq!(
        own.field("proxy-status"),
        "moden-gateway; error=http_request_denied"
    );
}

/// RFC 9209, 2.1.1
///
/// MAY: tell by a registered type what went wrong between the hops.
///
/// Here: the type that fits the failure, for each of them.
#[test]
fn rfc9209_2_1_1_the_error_type_fits_the_failure() {
    let of = |answer: &Message| {
        let status = answer.field("proxy-status").to_owned();
        let (name, error) = status.split_once("; error=").expect("an error");
        assert_eq!(name, "moden-gateway");
        error.to_owned()
    };
    let pair = Pair::start();
    let malformed = pair.exchange(framed("POST /pay/a", &["Content-Length: x"], ""));
    assert_eq!(of(&malformed), "http_request_error");
    assert_eq!(
        of(&pair.exchange(head("GET /a", &[]))),
        "http_request_denied"
    );
    let reset = Pair::hanging_up_after("").exchange(payment("a"));
    assert_eq!(of(&reset), "connection_terminated");
    let invalid = Pair::hanging_up_after("no HTTP\r\n\r\n").exchange(payment("a"));
    assert_eq!(of(&invalid), "http_protocol_error");
    let closed = ClosedPort::bind();
    let gateway = TestGateway::builder().base_url(closed.base_url()).start();
    assert_eq!(of(&gateway.exchange(payment("a"))), "connection_refused");
    let silent = ScriptedUpstream::start(|mut conversation| conversation.listen());
    let pair = Pair::before(silent, |builder| {
        builder.upstream("response_timeout = \"100ms\"")
    });
    assert_eq!(of(&pair.exchange(payment("a"))), "http_response_timeout");
}

/// RFC 9209, 2.1.4
///
/// MAY: tell the status that was received with `received-status`.
///
/// Here: for MODEN's 401, which no client sees otherwise.
#[test]
fn rfc9209_2_1_4_a_status_that_is_hidden_is_told() {
    let pair = Pair::answering("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
    let answer = pair.exchange(payment("a"));
    assert_eq!(answer.status(), 502);
    assert_eq!(
        answer.field("proxy-status"),
        "moden-gateway; received-status=401"
    );
}

/// RFC 9209, 4
///
/// SHOULD NOT: tell by default what the network inside looks like.
///
/// Here: no `next-hop` and no `details` are ever sent.
#[test]
fn rfc9209_4_no_next_hop_and_no_details() {
    let pair = Pair::start();
    let mut answers = refusals(&pair);
    let closed = ClosedPort::bind();
    let gateway = TestGateway::builder().base_url(closed.base_url()).start();
    answers.push(gateway.exchange(payment("a")));
    for answer in answers {
        let status = answer.field("proxy-status");
        assert!(
            !status.contains("next-hop") && !status.contains("details"),
            "{status}"
        );
    }
}

/// RFC 7617, 2
///
/// MUST NOT: use a user-id with a colon, or control characters in either part.
///
/// Here: such a credential is not accepted at load: the gateway stays without one, and sends nothing.
#[test]
fn rfc7617_2_a_credential_that_cannot_be_written_is_none() {
    for (app_id, secret) in [
        ("a:b", "c"),
        ("a\tb", "c"),
        ("a", "b\u{7f}c"),
        ("a", "b\nc"),
    ] {
        let upstream = ScriptedUpstream::start(|_| {});
        let gateway = TestGateway::builder()
            .scripted(&upstream)
            .credential(app_id, secret)
            .start_until("no credential");
        let answer = gateway.exchange(payment("a"));
        assert_eq!((answer.status(), answer.outcome()), (503, "not-sent"));
        assert_eq!(answer.code(), "credential-unavailable");
        drop(gateway);
        assert_eq!(upstream.connection_count(), 0);
    }
}

/// RFC 7617, 2.1
///
/// MAY: fix the encoding of user-id and password.
///
/// Here: UTF-8, byte for byte as the sources give it; a secret may hold colons.
#[test]
fn rfc7617_2_1_the_credential_is_utf_8() {
    let pair = Pair::with(FINE, |builder| builder.credential("händler", "gehe:im·€"));
    let sent = pair.serves(payment("a"));
    // printf %s 'händler:gehe:im·€' | base64
    let expected = "Basic aMOkbmRsZXI6Z2VoZTppbcK34oKs";
    assert_eq!(sent.all("authorization"), [expected]);
}

/// RFC 9110, 17.16.1
///
/// SHOULD NOT: send Basic credentials but over a secured connection.
///
/// Here: `http://` base URLs are accepted for loopback only, and not with an egress proxy.
#[test]
fn rfc9110_17_16_1_credentials_travel_over_tls_only() {
    let folder = tempfile::TempDir::with_prefix("moden-gateway-test-").expect("a folder");
    let path = folder.path().join("gateway.toml");
    let load = |base_url: &str, more: &str| {
        let source = "{ file = \"/nonexistent\" }";
        write_private(
            &path,
            &format!(
                "environment = \"sandbox\"\n[environments.sandbox]\nbase_url = \"{base_url}\"\n\
                 app_id = {source}\nsecret = {source}\n{more}"
            ),
        );
        let paths = vec![path.clone()];
        config::load(&LoadOptions {
            paths,
            ..LoadOptions::default()
        })
    };
    for base_url in [
        "http://moden.example/pay/sandbox",
        "http://192.0.2.1/pay/sandbox",
    ] {
        let faults = load(base_url, "").expect_err("clear text").to_string();
        assert!(faults.contains("environments.sandbox.base_url"), "{faults}");
    }
    let local = "http://127.0.0.1:8081/pay/sandbox";
    assert!(load(local, "").is_ok());
    assert!(load("https://moden.example/pay/sandbox", "").is_ok());
    let proxy = "[upstream]\nproxy = \"http://egress:3128\"\n";
    assert!(load(local, proxy).is_err(), "a proxy would see it");
}

/// Idempotency-Key draft 07
///
/// MUST: write the key as a String, in quotes.
///
/// Here: forwarded unchanged, quoted or raw, since real servers take either; a twin of the name in another
/// spelling does not pass.
#[test]
fn idempotency_key_draft_07_passes_unchanged() {
    let pair = Pair::start();
    for key in [
        "\"8e03978e-40d5-43dd-bc93-6894a57f9324\"",
        "8e03978e-40d5-43dd-bc93-6894a57f9324",
        "\"a\";b=1",
    ] {
        let fields = [("Idempotency-Key", key), ("Idempotency_Key", "other")];
        let sent = pair.serves(post("/pay/gateway", &fields, "{}"));
        assert_eq!(sent.all("idempotency-key"), [key]);
        assert!(sent.all("idempotency_key").is_empty());
    }
    assert!(
        pair.serves(payment("a")).all("idempotency-key").is_empty(),
        "none is made"
    );
}
