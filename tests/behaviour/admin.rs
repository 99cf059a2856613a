//! The admin listener: what operators see and do, and who is taken for one.

use std::fs;
use std::time::{Duration, Instant};

use moden_gateway::simulator::{Fault, Times};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::metrics::parse;
use crate::support::program::{Ended, Program, running_configuration, sh, start, start_in};
use crate::support::{
    Client, ClosedPort, GatewayBuilder, Message, PATIENCE, ScriptedUpstream, TestGateway,
    TestSimulator, captured_log, eventually, payment, post, sha256,
};

const TOKEN: &str = "token-of-the-operators";

/// A gateway that has nowhere to send to, and the token if it is to have one.
fn gateway(nobody: &ClosedPort, has_token: bool) -> GatewayBuilder {
    let builder = TestGateway::builder().base_url(nobody.base_url());
    match has_token {
        true => builder.admin(&format!("token_sha256 = \"{}\"", sha256(TOKEN))),
        false => builder,
    }
}

fn request(method: &str, path: &str, fields: &[&str]) -> String {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    format!("{method} {path} HTTP/1.1\r\n{fields}\r\n")
}

fn ask(gateway: &TestGateway, method: &str, path: &str, fields: &[&str]) -> Message {
    let fields = [&["Host: localhost"], fields].concat();
    gateway.admin_exchange(request(method, path, &fields))
}

fn turn(gateway: &TestGateway, path: &str) -> Value {
    let token = format!("Authorization: Bearer {TOKEN}");
    let answer = ask(gateway, "POST", path, &[&token]);
    assert_eq!(answer.status(), 200, "{answer:?}");
    answer.json()
}

fn text(message: &Message) -> &str {
    std::str::from_utf8(&message.body).expect("a text")
}

/// What the metric says about a pause.
fn paused_gauge(gateway: &TestGateway) -> f64 {
    let scrape = parse(text(&gateway.admin("/metrics"))).expect("a valid text");
    scrape.sum("gateway_paused", &[])
}

/// What a path is for, as docs/operations.md says it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Health,
    Read,
    Change,
    Nothing,
}

#[test]
fn who_may_do_what_depends_on_the_address_and_the_token() {
    let nobody = ClosedPort::bind();
    let paths = [
        ("/livez", Kind::Health),
        ("/readyz", Kind::Health),
        ("/metrics", Kind::Health),
        ("/status", Kind::Read),
        ("/", Kind::Read),
        ("/control/resume", Kind::Change),
        ("/control/pause", Kind::Change),
        ("/control/reload", Kind::Nothing),
        ("/orders", Kind::Nothing),
        ("/status/", Kind::Nothing),
        ("/STATUS", Kind::Nothing),
    ];
    let right = format!("Authorization: Bearer {TOKEN}");
    let presented: [(&[&str], bool); 6] = [
        (&[], false),
        (&[&right], true),
        (&["Authorization: Bearer wrong"], false),
        (&["Authorization: Bearer "], false),
        (&["Authorization: Basic wrong"], false),
        (&[&right, &right], false),
    ];
    for (is_off_loopback, has_token) in [(false, false), (false, true), (true, false), (true, true)]
    {
        let gateway = match is_off_loopback {
            true => gateway(&nobody, has_token).admin_off_loopback(),
            false => gateway(&nobody, has_token),
        };
        let gateway = gateway.start();
        for (path, kind) in paths {
            for (fields, is_right) in presented {
                for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"] {
                    let is_read = matches!(method, "GET" | "HEAD");
                    let method_fits = match kind {
                        Kind::Health | Kind::Read => is_read,
                        Kind::Change => method == "POST",
                        Kind::Nothing => true,
                    };
                    let wants_token = match kind {
                        Kind::Health => false,
                        Kind::Read | Kind::Nothing => is_off_loopback,
                        Kind::Change => true,
                    };
                    let expected = match kind {
                        _ if !method_fits => 405,
                        _ if wants_token && !has_token => 403,
                        _ if wants_token && !is_right => 401,
                        Kind::Nothing => 404,
                        _ => 200,
                    };
                    let answer = ask(&gateway, method, path, fields);
                    let what = format!(
                        "{method} {path} {fields:?}, off loopback: {is_off_loopback}, \
                         token: {has_token}: {answer:?}"
                    );
                    assert_eq!(answer.status(), expected, "{what}");
                    assert_eq!(answer.field("cache-control"), "no-store", "{what}");
                    assert_eq!(answer.field("x-content-type-options"), "nosniff", "{what}");
                    let challenges = answer.all("www-authenticate");
                    assert_eq!(challenges.len(), usize::from(expected == 401), "{what}");
                    let allowed = match (expected, kind) {
                        (405, Kind::Change) => &["POST"][..],
                        (405, _) => &["GET, HEAD"],
                        _ => &[],
                    };
                    assert_eq!(answer.all("allow"), allowed, "{what}");
                    if expected == 403 && method != "HEAD" {
                        assert!(text(&answer).contains("admin.token_sha256"), "{what}");
                    }
                }
            }
        }
    }
}

#[test]
fn only_known_hosts_are_answered() {
    let nobody = ClosedPort::bind();
    let gateway = gateway(&nobody, false)
        .admin("hosts = [\"gateway.internal\"]")
        .start();
    for path in ["/livez", "/metrics", "/status", "/"] {
        for host in [
            "10.0.0.9:9090",
            "[::1]",
            "localhost",
            "Gateway.internal:9090",
        ] {
            let host = format!("Host: {host}");
            let answer = gateway.admin_exchange(request("GET", path, &[&host]));
            assert_eq!(answer.status(), 200, "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:9090", "a@localhost"] {
            let host = format!("Host: {host}");
            let answer = gateway.admin_exchange(request("GET", path, &[&host]));
            assert_eq!(answer.status(), 421, "{host}");
            assert!(text(&answer).contains("admin.hosts"), "{answer:?}");
        }
        let absolute = format!("http://evil.example{path}");
        assert_eq!(ask(&gateway, "GET", &absolute, &[]).status(), 421);
        for hosts in [&[][..], &["Host: localhost", "Host: localhost"], &["Host:"]] {
            let answer = gateway.admin_exchange(request("GET", path, hosts));
            assert_eq!(answer.status(), 400, "{hosts:?}");
        }
    }
}

#[test]
fn a_web_page_changes_nothing_even_with_the_token() {
    let nobody = ClosedPort::bind();
    let gateway = gateway(&nobody, true).start();
    let right = format!("Authorization: Bearer {TOKEN}");
    for field in [
        "Origin: https://evil.example",
        "Origin: null",
        "Sec-Fetch-Site: same-origin",
        "sec-fetch-mode: navigate",
    ] {
        let answer = ask(&gateway, "POST", "/control/pause", &[&right, field]);
        assert_eq!(answer.status(), 403, "{field}");
        assert_eq!(ask(&gateway, "GET", "/", &[field]).status(), 200, "{field}");
    }
    assert_eq!(gateway.admin("/status").json()["paused"], false);
}

#[test]
fn a_paused_gateway_sends_nothing_until_it_is_resumed() {
    let simulator = TestSimulator::start();
    let gateway = gateway(&ClosedPort::bind(), true)
        .simulator(&simulator)
        .start();
    assert_eq!(paused_gauge(&gateway), 0.0);
    let first = turn(&gateway, "/control/pause");
    assert_eq!(
        (&first["paused"], &first["changed"]),
        (&true.into(), &true.into())
    );
    let again = turn(&gateway, "/control/pause");
    assert_eq!(
        (&again["paused"], &again["changed"]),
        (&true.into(), &false.into())
    );
    assert_eq!(again["paused_since"], first["paused_since"]);
    assert_eq!(paused_gauge(&gateway), 1.0);

    let refused = gateway.exchange(payment("order-1"));
    assert_eq!((refused.status(), refused.code().as_str()), (503, "paused"));
    assert_eq!(refused.outcome(), "not-sent");
    assert_eq!(refused.field("retry-after"), "30");
    let proxy_status = refused.field("proxy-status");
    assert_eq!(proxy_status, "moden-gateway; error=http_request_denied");
    let nowhere = gateway.exchange(post("/other", &[], ""));
    assert_eq!(
        nowhere.code(),
        "route-not-found",
        "what is refused anyway still is"
    );
    let ready = gateway.admin("/readyz");
    assert_eq!(
        ready.status(),
        200,
        "a pause is a detail: other replicas are paused, too"
    );
    let since = first["paused_since"].as_str().expect("a time");
    assert_eq!(text(&ready), format!("ready\npaused since {since}\n"));
    assert_eq!(gateway.admin("/status").json()["paused_since"], since);

    let resumed = turn(&gateway, "/control/resume");
    assert_eq!(
        (&resumed["paused"], &resumed["changed"]),
        (&false.into(), &true.into())
    );
    assert_eq!(turn(&gateway, "/control/resume")["changed"], false);
    assert_eq!(paused_gauge(&gateway), 0.0);
    assert_eq!(gateway.exchange(payment("order-1")).status(), 200);
    assert_eq!(simulator.control().request_count(), 1);

    let lines = gateway.stop();
    assert_eq!(
        (&lines[0]["code"], &lines[0]["outcome"]),
        (&"paused".into(), &"not-sent".into())
    );
    let log = captured_log();
    for text in [
        "WARN moden_gateway::admin::control: paused",
        "resumed: requests",
    ] {
        let line = log.lines().find(|line| line.contains(text));
        assert!(
            line.is_some_and(|line| line.contains("peer=127.0.0.1:")),
            "{text}"
        );
    }
}

#[test]
fn a_pause_leaves_what_runs_alone_and_stops_what_is_still_arriving() {
    let simulator = TestSimulator::start();
    let control = simulator.control();
    control.set_fault(Fault::Delay(Duration::from_secs(1)), Times::Next(1));
    let gateway = gateway(&ClosedPort::bind(), true)
        .simulator(&simulator)
        .start();
    let mut running = gateway.connect();
    running.begin(payment("order-1"));
    eventually("the exchange", || {
        (control.request_count() == 1).then_some(())
    });
    let mut arriving = gateway.connect();
    let whole = post(
        "/pay/gateway",
        &[("X-Request-Id", "order-2")],
        "{\"sn\":\"order-2\"}",
    );
    let (most, rest) = whole.split_at(whole.len() - 1);
    arriving.begin(most);
    // Its head has been read when `100 Continue` comes, and its body is awaited.
    let mut waiting = gateway.connect();
    let head = "POST /pay/gateway HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    waiting.begin(head);
    let mut interim = [0; 64];
    let read = waiting.read_some(&mut interim).expect("an interim answer");
    assert!(interim.starts_with(b"HTTP/1.1 100 ") && read > 0);

    turn(&gateway, "/control/pause");
    arriving.write(rest);
    waiting.write("{}");
    for client in [&mut arriving, &mut waiting] {
        let answer = client.answer();
        assert_eq!(
            (answer.code().as_str(), answer.outcome()),
            ("paused", "not-sent")
        );
    }
    let answer = running.answer();
    assert_eq!((answer.status(), answer.outcome()), (200, "answered"));
    assert_eq!(control.request_count(), 1);
}

/// The README: from the answer to `pause` on no request begins to be sent.
#[test]
fn a_pause_stops_what_still_waits_for_a_connection_to_moden() {
    let upstream = ScriptedUpstream::start(|mut conversation| {
        while conversation.request().is_some() {
            std::thread::sleep(Duration::from_secs(1));
            conversation.answer("{}");
        }
    });
    let gateway = TestGateway::builder()
        .admin(&format!("token_sha256 = \"{}\"", sha256(TOKEN)))
        .threads(1)
        .upstream("max_connections = 1\nqueue_timeout = \"10s\"")
        .scripted(&upstream)
        .start();
    let mut running = gateway.connect();
    running.begin(payment("order-1"));
    eventually("the first at the upstream", || upstream.requests().pop());
    let mut waiting = gateway.connect();
    waiting.begin(payment("order-2"));
    std::thread::sleep(Duration::from_millis(300));

    turn(&gateway, "/control/pause");
    assert_eq!(upstream.requests().len(), 1, "not a byte of it has left");
    assert_eq!(running.answer().status(), 200);
    let answer = waiting.answer();
    assert_eq!((answer.status(), answer.outcome()), (503, "not-sent"));
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn the_status_tells_what_the_gateway_is_doing() {
    let nobody = ClosedPort::bind();
    let gateway = gateway(&nobody, false).start();
    let answer = gateway.admin("/status");
    assert_eq!(answer.field("content-type"), "application/json");
    let mut status = answer.json();
    let version = env!("CARGO_PKG_VERSION");
    let listener = gateway.address().to_string();
    for (path, expected) in [
        ("/environment", Value::from("sandbox")),
        ("/generation", 1.into()),
        ("/version", version.into()),
        ("/ready", true.into()),
        ("/not_ready_because", Value::Null),
        ("/draining", false.into()),
        ("/paused", false.into()),
        ("/paused_since", Value::Null),
        ("/listeners/0", listener.into()),
        ("/credential/slot", "current".into()),
        ("/credential/source", "file".into()),
    ] {
        let found = status.pointer_mut(path).map(Value::take);
        assert_eq!(found, Some(expected), "{path}");
    }
    for path in ["/uptime_seconds", "/credential/age_seconds"] {
        let seconds = status.pointer(path).and_then(Value::as_u64);
        assert!(seconds.is_some_and(|seconds| seconds < 600), "{path}");
    }
    assert!(status["commit"].is_string());
}

#[test]
fn the_status_of_a_gateway_without_a_credential_says_so() {
    let nobody = ClosedPort::bind();
    let gateway = gateway(&nobody, false).without_secret();
    let gateway = gateway.start_until("no credential");
    let status = gateway.admin("/status").json();
    assert_eq!(status["credential"], Value::Null);
    assert_eq!(status["ready"], false);
    assert_eq!(status["not_ready_because"], "no credential");
}

#[test]
fn the_page_shows_the_same_and_loads_nothing() {
    let nobody = ClosedPort::bind();
    let gateway = gateway(&nobody, true).start();
    turn(&gateway, "/control/pause");
    let answer = gateway.admin("/");
    assert_eq!(answer.field("content-type"), "text/html; charset=utf-8");
    let policy = answer.field("content-security-policy");
    assert_eq!(policy, "default-src 'none'; style-src 'unsafe-inline'");
    let page = text(&answer);
    let status = gateway.admin("/status").json();
    for name in status.as_object().expect("an object").keys() {
        let name = name.replace('_', " ");
        assert!(
            page.contains(&format!("<th scope=\"row\">{name}")),
            "{name}: {page}"
        );
    }
    assert!(page.contains("<th scope=\"row\">paused<td>yes"), "{page}");
    assert!(
        page.contains("<span class=\"sandbox\">sandbox</span>"),
        "{page}"
    );
    for foreign in ["http://", "https://", "<script", "src=", "{{"] {
        assert!(!page.contains(foreign), "{foreign}: {page}");
    }
}

#[test]
fn metrics_are_in_the_format_that_prometheus_reads() {
    let gateway = gateway(&ClosedPort::bind(), false).start();
    let metrics = gateway.admin("/metrics");
    let media_type = "text/plain; version=0.0.4; charset=utf-8";
    assert_eq!(metrics.field("content-type"), media_type);
}

#[test]
fn clients_that_misbehave_do_not_keep_a_probe_waiting() {
    let nobody = ClosedPort::bind();
    let gateway = gateway(&nobody, false).start();
    let address = gateway.admin_address();
    let is_alive_soon = |after: &str| {
        let begun = Instant::now();
        assert_eq!(gateway.admin("/livez").status(), 200, "{after}");
        assert!(begun.elapsed() < Duration::from_secs(1), "{after}");
    };
    let begun = Instant::now();
    let mut idle: Vec<_> = (0..200).map(|_| Client::connect(address)).collect();
    is_alive_soon("200 idle connections");
    assert!(idle[0].rest().is_empty());
    let room = "the oldest makes room long before its own deadline";
    assert!(begun.elapsed() < Duration::from_secs(5), "{room}");
    let mut half: Vec<_> = (0..200).map(|_| Client::connect(address)).collect();
    for client in &mut half {
        // The oldest have been closed already.
        let _ = client.try_write("GET /status HTTP/1.1\r\nHost: local");
    }
    is_alive_soon("200 halves of a head");
    let mut large = Client::connect(address);
    let _ = large.try_write("GET / HTTP/1.1\r\nHost: localhost\r\nX: ");
    let _ = large.try_write(vec![b'x'; 1 << 20]);
    is_alive_soon("a head of 1 MiB");
    let mut endless = Client::connect(address);
    endless.write("POST /status HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999\r\n\r\n");
    let _ = endless.try_write(vec![b'x'; 1 << 20]);
    is_alive_soon("a body without an end");
    drop((idle, half, large, endless));
    is_alive_soon("all of them");
}

#[test]
fn a_connection_is_closed_after_its_answer_and_when_none_is_asked_for() {
    let nobody = ClosedPort::bind();
    let gateway = gateway(&nobody, false).start();
    let mut silent = Client::connect(gateway.admin_address());
    let mut client = Client::connect(gateway.admin_address());
    let answer = client.exchange(request("GET", "/livez", &["Host: localhost"]));
    assert_eq!(answer.field("connection"), "close");
    assert!(client.rest().is_empty());
    let begun = Instant::now();
    assert!(silent.rest().is_empty());
    assert!(begun.elapsed() < PATIENCE, "the deadline of a connection");
}

// The commands, as an operator types them.

/// A running gateway, its admin address, and a folder with its configuration and the token.
struct Running {
    program: Program,
    admin: String,
    folder: TempDir,
}

/// Starts the program on a port that was free a moment ago, since commands have to know it.
fn running(base_url: &str) -> Running {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let admin = free.local_addr().expect("it is bound").to_string();
    drop(free);
    let text = running_configuration(base_url).replace(
        "[admin]\naddress = \"127.0.0.1:0\"\n",
        &format!(
            "[admin]\naddress = \"{admin}\"\ntoken_sha256 = \"{}\"\n",
            sha256(TOKEN)
        ),
    );
    write(&folder, "gateway.toml", &text);
    write(&folder, "token", &format!("{TOKEN}\n"));
    write(&folder, "wrong", "another-token");
    let program = start_in(folder.path(), &["run", "--config", "gateway.toml"], &[]);
    Running {
        program,
        admin,
        folder,
    }
}

fn write(folder: &TempDir, name: &str, text: &str) {
    fs::write(folder.path().join(name), text).expect("the folder can be written");
}

impl Running {
    fn command(&self, arguments: &[&str]) -> Ended {
        start_in(self.folder.path(), arguments, &[]).end()
    }

    fn configured(&self, command: &str, arguments: &[&str]) -> Ended {
        self.command(&[&[command, "--config", "gateway.toml"], arguments].concat())
    }
}

#[test]
fn an_operator_waits_for_a_gateway_pauses_it_and_resumes_it() {
    let nobody = ClosedPort::bind();
    let gateway = running(&nobody.base_url());
    let ended = gateway.configured("wait-ready", &[]);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (0, "ready\n"),
        "{}",
        ended.stderr
    );

    let token = ["--token-file", "token"];
    let ended = gateway.configured("pause", &token);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(
        ended.stdout.starts_with("paused since "),
        "{}",
        ended.stdout
    );
    let ended = gateway.configured("pause", &token);
    assert!(
        ended.stdout.starts_with("paused already since "),
        "{}",
        ended.stdout
    );
    assert_eq!(gateway.configured("wait-ready", &[]).code, 0);

    // The address alone is enough, and the token may come by stdin.
    let program = env!("CARGO_BIN_EXE_moden-gateway");
    let admin = &gateway.admin;
    let output = sh(&format!(
        "printf %s {TOKEN} | {program} resume --admin {admin} --token-file -"
    ));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(output.stdout, b"resumed: requests are forwarded again\n");
    let ended = gateway.command(&["resume", "--admin", admin, "--token-file", "token"]);
    assert_eq!(
        ended.stdout,
        "not paused: requests are forwarded, as before\n"
    );

    gateway.program.signal(Signal::TERM);
    let ended = gateway.program.end();
    assert_eq!(ended.code, 0);
    assert!(!ended.stderr.contains(TOKEN), "{}", ended.stderr);
}

#[test]
fn a_command_that_is_refused_says_what_to_do() {
    let nobody = ClosedPort::bind();
    let gateway = running(&nobody.base_url());
    assert_eq!(gateway.configured("wait-ready", &[]).code, 0);
    for (arguments, code, words) in [
        (&[][..], 64, "give the right token with --token-file"),
        (&["--token-file", "wrong"], 64, "answered 401 Unauthorized"),
        (
            &["--token-file", "nowhere"],
            69,
            "failed to use --token-file: the token could not be read",
        ),
        (&["--token-file", "/dev/null"], 64, "the token is empty"),
        (&["--token", TOKEN], 64, "unexpected argument"),
    ] {
        for command in ["pause", "resume"] {
            let ended = gateway.configured(command, arguments);
            let said = (ended.code, ended.stdout.as_str());
            assert_eq!(said, (code, ""), "{arguments:?}: {}", ended.stderr);
            assert!(
                ended.stderr.contains(words),
                "{arguments:?}: {}",
                ended.stderr
            );
            assert!(!ended.stderr.contains("another-token"), "{}", ended.stderr);
        }
    }
}

#[test]
fn without_a_configured_token_the_command_says_which_key_is_missing() {
    let nobody = ClosedPort::bind();
    let gateway = gateway(&nobody, false).start();
    let admin = gateway.admin_address().to_string();
    let ended = start(&["pause", "--admin", &admin], &[]).end();
    assert_eq!((ended.code, ended.stdout.as_str()), (78, ""));
    assert!(
        ended.stderr.contains("set admin.token_sha256"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_gateway_that_is_not_there_or_not_ready_is_unavailable() {
    let nobody = ClosedPort::bind();
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let admin = free.local_addr().expect("it is bound").to_string();
    drop(free);
    let wait = ["wait-ready", "--admin", &admin, "--timeout", "200ms"];
    let ended = start(&wait, &[]).end();
    assert_eq!((ended.code, ended.stdout.as_str()), (69, ""));
    let words = format!("not ready after 200ms: no gateway can be reached at {admin}");
    assert!(ended.stderr.starts_with(&words), "{}", ended.stderr);
    let ended = start(&["resume", "--admin", &admin], &[]).end();
    assert_eq!(ended.code, 69);
    assert!(ended.stderr.contains("admin.address"), "{}", ended.stderr);

    let unready = gateway(&nobody, false).without_secret();
    let unready = unready.start_until("no credential");
    let admin = unready.admin_address().to_string();
    let wait = ["wait-ready", "--admin", &admin, "--timeout", "300ms"];
    let ended = start(&wait, &[]).end();
    assert_eq!(ended.code, 69);
    let words = "503 Service Unavailable: no credential";
    assert!(ended.stderr.contains(words), "{}", ended.stderr);
}

#[test]
fn the_address_comes_from_a_configuration_that_lacks_all_else() {
    let nobody = ClosedPort::bind();
    let gateway = gateway(&nobody, false).admin_off_loopback().start();
    let port = gateway.admin_address().port();
    let folder = tempfile::tempdir().expect("a temporary folder");
    for host in ["0.0.0.0", "127.0.0.1"] {
        write(
            &folder,
            "a.toml",
            &format!("[admin]\naddress = \"{host}:{port}\"\n"),
        );
        let ended = start_in(folder.path(), &["wait-ready", "--config", "a.toml"], &[]).end();
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{host}");
    }
    for (text, code, words) in [
        (
            "[admin]\naddress = \"127.0.0.1:0\"",
            64,
            "give it with --admin",
        ),
        (
            "[admin]\naddress = \"x\"",
            78,
            "a.toml: admin.address: expected an IP address",
        ),
        ("[admin", 78, "a.toml: is no valid TOML"),
    ] {
        write(&folder, "a.toml", text);
        let ended = start_in(folder.path(), &["wait-ready", "--config", "a.toml"], &[]).end();
        assert_eq!(ended.code, code, "{text}: {}", ended.stderr);
        assert!(ended.stderr.contains(words), "{text}: {}", ended.stderr);
    }
    let ended = start(&["wait-ready", "--timeout", "30"], &[]).end();
    assert_eq!(ended.code, 64, "a duration has a unit");
}
