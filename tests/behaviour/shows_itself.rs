//! The metrics say exactly what happened, in a text that Prometheus reads, and nothing that a client
//! sends becomes a label.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use moden_gateway::config::LimitMode;
use moden_gateway::domain::Environment;
use moden_gateway::simulator::{Fault, Times};
use moden_gateway::telemetry::metrics::Metrics;
use serde_json::Value;

use crate::support::metrics::{Family, Scrape, parse};
use crate::support::{ClosedPort, TestGateway, TestSimulator, eventually, payment, post};

fn scrape(gateway: &TestGateway) -> Scrape {
    let text = String::from_utf8(gateway.admin("/metrics").body).expect("UTF-8");
    parse(&text).unwrap_or_else(|fault| panic!("{fault}\n{text}"))
}

/// Counts by a text made of each line's fields.
fn tally<'l>(
    lines: &'l [Value],
    key: impl Fn(&'l Value) -> Option<String>,
) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for key in lines.iter().filter_map(key) {
        *counts.entry(key).or_default() += 1;
    }
    counts
}

/// The samples of a counter that are not zero, by these labels.
fn counted(scrape: &Scrape, name: &str, labels: &[&str]) -> BTreeMap<String, u64> {
    let of_name = scrape.samples().filter(|sample| sample.name == name);
    of_name
        .filter(|sample| sample.value != 0.0)
        .map(|sample| {
            let values: Vec<_> = labels.iter().map(|label| &*sample.labels[*label]).collect();
            (values.join(" "), sample.value as u64)
        })
        .collect()
}

#[test]
fn the_counts_are_those_of_the_access_log() {
    let simulator = TestSimulator::start();
    let gateway = TestGateway::before(&simulator);
    assert_eq!(gateway.exchange(payment("order-1")).status(), 200);
    assert_eq!(gateway.exchange(payment("order-2")).status(), 200);
    let json = [("Content-Type", "application/json")];
    let refused_by_moden = gateway.exchange(post("/pay/gateway", &json, "{}"));
    assert_eq!(refused_by_moden.status(), 412);
    assert_eq!(gateway.exchange(post("/other", &[], "")).status(), 404);
    simulator
        .control()
        .set_fault(Fault::LostAfterCommit, Times::Next(1));
    assert_eq!(gateway.exchange(payment("order-3")).outcome(), "unknown");

    let lines = gateway.await_log_lines(5);
    let scrape = scrape(&gateway);
    let requests = counted(
        &scrape,
        "gateway_proxy_requests_total",
        &["route", "status", "outcome"],
    );
    assert_eq!(
        requests,
        [
            ("create-payment 2xx answered".to_owned(), 2),
            ("create-payment 4xx answered".to_owned(), 1),
            ("create-payment 5xx unknown".to_owned(), 1),
            ("none 4xx not-sent".to_owned(), 1),
        ]
        .into()
    );
    let of_the_log = tally(&lines, |line| {
        let route = line["route"].as_str().unwrap_or("none");
        let class = line["status"].as_u64()? / 100;
        Some(format!("{route} {class}xx {}", line["outcome"].as_str()?))
    });
    assert_eq!(requests, of_the_log);
    let errors = counted(&scrape, "gateway_proxy_errors_total", &["code"]);
    let of_the_log = tally(&lines, |line| Some(line["code"].as_str()?.to_owned()));
    assert_eq!(errors, of_the_log);
    assert_eq!(errors.len(), 2, "{errors:?}");

    let sum = |name: &str| scrape.sum(name, &[]);
    let of_the_log = |field: &str| lines.iter().filter_map(|line| line[field].as_f64()).sum();
    let bytes_in: f64 = of_the_log("bytes_in");
    let bytes_out: f64 = of_the_log("bytes_out");
    assert!(bytes_in > 400.0 && bytes_out > 400.0);
    assert_eq!(sum("gateway_proxy_request_bytes_total"), bytes_in);
    assert_eq!(sum("gateway_proxy_reply_bytes_total"), bytes_out);
    assert_eq!(sum("gateway_proxy_request_duration_seconds_count"), 5.0);
    assert_eq!(sum("gateway_proxy_requests_in_flight"), 0.0);

    let phase = |name: &str| {
        let name = [("phase", name)];
        scrape.sum("gateway_upstream_phase_duration_seconds_count", &name)
    };
    assert_eq!(phase("response"), 3.0, "heads that came");
    assert_eq!(phase("answer"), 3.0, "answers that were complete");
    assert_eq!(phase("queue"), 0.0);
    assert_eq!(phase("tls"), 0.0, "plain HTTP");
    let opened = sum("gateway_upstream_connections_opened_total");
    let reused = sum("gateway_upstream_connections_reused_total");
    assert_eq!(phase("connect"), opened);
    assert_eq!(opened + reused, 4.0, "all but the 404 went somewhere");

    let listener = [("listener", "0")];
    let accepted = "gateway_server_connections_accepted_total";
    assert_eq!(scrape.sum(accepted, &listener), 5.0);
    assert_eq!(sum("gateway_credentials_available"), 1.0);
    assert_eq!(sum("gateway_config_generation"), 1.0);
    assert_eq!(sum("gateway_access_log_dropped_lines_total"), 0.0);
    assert_eq!(sum("gateway_build_info"), 1.0);
    assert!(sum("process_resident_memory_bytes") > 1e6);
    assert!(sum("process_open_fds") < sum("process_max_fds"));
    assert!(sum("process_start_time_seconds") > 1.7e9);
    let environments = scrape.samples().map(|sample| &sample.labels["environment"]);
    assert!(environments.into_iter().all(|name| name == "sandbox"));
}

#[test]
fn connections_are_counted_in_and_out() {
    let simulator = TestSimulator::start();
    let gateway = TestGateway::builder()
        .simulator(&simulator)
        .threads(1)
        .start();
    let upstream = |state| {
        let state = [("state", state)];
        scrape(&gateway).sum("gateway_upstream_connections", &state)
    };
    let clients = || scrape(&gateway).sum("gateway_server_connections", &[]);
    let mut client = gateway.connect();
    client.exchange(payment("order-1"));
    client.exchange(payment("order-2"));
    assert_eq!((upstream("idle"), upstream("busy")), (1.0, 0.0));
    let reused = "gateway_upstream_connections_reused_total";
    assert_eq!(scrape(&gateway).sum(reused, &[]), 1.0);
    assert_eq!(clients(), 1.0);

    simulator
        .control()
        .set_fault(Fault::LostAfterCommit, Times::Next(1));
    client.exchange(payment("order-3"));
    assert_eq!((upstream("idle"), upstream("busy")), (0.0, 0.0));
    drop(client);
    eventually("the client to be counted out", || {
        (clients() == 0.0).then_some(())
    });
}

#[test]
fn a_failure_to_connect_is_counted_by_its_reason() {
    let nobody = ClosedPort::bind();
    let gateway = TestGateway::builder().base_url(nobody.base_url()).start();
    gateway.exchange(payment("order-1"));
    let failures = "gateway_upstream_connect_failures_total";
    let counted = counted(&scrape(&gateway), failures, &["reason"]);
    assert_eq!(counted, [("refused".to_owned(), 1)].into());
}

#[test]
fn a_missing_credential_shows() {
    let simulator = TestSimulator::start();
    let gateway = TestGateway::builder()
        .simulator(&simulator)
        .without_secret()
        .start_until("no credential");
    let available = scrape(&gateway).sum("gateway_credentials_available", &[]);
    assert_eq!(available, 0.0);
}

#[test]
fn nothing_that_clients_send_adds_a_series() {
    let simulator = TestSimulator::start();
    let gateway = TestGateway::before(&simulator);
    let mut client = gateway.connect();
    let series = |gateway: &TestGateway| {
        let series = scrape(gateway);
        let series = series.samples().map(|sample| {
            format!("{sample:?}")
                .split("value")
                .next()
                .map(str::to_owned)
        });
        series.collect::<BTreeSet<_>>()
    };
    let before = series(&gateway);
    assert!(before.len() > 100, "hardly anything is there");
    for number in 0..2_000 {
        let path = match number % 2 {
            0 => format!("/pay/marker-{number}"),
            _ => format!("/marker-{number}"),
        };
        let request = format!(
            "POST {path}?marker-{number} HTTP/1.1\r\nHost: marker-{number}.test\r\n\
             X-Request-Id: marker-{number}\r\nContent-Length: 0\r\n\r\n"
        );
        client.exchange(request);
    }
    assert_eq!(series(&gateway), before);
    let text = String::from_utf8(gateway.admin("/metrics").body).expect("UTF-8");
    assert!(!text.contains("marker"), "{text}");
    assert!(!text.contains("127.0.0.1"), "{text}");
    let total = scrape(&gateway).sum("gateway_proxy_requests_total", &[]);
    assert_eq!(total, 2_000.0);
}

#[test]
fn the_reader_of_these_tests_refuses_what_prometheus_would() {
    let good = "# HELP a_total A.\n# TYPE a_total counter\na_total{x=\"1\"} 1\n";
    parse(good).expect("a valid text");
    for (from, to) in [
        ("# TYPE a_total counter\n", ""),
        ("# HELP a_total A.\n", ""),
        ("counter", "gauge"),
        ("a_total", "a"),
        ("a_total{", "b_total{"),
        ("{x=\"1\"}", "{x=1}"),
        ("{x=\"1\"}", "{x=\"1\",x=\"1\"}"),
        (
            "a_total{x=\"1\"} 1\n",
            "a_total{x=\"1\"} 1\na_total{x=\"1\"} 1\n",
        ),
        ("a_total{x=\"1\"} 1\n", "a_total{x=\"1\"} 1"),
        ("a_total{x=\"1\"} 1\n", ""),
        ("} 1", "} one"),
        ("} 1", "} -1"),
    ] {
        let bad = good.replace(from, to);
        assert!(parse(&bad).is_err(), "taken for valid:\n{bad}");
    }
}

/// What is worth waking somebody, or telling them in the morning.
const ALERTS: [(&str, &str); 12] = [
    (
        "increase(gateway_proxy_requests_total{outcome=\"unknown\"}[5m]) > 0",
        "Somebody has to look these orders up at MODEN; the access log names the requests.",
    ),
    (
        "increase(gateway_proxy_errors_total{code=\"credential-rejected\"}[5m]) > 0",
        "MODEN does not accept the credential: nothing is paid until it is replaced.",
    ),
    (
        "gateway_credentials_available == 0",
        "Nothing is forwarded; the application log says why.",
    ),
    (
        "min_over_time(gateway_paused[15m]) == 1",
        "A pause lasts, or was forgotten: every payment is refused with 503 `paused` until `resume`.",
    ),
    (
        "max_over_time(gateway_upstream_breaker_state[1m]) == 2",
        "The circuit breaker is open: MODEN, or the way to it, fails, and payments are refused with 503 \
         `upstream-unavailable`; the application log says by what.",
    ),
    (
        "rate(gateway_upstream_connect_failures_total[5m]) > 0.1",
        "MODEN, or the way to it, is away. `reason=\"certificate\"` is never normal.",
    ),
    (
        "rate(gateway_upstream_phase_duration_seconds_count{phase=\"queue\"}[5m]) > 1",
        "Requests wait for a connection: raise `upstream.max_connections`, or MODEN is slow.",
    ),
    (
        "rate(gateway_limits_denied_total{mode=\"enforce\"}[5m]) > 0",
        "A policy turns requests away; its name is in the label, the callers are in the access log.",
    ),
    (
        "increase(gateway_access_log_dropped_lines_total[5m]) > 0",
        "The disk or the reader of the access log is too slow, or full.",
    ),
    (
        "gateway_server_certificate_expiry_timestamp_seconds - time() < 14 * 86400",
        "A listener's certificate ends in two weeks and was not renewed; from its end on no client is served there.",
    ),
    (
        "increase(gateway_server_certificate_changes_total{result=\"refused\"}[15m]) > 0",
        "A renewed certificate cannot be used; the log says why, and the old one is served until it ends.",
    ),
    (
        "process_open_fds / process_max_fds > 0.8",
        "Raise the limit of open files before connections are refused.",
    ),
];

/// Labels whose values are words of the code, worth listing.
const CLOSED_LABELS: [&str; 6] = ["status", "outcome", "phase", "state", "reason", "result"];

#[test]
fn the_catalogue_in_the_documentation_is_the_one_in_the_code() {
    let metrics = Metrics::build(Environment::Sandbox);
    metrics.proxy(["route"].into_iter(), ["code"].into_iter());
    metrics.listener(0);
    metrics.load();
    metrics.read_load(|| 0, || 0);
    metrics.listener_tls(0);
    metrics.policy("policy", LimitMode::Enforce);
    let scrape = parse(&metrics.render()).expect("a valid text");
    let catalogue = catalogue(&scrape.0);

    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let documented = std::fs::read_to_string(root.join("docs/metrics.md"));
    if documented.unwrap_or_default() != catalogue {
        let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join("metrics.md");
        std::fs::write(&made, catalogue).expect("the folder is for this");
        panic!(
            "docs/metrics.md differs from the metrics; look at what changed, then: cp {} docs/metrics.md",
            made.display()
        );
    }
}

fn catalogue(families: &[Family]) -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         `GET /metrics` on the admin listener, in Prometheus text. Made from \
         `src/telemetry/metrics.rs`; a test fails when this page differs from it.\n\n\
         Every metric also has the label `environment`. Labels take their values from the \
         configuration or the code, never from a request: the number of series is fixed at start.\n\n\
         | metric | type | labels | meaning |\n|---|---|---|---|\n",
    );
    for family in families {
        let labels = labels(family).join("; ");
        let (name, kind, help) = (&family.name, &family.kind, &family.help);
        text.push_str(&format!("| `{name}` | {kind} | {labels} | {help} |\n"));
    }
    let durations = families.iter().find(|family| family.kind == "histogram");
    let durations = durations.expect("durations are histograms");
    let bounds: BTreeMap<_, _> = (durations.samples.iter())
        .filter_map(|sample| sample.labels.get("le"))
        .map(|bound| (bound.parse::<f64>().map(f64::to_bits).ok(), bound.as_str()))
        .collect();
    let bounds: Vec<_> = bounds.into_values().collect();
    text.push_str(&format!(
        "\nHistograms have the buckets {} seconds.\n\n\
         ## Alerts to begin with\n\n| expression | what to do |\n|---|---|\n",
        bounds.join(", ")
    ));
    for (expression, meaning) in ALERTS {
        let names = expression.split(|c: char| !c.is_ascii_lowercase() && c != '_');
        for name in
            names.filter(|name| name.starts_with("gateway_") || name.starts_with("process_"))
        {
            let is_there = |family: &Family| name.trim_end_matches("_count") == family.name;
            assert!(families.iter().any(is_there), "no metric is named {name}");
        }
        text.push_str(&format!("| `{expression}` | {meaning} |\n"));
    }
    text
}

/// The labels of a family, with their values where those are words of the code.
fn labels(family: &Family) -> Vec<String> {
    let mut values: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (label, value) in family.samples.iter().flat_map(|sample| &sample.labels) {
        let values = values.entry(label).or_default();
        if !values.contains(&value.as_str()) {
            values.push(value);
        }
    }
    let own = values
        .into_iter()
        .filter(|(label, _)| !matches!(*label, "environment" | "le"));
    own.map(|(label, values)| match CLOSED_LABELS.contains(&label) {
        true => format!("`{label}`: {}", values.join(", ")),
        false => format!("`{label}`"),
    })
    .collect()
}
