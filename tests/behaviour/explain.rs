//! `explain` says what would happen to a request, and that is what happens.

use std::collections::BTreeSet;

use insta::assert_snapshot;
use moden_gateway::domain::Environment;
use serde_json::Value as Json;
use tempfile::TempDir;

use crate::support::program::{Ended, start_in};
use crate::support::{TestGateway, TestSimulator, write_private};

/// The rest of a configuration whose secrets are not there.
const CREDENTIAL: &str = "app_id = { file = \"/nonexistent/marker\" }\n\
                          secret = { file = \"/nonexistent/marker\" }\n";

fn explain(configuration: &str, arguments: &[&str]) -> Ended {
    let folder = TempDir::with_prefix("moden-gateway-test-").expect("a temporary folder");
    write_private(&folder.path().join("gateway.toml"), configuration);
    let arguments = [&["explain", "--config", "gateway.toml"], arguments].concat();
    start_in(folder.path(), &arguments, &[]).end()
}

fn sandbox() -> String {
    format!("environment = \"sandbox\"\n[environments.sandbox]\n{CREDENTIAL}")
}

fn production() -> String {
    format!("environment = \"production\"\n[environments.production]\narmed = true\n{CREDENTIAL}")
}

#[track_caller]
fn table(configuration: &str, arguments: &[&str]) -> String {
    let ended = explain(configuration, arguments);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    assert!(!ended.stdout.contains("marker"), "{}", ended.stdout);
    ended.stdout
}

#[test]
fn shows_a_payment_in_the_sandbox() {
    assert_snapshot!(table(&sandbox(), &["POST", "/pay/gateway"]), @"
    POST /pay/gateway: forwarded
    environment  sandbox
    path         /pay/gateway
    route        create-payment
    upstream     https://api.modenpay.io/pay/sandbox/gateway
    limits       none
    removed      what Connection names, and always (also spelt with _ or . for -):
                 connection, proxy-connection, keep-alive, te, trailer, transfer-encoding, upgrade
                 proxy-authenticate, http2-settings, proxy-authorization, authorization, expect, host
                 content-length, x-original-url, x-rewrite-url, x-http-method, x-http-method-override
                 x-method-override
                 by headers.remove:
                 cookie, forwarded, x-forwarded-for, x-forwarded-host, x-forwarded-proto, x-real-ip
    set          via              1.1 moden-gateway (appended)
                 host             api.modenpay.io
                 x-request-id     the client's if it fits [A-Za-z0-9._~-]{1,128}, else a new one
                 content-length   of the body, if it is known; 0 for an empty POST
                 authorization    Basic, from app_id and secret of the environment; never shown
    body         held whole up to 64KiB, else streamed
    answer       held whole up to 64KiB, else streamed
    listener     127.0.0.1:8080   header_timeout 5s, max_header_bytes 16KiB, body_timeout 10s, max_body_bytes 4MiB
    deadlines    queue_timeout 1s, connect_timeout 3s, tls_timeout 3s, response_timeout 30s
                 body_idle_timeout 10s, exchange_timeout 1m
    ");
}

#[test]
fn shows_a_payment_in_production_with_limits() {
    let configuration = production()
        + "[headers]\nremove = []\n\
           [[limits]]\nname = \"all\"\nrequests = 100\nburst = 20\n\
           [[limits]]\nname = \"per-address\"\nper = [\"client_ip\", \"route\"]\n\
           concurrency = 8\nmode = \"observe\"\n";
    let target = "http://gateway.internal/pay/gateway?a=b%20c";
    assert_snapshot!(table(&configuration, &["POST", target]), @"
    POST http://gateway.internal/pay/gateway?a=b%20c: forwarded
    environment  production
    path         /pay/gateway
    route        create-payment
    upstream     https://api.modenpay.io/pay/gateway?a=b%20c
    limits       all              the whole gateway: 100 in 1s, burst 20, enforce
                 per-address      each client_ip and route: 8 at a time, observe
    removed      what Connection names, and always (also spelt with _ or . for -):
                 connection, proxy-connection, keep-alive, te, trailer, transfer-encoding, upgrade
                 proxy-authenticate, http2-settings, proxy-authorization, authorization, expect, host
                 content-length, x-original-url, x-rewrite-url, x-http-method, x-http-method-override
                 x-method-override
    set          via              1.1 moden-gateway (appended)
                 host             api.modenpay.io
                 x-request-id     the client's if it fits [A-Za-z0-9._~-]{1,128}, else a new one
                 content-length   of the body, if it is known; 0 for an empty POST
                 authorization    Basic, from app_id and secret of the environment; never shown
    body         held whole up to 64KiB, else streamed
    answer       held whole up to 64KiB, else streamed
    listener     127.0.0.1:8080   header_timeout 5s, max_header_bytes 16KiB, body_timeout 10s, max_body_bytes 4MiB
    deadlines    queue_timeout 1s, connect_timeout 3s, tls_timeout 3s, response_timeout 30s
                 body_idle_timeout 10s, exchange_timeout 1m
    ");
}

#[test]
fn shows_refusals_with_their_code() {
    assert_snapshot!(table(&sandbox(), &["POST", "/pay/a/../gateway"]), @"
    POST /pay/a/../gateway: refused
    environment  sandbox
    status       400 path-ambiguous
    detail       the path could be read in more than one way; write it plainly, in the spelling of its route, without empty or dot segments, percent-encoding or a slash at its end
    outcome      not-sent
    ");
    assert_snapshot!(table(&production(), &["POST", "/pay/sandbox/gateway"]), @"
    POST /pay/sandbox/gateway: refused
    environment  production
    status       403 environment-mismatch
    detail       the path names the sandbox, but this gateway serves production; call /pay/<endpoint> and let the gateway's configuration choose the environment
    outcome      not-sent
    ");
    assert_snapshot!(table(&sandbox(), &["post", "/pay/gateway"]), @"
    post /pay/gateway: refused
    environment  sandbox
    status       501 not-implemented
    detail       no route of this gateway has this method; methods are written in upper case
    outcome      not-sent
    ");
    assert_snapshot!(table(&sandbox(), &["GET", "/pay/gateway"]), @"
    GET /pay/gateway: refused
    environment  sandbox
    status       405 method-not-allowed
    detail       the route does not allow this method; Allow lists those it does
    allow        POST
    outcome      not-sent
    ");
    assert_snapshot!(table(&sandbox(), &["OPTIONS", "*"]), @"
    OPTIONS *: answered here
    environment  sandbox
    status       204 (no problem document)
    detail       the gateway answers for itself; nothing is sent on
    allow        POST
    outcome      not-sent
    ");
    assert_snapshot!(table(&sandbox(), &["POST", "/pay/a b"]), @"
    POST /pay/a b: refused
    environment  sandbox
    status       400 request-malformed
    detail       the request line is malformed
    outcome      not-sent
    ");
    let connect = table(&sandbox(), &["CONNECT", "api.modenpay.io:443"]);
    assert!(connect.contains("405 method-not-allowed"), "{connect}");
    let elsewhere = table(&sandbox(), &["POST", "/other"]);
    assert!(elsewhere.contains("404 route-not-found"), "{elsewhere}");
}

#[test]
fn ends_for_its_arguments_or_its_configuration() {
    assert_eq!(explain(&sandbox(), &["P OST", "/pay/gateway"]).code, 64);
    assert_eq!(explain(&sandbox(), &["POST"]).code, 64);
    let ended = explain("environment = \"moon\"\n", &["POST", "/pay/gateway"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (78, ""));
}

#[test]
fn says_what_is_done() {
    let simulator = TestSimulator::start();
    let base_url = simulator.base_url(Environment::Sandbox);
    let configuration = format!("{}base_url = \"{base_url}\"\n", sandbox());
    let gateway = TestGateway::before(&simulator);
    for (method, target) in [
        ("POST", "/pay/gateway"),
        ("POST", "/pay/sandbox/echo/a?b=%2F"),
        ("POST", "http://elsewhere/pay/echo"),
        ("POST", "/pay//gateway"),
        ("POST", "/pay/gateway/"),
        ("POST", "/pay/GATEWAY"),
        ("POST", "/pay"),
        ("GET", "/pay/gateway"),
        ("TRACE", "/pay/gateway"),
        ("OPTIONS", "*"),
    ] {
        let text = explain(&configuration, &["--json", method, target]).stdout;
        let result = &serde_json::from_str::<Json>(&text).expect("one JSON object")["result"];
        let before = simulator.control().requests().len();
        let answer = gateway.exchange(format!(
            "{method} {target} HTTP/1.1\r\nHost: a\r\nCookie: a\r\nTE: trailers\r\n\
             Content_Length: 1\r\nX-Own: kept\r\nAuthorization: Bearer a\r\nContent-Length: 0\r\n\r\n"
        ));
        let requests = simulator.control().requests();
        let Some(forwarded) = result.get("forwarded") else {
            let refused = &result["refused"];
            assert_eq!(
                refused["status"],
                answer.status(),
                "{method} {target}: {text}"
            );
            if answer.status() >= 400 {
                assert_eq!(refused["code"], answer.code(), "{method} {target}");
            }
            assert_eq!(answer.outcome(), "not-sent");
            assert_eq!(requests.len(), before, "{method} {target}");
            continue;
        };
        let sent = requests.get(before).expect("it was forwarded");
        let url = forwarded["upstream_url"].as_str().expect("a URL");
        let origin = format!("http://{}", simulator.address());
        assert_eq!(url, format!("{origin}{}", sent.path), "{method} {target}");

        let words = |list: &Json| -> BTreeSet<String> {
            let list = list.as_array().expect("a list").iter();
            list.map(|word| {
                word["name"]
                    .as_str()
                    .or(word.as_str())
                    .expect("a word")
                    .to_owned()
            })
            .collect()
        };
        let mut set = words(&forwarded["headers"]["set"]);
        set.insert("x-own".to_owned());
        let arrived: BTreeSet<_> = sent.headers.keys().map(ToString::to_string).collect();
        assert_eq!(arrived, set, "{method} {target}");
        let removed = words(&forwarded["headers"]["always_removed"]);
        assert!(removed.contains("te") && removed.contains("authorization"));
        let configured = words(&forwarded["headers"]["removed_by_configuration"]);
        assert!(configured.contains("cookie"));
    }
    gateway.await_log_lines(10);
}

/// Its head does not fit into any listener's `max_header_bytes`.
#[test]
fn a_target_longer_than_every_listener_takes_is_refused_here_as_it_is_there() {
    let simulator = TestSimulator::start();
    let gateway = TestGateway::before(&simulator);
    for (length, status) in [
        (16_000, 404),
        (16_360, 431),
        (16 * 1024, 414),
        (20_000, 414),
    ] {
        let target = format!("/{}", "a".repeat(length - 1));
        let ended = explain(&sandbox(), &["--json", "POST", &target]);
        let report: Json = serde_json::from_str(&ended.stdout).expect("one JSON object");
        assert_eq!(report["result"]["refused"]["status"], status, "{length}");
        let head = format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(gateway.exchange(head).status(), status, "{length}");
    }
    let text = table(&sandbox(), &["POST", &format!("/{}", "a".repeat(20_000))]);
    assert!(text.contains("414 uri-too-long"));
}
