//! A marker secret that is sent on every path shows up nowhere but at MODEN.
//!
//! Searched are all replies, the access log, the application log at trace level, the admin
//! listener, `Debug` of the configuration and of the app, and the faults of a configuration.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use moden_gateway::config::{self, LoadOptions};
use moden_gateway::simulator::{Fault, SimulatorOptions, Times};

use crate::support::{
    ClosedPort, GatewayBuilder, ScriptedUpstream, TestGateway, TestSimulator, captured_log,
    eventually, payment, post, sha256, write_private,
};

/// The marker: no other text of this program holds it, and every encoding changes it.
const SECRET: &str = "mArKeR+of/the=secret?&%~7f3a91";

/// No secret by itself, but nobody's business either.
const APP_ID: &str = "mArKeR+of/the=app?&%~52c8d0";

/// The operators' token, in characters that a token may have.
const TOKEN: &str = "mArKeR-of-the-token~b4e19d";

/// Every form in which the marker could show; the base64 of a part of a longer text depends on
/// where in it the part stands.
fn forms() -> Vec<String> {
    let mut forms = vec![STANDARD.encode(format!("{APP_ID}:{SECRET}"))];
    forms.push(sha256(TOKEN));
    for text in [SECRET, APP_ID, TOKEN] {
        forms.push(text.to_owned());
        forms.push(url_encoded(text));
        forms.push(format!("{text:?}").trim_matches('"').to_owned());
        let lower_hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        forms.push(lower_hex);
        forms.push(
            format!("{:?}", text.as_bytes())
                .trim_matches(['[', ']'])
                .to_owned(),
        );
        for offset in 0..3 {
            let shifted = [&vec![b'x'; offset], text.as_bytes()].concat();
            for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
                let encoded = engine.encode(&shifted);
                // The first and last characters also depend on what stands around.
                let inner = encoded.get(4..encoded.len() - 3);
                forms.push(inner.expect("a long text").to_owned());
            }
        }
    }
    forms
}

fn url_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

/// The first form in which the marker shows in a text, in whatever letter case.
fn found_in(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let mut forms = forms().into_iter();
    forms.find(|form| text.contains(&form.to_ascii_lowercase()))
}

#[track_caller]
fn assert_clean(place: &str, text: &str) {
    assert!(!text.is_empty(), "{place} is empty: nothing was searched");
    if let Some(form) = found_in(text) {
        panic!("{place} shows {form}");
    }
}

#[test]
fn the_search_finds_the_secret_in_every_form() {
    let basic = STANDARD.encode(format!("{APP_ID}:{SECRET}"));
    let beside_another = STANDARD.encode(format!("x:{SECRET}y"));
    for text in [
        SECRET.to_owned(),
        format!("a=1&secret={}", url_encoded(SECRET).to_lowercase()),
        format!("Authorization: Basic {basic}"),
        format!("{beside_another} and more"),
        format!("{:?}", SECRET.as_bytes()),
        format!("Some({APP_ID:?})"),
    ] {
        assert!(found_in(&text).is_some(), "{text} was passed over");
    }
}

/// A gateway that holds the marker.
fn marked() -> GatewayBuilder {
    TestGateway::builder().credential(APP_ID, SECRET)
}

/// Sends these requests and searches everything that can be seen of the gateway.
fn search(what: &str, gateway: TestGateway, requests: &[Vec<u8>]) {
    assert_clean(&format!("Debug of {what}"), gateway.debug());
    for request in requests {
        let mut client = gateway.connect();
        client.begin(request);
        client.half_close();
        let reply = String::from_utf8_lossy(&client.rest()).into_owned();
        assert!(reply.starts_with("HTTP/1.1 "), "{what}: {reply}");
        assert_clean(&format!("a reply of {what}"), &reply);
    }
    let metrics = gateway.admin("/metrics").body;
    assert!(metrics.starts_with(b"# HELP "), "there are no metrics");
    for path in ["/livez", "/readyz", "/metrics", "/status", "/", "/debug"] {
        let answer = gateway.admin(path);
        let body = String::from_utf8_lossy(&answer.body);
        assert_clean(&format!("{path} of {what}"), &format!("{answer:?} {body}"));
    }
    gateway.await_log_lines(requests.len());
    assert_clean(&format!("the access log of {what}"), &gateway.log_text());
}

fn scripted(what: &str, words: &'static str, settings: &str) {
    let upstream = ScriptedUpstream::start(move |mut conversation| {
        if conversation.request().is_some() {
            conversation.say(words);
            if words.ends_with("…") {
                conversation.listen();
            }
        }
    });
    let gateway = marked().scripted(&upstream).upstream(settings).start();
    search(what, gateway, &[payment("order-1")]);
    let authorization = upstream.requests()[0].field("authorization").to_owned();
    let ours = STANDARD.encode(format!("{APP_ID}:{SECRET}"));
    assert_eq!(
        authorization,
        format!("Basic {ours}"),
        "MODEN alone sees it"
    );
}

#[test]
fn the_secret_shows_up_nowhere_when_all_is_well_or_refused() {
    let simulator = TestSimulator::start();
    let control = simulator.control();
    let accepted = control.accept_only(APP_ID, &SECRET.into());
    accepted.expect("a valid credential");
    let gateway = marked().simulator(&simulator).start();
    let refused = |head: &str| format!("{head}Content-Length: 0\r\n\r\n").into_bytes();
    let requests = [
        payment("order-1"),
        post("/pay/inquire/wallet", &[("Authorization", "Basic abc")], ""),
        post("/pay/gateway", &[], "{}"),
        post("/pay/echo/a?b", &[], "hello"),
        post("/pay/../a", &[], ""),
        post("/other", &[], ""),
        post("/pay/gateway", &[("Expect", "x")], ""),
        post("/pay/gateway", &[("Via", "1.1 moden-gateway")], ""),
        post("/pay/inquire/wallet", &[("Simulator-Fault", "500")], ""),
        refused("GET /pay/gateway HTTP/1.1\r\nHost: a\r\n"),
        refused("TRACE /pay/gateway HTTP/1.1\r\nHost: a\r\n"),
        refused("POST /pay/gateway HTTP/1.1\r\n"),
    ];
    search("a gateway that works", gateway, &requests);
    assert_clean(
        "Debug of the simulator",
        &format!("{:?}", control.requests()),
    );
    assert_clean("the application log", &captured_log());
}

#[test]
fn the_secret_shows_up_nowhere_when_moden_misbehaves() {
    for (what, words) in [
        (
            "a rejected credential",
            "HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n",
        ),
        ("a reset exchange", ""),
        (
            "a cut answer",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{",
        ),
        ("an invalid answer", "SSH-2.0-OpenSSH\r\n"),
        (
            "a switched protocol",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        ),
    ] {
        scripted(what, words, "");
    }
    scripted(
        "a stalled answer",
        "HTTP/1.1 200 …",
        "response_timeout = \"100ms\"",
    );
    assert_clean("the application log", &captured_log());
}

#[test]
fn the_secret_shows_up_nowhere_when_moden_is_not_there() {
    let nobody = ClosedPort::bind();
    let gateway = marked().base_url(nobody.base_url()).start();
    search("a refused connection", gateway, &[payment("order-1")]);

    let simulator = TestSimulator::start_with(SimulatorOptions {
        tls: true,
        ..SimulatorOptions::default()
    });
    let gateway = marked().simulator(&simulator).start();
    search("an untrusted certificate", gateway, &[payment("order-1")]);
    assert_clean("the application log", &captured_log());
}

#[test]
fn the_secret_shows_up_nowhere_when_a_client_leaves() {
    let simulator = TestSimulator::start();
    let control = simulator.control();
    control
        .accept_only(APP_ID, &SECRET.into())
        .expect("a valid credential");
    control.set_fault(Fault::Delay(Duration::from_millis(200)), Times::Always);
    let gateway = marked().simulator(&simulator).start();
    gateway.connect().write(payment("order-1"));
    gateway
        .connect()
        .write("POST /pay/gateway HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{");
    gateway.await_log_lines(2);
    assert_clean("the access log", &gateway.log_text());
    drop(gateway);
    assert_clean("the application log", &captured_log());
}

#[test]
fn an_unusable_secret_is_reported_without_being_shown() {
    let simulator = TestSimulator::start();
    for (what, app_id, secret) in [
        ("a control character", APP_ID, format!("{SECRET}\x07")),
        ("a second line", APP_ID, format!("{SECRET}\n{SECRET}\n")),
        (
            "a colon in the app id",
            app_id_with_a_colon(),
            SECRET.to_owned(),
        ),
    ] {
        let before = captured_log().len();
        let secret: &'static str = secret.leak();
        let gateway = TestGateway::builder()
            .simulator(&simulator)
            .credential(app_id, secret)
            .start_until("no credential");
        let reported = eventually("a report in the application log", || {
            let log = captured_log();
            let new = log.get(before..).unwrap_or_default();
            new.contains("the credential could not be loaded")
                .then(|| log.clone())
        });
        assert_clean(&format!("the application log after {what}"), &reported);
        search(what, gateway, &[payment("order-1")]);
    }
    assert_eq!(simulator.control().request_count(), 0);
}

#[test]
fn neither_secret_nor_token_shows_up_in_what_operators_see() {
    let nobody = ClosedPort::bind();
    let gateway = marked()
        .base_url(nobody.base_url())
        .admin_off_loopback()
        .admin(&format!("token_sha256 = \"{}\"", sha256(TOKEN)))
        .start();
    assert_clean("Debug", gateway.debug());
    for (scheme, status) in [("Bearer", 200), ("Basic", 401), ("Bearer x", 401)] {
        for (method, path) in [
            ("GET", "/status"),
            ("GET", "/"),
            ("POST", "/control/pause"),
            ("POST", "/control/resume"),
        ] {
            let answer = gateway.admin_exchange(format!(
                "{method} {path} HTTP/1.1\r\nHost: localhost\r\n\
                 Authorization: {scheme} {TOKEN}\r\n\r\n"
            ));
            assert_eq!(answer.status(), status, "{method} {path}");
            assert_clean(
                path,
                &format!("{answer:?} {}", String::from_utf8_lossy(&answer.body)),
            );
        }
    }
    let absent = gateway.admin_exchange(format!(
        "GET /{TOKEN} HTTP/1.1\r\nHost: {TOKEN}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    ));
    assert_clean("an admin refusal", &String::from_utf8_lossy(&absent.body));
    assert_clean("the application log", &captured_log());
}

/// An APP ID that Basic cannot carry.
fn app_id_with_a_colon() -> &'static str {
    format!("{APP_ID}:{APP_ID}").leak()
}

#[test]
fn a_secret_that_stands_in_the_configuration_is_refused_without_being_shown() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("gateway.toml");
    let base = "environment = \"sandbox\"\n[environments.sandbox]\n";
    for wrong in [
        format!("secret = {SECRET:?}"),
        format!("secret = {{ value = {SECRET:?} }}"),
        format!("secret = {{ env = {SECRET:?} }}"),
        format!("secret = {{ file = [{SECRET:?}] }}"),
        format!("app_id = {APP_ID:?}\nsecret = {SECRET:?}"),
        format!("base_url = \"https://{APP_ID}:{SECRET}@api.modenpay.io/pay\""),
        format!("[log]\nlevel = {SECRET:?}"),
        format!("[server]\nthreads = {SECRET:?}"),
        format!("secret = \"{SECRET}"),
    ] {
        write_private(&path, &format!("{base}{wrong}\n"));
        let options = LoadOptions {
            paths: vec![path.clone()],
            ..LoadOptions::default()
        };
        let faults = config::load(&options).expect_err("a fault");
        assert_clean(
            "a fault of the configuration",
            &format!("{faults} {faults:?}"),
        );
    }
}
