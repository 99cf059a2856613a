//! One process serves one environment, and no spelling of a path reaches the other.

use moden_gateway::domain::Environment;

use crate::support::{Message, TestGateway, TestSimulator, payment, post};

/// Targets as they stand in the request line, and the code with which the sandbox's gateway and
/// production's refuse them: paths that a server could normalise into others, and crossings over to
/// the other environment.
const HOSTILE: &[(&str, &str, &str)] = &[
    // Readings that climb.
    ("/pay/../gateway", "path-ambiguous", "path-ambiguous"),
    ("/pay/./gateway", "path-ambiguous", "path-ambiguous"),
    ("/pay/..", "path-ambiguous", "path-ambiguous"),
    ("/pay/x/../gateway", "path-ambiguous", "path-ambiguous"),
    ("/pay/..%2fx", "path-ambiguous", "path-ambiguous"),
    ("/pay/%2e%2e/x", "path-ambiguous", "path-ambiguous"),
    ("/pay/%252e%252e/x", "path-ambiguous", "path-ambiguous"),
    ("/pay/%c0%ae%c0%ae/x", "path-ambiguous", "path-ambiguous"),
    ("/pay/..;/x", "path-ambiguous", "path-ambiguous"),
    ("/pay/;/x", "path-ambiguous", "path-ambiguous"),
    ("/pay/gateway;a=b", "path-ambiguous", "path-ambiguous"),
    ("/pay/..\\x", "path-ambiguous", "path-ambiguous"),
    ("/pay\\gateway", "path-ambiguous", "path-ambiguous"),
    ("/pay/..%5cx", "path-ambiguous", "path-ambiguous"),
    ("/pay/a%00b", "path-ambiguous", "path-ambiguous"),
    ("/pay/a%0d%0aX:1", "path-ambiguous", "path-ambiguous"),
    ("/other/../pay/gateway", "path-ambiguous", "path-ambiguous"),
    ("/%70ay/gateway", "path-ambiguous", "path-ambiguous"),
    // Empty segments and other spellings of a route.
    ("//pay/a", "path-ambiguous", "path-ambiguous"),
    ("/pay//a", "path-ambiguous", "path-ambiguous"),
    ("/pay/", "path-ambiguous", "path-ambiguous"),
    ("/pay/gateway/", "path-ambiguous", "path-ambiguous"),
    ("/pay/Gateway", "path-ambiguous", "path-ambiguous"),
    ("/PAY/gateway", "path-ambiguous", "path-ambiguous"),
    // Crossing to the other environment.
    (
        "/pay/sandbox/../gateway",
        "path-ambiguous",
        "path-ambiguous",
    ),
    ("/pay/s%61ndbox/x", "path-ambiguous", "path-ambiguous"),
    ("/pay//sandbox/x", "path-ambiguous", "path-ambiguous"),
    ("/pay/sandbox//x", "path-ambiguous", "path-ambiguous"),
    ("/pay/sandbox/", "path-ambiguous", "path-ambiguous"),
    ("/pay/sandbox", "path-ambiguous", "environment-mismatch"),
    ("/pay/SandBox/x", "path-ambiguous", "environment-mismatch"),
    (
        "/pay/sandbox/sandbox/x",
        "path-ambiguous",
        "environment-mismatch",
    ),
    (
        "/pay/sandbox/SANDBOX/x",
        "path-ambiguous",
        "environment-mismatch",
    ),
    // Plainly elsewhere.
    ("/", "route-not-found", "route-not-found"),
    ("/pay", "route-not-found", "route-not-found"),
    ("/other/gateway", "route-not-found", "route-not-found"),
    (
        "http://evil.example/other",
        "route-not-found",
        "route-not-found",
    ),
    // Absolute-form is judged by its path alone.
    (
        "http://evil.example/pay/../gateway",
        "path-ambiguous",
        "path-ambiguous",
    ),
    (
        "http://evil.example/pay/sandbox/sandbox/x",
        "path-ambiguous",
        "environment-mismatch",
    ),
];

/// Targets that are no URI at all: the listener refuses them, before there is a request.
const MALFORMED: &[&[u8]] = &[
    b"/pay/a b",
    b"/pay/a\0b",
    b"/pay/a\tb",
    b"/pay/a\x7fb",
    b"pay/gateway",
    b"",
];

struct Pair {
    simulator: TestSimulator,
    sandbox: TestGateway,
    production: TestGateway,
}

impl Pair {
    fn start() -> Self {
        let simulator = TestSimulator::start();
        Self {
            sandbox: TestGateway::before(&simulator),
            production: TestGateway::builder()
                .production()
                .simulator(&simulator)
                .start(),
            simulator,
        }
    }

    fn arrived(&self) -> u64 {
        self.simulator.control().request_count()
    }
}

fn status_of(code: &str) -> u16 {
    match code {
        "path-ambiguous" => 400,
        "environment-mismatch" => 403,
        _ => 404,
    }
}

#[track_caller]
fn assert_refused(answer: &Message, target: &str, code: &str, environment: Environment) {
    let what = format!("{target} in {environment}");
    assert_eq!(answer.code(), code, "{what}");
    assert_eq!(answer.status(), status_of(code), "{what}");
    assert_eq!(answer.outcome(), "not-sent", "{what}");
    let named = answer.field("gateway-environment");
    assert_eq!(named, environment.as_str(), "{what}");
}

#[test]
fn refuses_every_target_that_could_be_read_in_two_ways() {
    let pair = Pair::start();
    for (target, in_sandbox, in_production) in HOSTILE {
        let request = post(target, &[], "{}");
        let answer = pair.sandbox.exchange(&request);
        assert_refused(&answer, target, in_sandbox, Environment::Sandbox);
        let answer = pair.production.exchange(&request);
        assert_refused(&answer, target, in_production, Environment::Production);
    }
    assert_eq!(pair.arrived(), 0, "something of it reached the upstream");
}

#[test]
fn refuses_targets_that_are_no_uri() {
    let pair = Pair::start();
    for target in MALFORMED {
        for gateway in [&pair.sandbox, &pair.production] {
            let head = [
                b"POST ",
                *target,
                b" HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 0\r\n\r\n",
            ]
            .concat();
            let answer = gateway.exchange(head);
            assert_eq!(answer.status(), 400, "{target:?}: {answer:?}");
            assert_eq!(answer.code(), "request-malformed", "{target:?}");
        }
    }
    assert_eq!(pair.arrived(), 0, "something of it reached the upstream");
}

/// hyper would cut a fragment off before anybody sees it, so the framing guard refuses it.
#[test]
fn refuses_a_fragment() {
    let pair = Pair::start();
    for target in [
        "/pay/inquire/wallet#/../../gateway",
        "/pay/inquire/wallet?a#b",
        "/pay/inquire/wallet#",
        "/pay/#/inquire/wallet",
    ] {
        let refused = pair.sandbox.exchange(post(target, &[], ""));
        assert_eq!(refused.status(), 400, "{target}: {refused:?}");
        assert_eq!(refused.code(), "request-malformed", "{target}");
    }
    assert_eq!(pair.arrived(), 0, "something of it reached the upstream");
}

#[test]
fn the_sandbox_prefix_means_nothing_in_the_sandbox() {
    let pair = Pair::start();
    for path in ["/pay/inquire/wallet", "/pay/sandbox/inquire/wallet"] {
        let answer = pair.sandbox.exchange(post(path, &[], ""));
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(answer.field("gateway-environment"), "sandbox");
    }
    for request in pair.simulator.control().requests() {
        assert_eq!(request.path, "/pay/sandbox/inquire/wallet");
    }
}

#[test]
fn each_gateway_pays_in_its_own_environment() {
    let pair = Pair::start();
    let answer = pair.sandbox.exchange(payment("order-of-the-sandbox"));
    assert_eq!(answer.field("gateway-environment"), "sandbox");
    let answer = pair.production.exchange(payment("order-of-production"));
    assert_eq!(answer.field("gateway-environment"), "production");

    let control = pair.simulator.control();
    let orders = |environment| control.orders(environment).into_keys().collect::<Vec<_>>();
    assert_eq!(orders(Environment::Sandbox), ["order-of-the-sandbox"]);
    assert_eq!(orders(Environment::Production), ["order-of-production"]);
    let Pair {
        sandbox,
        production,
        ..
    } = pair;
    assert_eq!(sandbox.stop()[0]["environment"], "sandbox");
    assert_eq!(production.stop()[0]["environment"], "production");
}

#[test]
fn sends_path_and_query_byte_for_byte() {
    let pair = Pair::start();
    let target = "/pay/echo/a-Z_0.~?q=%2e%2E/../;&r=a?b";
    assert_eq!(pair.sandbox.exchange(post(target, &[], "")).status(), 200);
    assert_eq!(
        pair.production.exchange(post(target, &[], "")).status(),
        200
    );
    let paths: Vec<_> = (pair.simulator.control().requests().into_iter())
        .map(|request| request.path)
        .collect();
    assert_eq!(
        paths,
        [
            "/pay/sandbox/echo/a-Z_0.~?q=%2e%2E/../;&r=a?b",
            "/pay/echo/a-Z_0.~?q=%2e%2E/../;&r=a?b"
        ]
    );
}

#[test]
fn no_field_of_a_request_moves_it_elsewhere() {
    let pair = Pair::start();
    let fields = [
        ("X-Forwarded-Uri", "/pay/../gateway"),
        ("X-Original-URL", "/admin"),
        ("X-Rewrite-URL", "/pay/gateway"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Prefix", "/pay/sandbox"),
        ("X-HTTP-Method-Override", "DELETE"),
        ("Gateway-Environment", "sandbox"),
    ];
    let answer = (pair.production).exchange(post("/pay/inquire/wallet", &fields, ""));
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.field("gateway-environment"), "production");
    let requests = pair.simulator.control().requests();
    assert_eq!(requests[0].path, "/pay/inquire/wallet");
    assert_eq!(requests[0].environment, Some(Environment::Production));
    assert!(!requests[0].headers.contains_key("x-forwarded-host"));
}

#[test]
fn connects_to_the_configured_origin_whatever_the_client_names() {
    let pair = Pair::start();
    let origin = pair.simulator.address().to_string();
    let requests = [
        "POST http://evil.example/pay/inquire/wallet HTTP/1.1\r\nHost: gateway.test\r\n",
        "POST http://evil.example:1/pay/inquire/wallet HTTP/1.1\r\nHost: evil.example:1\r\n",
        "POST https://evil.example/pay/inquire/wallet HTTP/1.1\r\nHost: evil.example\r\n",
        "POST /pay/inquire/wallet HTTP/1.1\r\nHost: evil.example\r\n",
        "POST /pay/inquire/wallet HTTP/1.1\r\nHost: [::1]:80\r\n",
    ];
    for head in requests {
        let answer = pair
            .sandbox
            .exchange(format!("{head}Content-Length: 0\r\n\r\n"));
        assert_eq!(answer.status(), 200, "{head}");
    }
    for request in pair.simulator.control().requests() {
        assert_eq!(request.headers["host"], origin.as_str());
        assert_eq!(request.path, "/pay/sandbox/inquire/wallet", "origin-form");
    }
}

#[test]
fn refuses_a_request_that_names_no_host_or_two_or_a_crooked_one() {
    let pair = Pair::start();
    for hosts in [
        "",
        "Host: gateway.test\r\nHost: gateway.test\r\n",
        "Host: gateway.test\r\nhost: evil.example\r\n",
        "Host: a@b\r\n",
        "Host: a b\r\n",
        "Host: a/b\r\n",
    ] {
        let answer = pair.sandbox.exchange(format!(
            "POST /pay/inquire/wallet HTTP/1.1\r\n{hosts}Content-Length: 0\r\n\r\n"
        ));
        assert_eq!(answer.status(), 400, "{hosts:?}: {answer:?}");
        assert_eq!(answer.code(), "request-malformed", "{hosts:?}");
        assert_eq!(answer.outcome(), "not-sent");
    }
    assert_eq!(pair.arrived(), 0, "something of it reached the upstream");
}

#[test]
fn a_client_that_speaks_http_1_0_need_not_name_a_host() {
    let pair = Pair::start();
    let answer = (pair.sandbox).exchange("POST /pay/inquire/wallet HTTP/1.0\r\n\r\n");
    assert_eq!(answer.status(), 200);
    assert_eq!(pair.arrived(), 1);
}
