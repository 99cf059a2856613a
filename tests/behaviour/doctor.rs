//! `doctor` tells everything that is wrong on the way to a payment, each on a line, and no secret.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use insta::assert_snapshot;
use moden_gateway::domain::Environment;
use moden_gateway::simulator::SimulatorOptions;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::Value as Json;
use tempfile::TempDir;

use crate::support::program::start_in;
use crate::support::{
    APP_ID, AUTHORIZATION, ClosedPort, SECRET, ScriptedUpstream, TestSimulator, write_private,
};

/// MODEN's answer to a question for the balance.
const BALANCE: &str = r#"{"status":"success","data":{"totalAssets":1.5,"coin":"USDT"}}"#;

/// A configuration in a folder of its own, with its secrets, that can be changed before it is
/// examined.
struct Patient {
    folder: TempDir,
    environment: Environment,
    server: String,
    listener: String,
    admin: String,
    base_url: String,
    upstream: String,
}

/// What the program said of one.
struct Examination {
    code: i32,
    report: Json,
}

impl Patient {
    fn new(base_url: impl Into<String>) -> Self {
        let folder = TempDir::with_prefix("moden-gateway-test-").expect("a temporary folder");
        write_private(&folder.path().join("app-id"), APP_ID);
        write_private(&folder.path().join("secret"), SECRET);
        Self {
            folder,
            environment: Environment::Sandbox,
            server: String::new(),
            listener: "127.0.0.1:0".to_owned(),
            admin: "127.0.0.1:0".to_owned(),
            base_url: base_url.into(),
            upstream: String::new(),
        }
    }

    fn production(mut self) -> Self {
        self.environment = Environment::Production;
        self
    }

    fn upstream(mut self, line: &str) -> Self {
        self.upstream.push_str(line);
        self.upstream.push('\n');
        self
    }

    /// Trusts this certificate authority.
    fn ca(self, pem: &str) -> Self {
        let path = self.folder.path().join("ca.pem");
        write_private(&path, pem);
        self.upstream(&format!("ca_file = {path:?}"))
    }

    fn run(&self, flags: &[&str]) -> (i32, String) {
        let Self {
            folder,
            environment,
            server,
            listener,
            admin,
            base_url,
            upstream,
        } = self;
        let path = |name: &str| folder.path().join(name);
        let armed = match environment {
            Environment::Production => "armed = true",
            Environment::Sandbox => "",
        };
        let text = format!(
            "environment = \"{environment}\"\n[server]\n{server}\n\
             [[listeners]]\naddress = \"{listener}\"\nmax_connections = 10\n\
             [admin]\naddress = \"{admin}\"\n\
             [environments.{environment}]\nbase_url = \"{base_url}\"\n{armed}\n\
             app_id = {{ file = {app_id:?} }}\nsecret = {{ file = {secret:?} }}\n\
             [upstream]\nmax_connections = 4\n{upstream}",
            app_id = path("app-id"),
            secret = path("secret"),
        );
        write_private(&path("gateway.toml"), &text);
        let arguments = [&["doctor", "--config", "gateway.toml"], flags].concat();
        let ended = start_in(folder.path(), &arguments, &[]).end();
        assert_eq!(ended.stderr, "", "everything is told on stdout");
        assert_shows_no_secret(&ended.stdout);
        (ended.code, ended.stdout)
    }

    fn examine_with(&self, flags: &[&str]) -> Examination {
        let (code, text) = self.run(&[&["--json"], flags].concat());
        let report = serde_json::from_str(&text).expect("one JSON object");
        Examination { code, report }
    }

    fn examine(&self) -> Examination {
        self.examine_with(&[])
    }
}

#[track_caller]
fn assert_shows_no_secret(text: &str) {
    let encoded = AUTHORIZATION
        .trim_start_matches("Basic ")
        .trim_end_matches('=');
    for marker in [SECRET, APP_ID, encoded, &STANDARD.encode(SECRET)] {
        assert!(!text.contains(marker), "{text}");
    }
}

impl Examination {
    /// Every finding as `status check`, in order.
    fn statuses(&self) -> Vec<String> {
        let word = |finding: &Json, key: &str| finding[key].as_str().expect("a word").to_owned();
        let findings = self.report["findings"].as_array().expect("a list").iter();
        findings
            .map(|finding| format!("{} {}", word(finding, "status"), word(finding, "check")))
            .collect()
    }

    /// Findings that are neither ok nor skipped.
    fn complaints(&self) -> Vec<String> {
        let mut statuses = self.statuses();
        statuses.retain(|status| !status.starts_with("ok ") && !status.starts_with("skipped "));
        statuses
    }

    /// What was seen by one check, line by line.
    fn seen(&self, check: &str) -> String {
        let findings = self.report["findings"].as_array().expect("a list").iter();
        let seen: Vec<_> = findings
            .filter(|finding| finding["check"] == check)
            .map(|finding| finding["seen"].as_str().expect("a text"))
            .collect();
        seen.join("\n")
    }
}

fn simulator_with_tls() -> TestSimulator {
    TestSimulator::start_with(SimulatorOptions {
        tls: true,
        ..SimulatorOptions::default()
    })
}

#[test]
fn finds_nothing_wrong_where_all_is_well() {
    let simulator = TestSimulator::start();
    let mut patient = Patient::new(simulator.base_url(Environment::Sandbox));
    // Each core wants files.
    patient.server = "threads = 1".to_owned();
    let (code, text) = patient.run(&[]);
    let port = simulator.address().port().to_string();
    // What differs from run to run and from machine to machine.
    let ends = [", after ", " may be needed"];
    let text: Vec<_> = text
        .lines()
        .map(|line| {
            ends.iter()
                .find_map(|end| line.split_once(end))
                .map_or(line, |cut| cut.0)
        })
        .map(|line| line.replace(&port, "PORT"))
        .collect();
    assert_snapshot!(text.join("\n"), @"
    ok       configuration  valid; read gateway.toml
    ok       secrets        environments.sandbox.app_id: read from a file that others can neither read nor replace
    ok       secrets        environments.sandbox.secret: read from a file that others can neither read nor replace
    ok       open-files     210
    ok       addresses      all can be listened on
    ok       dns            127.0.0.1 is an address and needs no name server
    ok       connection     127.0.0.1:PORT
    skipped  tls            the base URL is http://, which only a simulator on this machine has
    skipped  certificate    the base URL is http://, which only a simulator on this machine has
    ok       credential     MODEN accepts it: 200 to a question for the balance
    ok       clock          within 5 s of MODEN's
    ok: sandbox
    ");
    assert_eq!(code, 0);

    let requests = simulator.control().requests();
    assert_eq!(requests.len(), 1, "one question is enough");
    assert_eq!(simulator.control().committed_total(), 0);
}

#[test]
fn follows_tls_to_the_certificates_and_the_credential() {
    let simulator = simulator_with_tls();
    let patient = Patient::new(simulator.base_url(Environment::Sandbox));
    let patient = patient.ca(simulator.ca_pem().expect("it speaks TLS"));
    let examination = patient.examine();
    assert_eq!(examination.code, 0);
    assert_eq!(examination.report["status"], "ok");
    assert_eq!(examination.report["environment"], "sandbox");
    assert_eq!(
        examination.statuses(),
        [
            "ok configuration",
            "ok secrets",
            "ok secrets",
            "ok open-files",
            "ok addresses",
            "ok dns",
            "ok connection",
            "ok tls",
            "ok certificate",
            "ok credential",
            "ok clock"
        ]
    );
    let tls = examination.seen("tls");
    assert!(tls.starts_with("TLSv1_3, TLS13_"), "{tls}");
    let certificate = examination.seen("certificate");
    let subject = "CN=moden-gateway simulator: expires in ";
    assert!(certificate.starts_with(subject), "{certificate}");
}

/// Such as the sign-in page of a network.
#[test]
fn takes_no_other_answer_for_that_of_moden() {
    for content in ["<html>Welcome</html>", "{}", "{\"status\":\"fail\"}", ""] {
        let upstream = ScriptedUpstream::start(move |mut conversation| {
            if conversation.request().is_some() {
                conversation.answer(content);
            }
        });
        let examination = Patient::new(upstream.base_url()).examine();
        assert_eq!(examination.complaints(), ["warn credential"], "{content}");
        assert!(examination.seen("credential").contains("not MODEN's"));
    }
}

#[test]
fn tells_a_wrong_secret_and_what_it_means() {
    let simulator = TestSimulator::start();
    let accepted = simulator.control().accept_only(APP_ID, &"another".into());
    accepted.expect("a valid credential");
    let examination = Patient::new(simulator.base_url(Environment::Sandbox)).examine();
    assert_eq!(examination.code, 69);
    assert_eq!(examination.complaints(), ["fail credential"]);
    assert_eq!(
        examination.seen("credential"),
        "MODEN does not accept it: 401"
    );
}

#[test]
fn tells_other_answers_without_what_they_say() {
    for (answer, complaint, seen) in [
        (
            "412 Precondition Failed\r\nContent-Length: 44\r\n\r\n\
             {\"status\":\"fail\",\"code\":10000,\"message\":\"\"}\n",
            "fail credential",
            "MODEN refuses to tell the balance: 412 with code 10000",
        ),
        (
            "412 Precondition Failed\r\nContent-Length: 9\r\n\r\n<marker/>",
            "fail credential",
            "MODEN refuses to tell the balance: 412 with no code",
        ),
        (
            "404 Not Found\r\nContent-Length: 0\r\n\r\n",
            "warn credential",
            "nothing is known of it: 404 to a question for the balance",
        ),
        (
            "503 Busy\r\nContent-Length: 0\r\n\r\n",
            "warn credential",
            "nothing is known of it: 503 to a question for the balance",
        ),
    ] {
        let upstream = ScriptedUpstream::start(move |mut conversation| {
            if conversation.request().is_some() {
                conversation.say(format!("HTTP/1.1 {answer}"));
            }
        });
        let examination = Patient::new(upstream.base_url()).examine();
        assert_eq!(examination.complaints(), [complaint]);
        assert_eq!(examination.seen("credential"), seen);
        assert_eq!(
            upstream.requests()[0].start_line,
            "POST /pay/sandbox/inquire/wallet HTTP/1.1"
        );
        assert_eq!(upstream.requests()[0].field("authorization"), AUTHORIZATION);
    }
}

#[test]
fn tells_an_upstream_that_is_not_there() {
    let nobody = ClosedPort::bind();
    let examination = Patient::new(nobody.base_url()).examine();
    assert_eq!(examination.code, 69);
    assert_eq!(examination.complaints(), ["fail connection"]);
    assert_eq!(examination.seen("credential"), "MODEN cannot be reached");
}

#[test]
fn tells_a_certificate_that_is_not_trusted() {
    let (simulator, other) = (simulator_with_tls(), simulator_with_tls());
    let patient = Patient::new(simulator.base_url(Environment::Sandbox));
    let examination = patient.ca(other.ca_pem().expect("it speaks TLS")).examine();
    assert_eq!(examination.code, 69);
    assert_eq!(examination.complaints(), ["fail tls"]);
    let seen = examination.seen("tls");
    assert!(seen.contains("certificate was not accepted"), "{seen}");
    assert_eq!(simulator.control().request_count(), 0);
}

/// An upstream whose certificate ends this soon, and the authority that vouches for it.
fn ending_in(left: Duration) -> (ScriptedUpstream, String) {
    let mut ca = CertificateParams::new(Vec::new()).expect("no names");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().expect("a key");
    let ca_pem = ca.self_signed(&ca_key).expect("an authority").pem();
    let mut server = CertificateParams::new(["127.0.0.1".to_owned()]).expect("an address");
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    server.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_1970.expect("after 1970") + left;
    let key = KeyPair::generate().expect("a key");
    let signed = server.signed_by(&key, &Issuer::new(ca, ca_key));
    let certificate = signed.expect("a certificate").der().clone();

    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("usual versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("the key fits");
    let config = Arc::new(config);
    let upstream = ScriptedUpstream::start(move |conversation| {
        let mut tls = rustls::ServerConnection::new(Arc::clone(&config)).expect("a connection");
        let mut socket = conversation.socket();
        let mut stream = rustls::Stream::new(&mut tls, &mut socket);
        // The first connection shakes hands only, the second one brings the question.
        if stream.read(&mut [0; 4096]).is_ok_and(|bytes| bytes > 0) {
            let length = BALANCE.len();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{BALANCE}");
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (upstream, ca_pem)
}

#[test]
fn tells_how_soon_a_certificate_ends() {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    for (left, complaint, days, code) in [
        (DAY + DAY / 2, "fail certificate", "expires in 1 days", 69),
        (
            DAY * 10 + DAY / 2,
            "warn certificate",
            "expires in 10 days",
            0,
        ),
    ] {
        let (upstream, ca_pem) = ending_in(left);
        let base_url = format!("https://{}/pay/sandbox", upstream.address());
        let examination = Patient::new(base_url).ca(&ca_pem).examine();
        assert_eq!(examination.complaints(), [complaint]);
        assert!(examination.seen("certificate").contains(days));
        assert_eq!(examination.code, code);
        assert!(
            examination
                .seen("credential")
                .starts_with("MODEN accepts it")
        );
    }
}

#[test]
fn tells_a_clock_that_is_off() {
    let ago = |seconds| SystemTime::now() - Duration::from_secs(seconds);
    let ahead = |seconds| SystemTime::now() + Duration::from_secs(seconds);
    for (date, complaints, direction) in [
        (ago(3600), vec!["fail clock"], "ahead of MODEN's"),
        (ahead(3600), vec!["fail clock"], "behind MODEN's"),
        (ago(60), vec!["warn clock"], "ahead of MODEN's"),
        (ago(2), vec![], "within 5 s of MODEN's"),
    ] {
        let upstream = ScriptedUpstream::start(move |mut conversation| {
            if conversation.request().is_some() {
                let date = httpdate::fmt_http_date(date);
                let length = BALANCE.len();
                let head = format!("HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Length: {length}");
                conversation.say(format!("{head}\r\n\r\n{BALANCE}"));
            }
        });
        let examination = Patient::new(upstream.base_url()).examine();
        assert_eq!(examination.complaints(), complaints);
        let seen = examination.seen("clock");
        assert!(seen.ends_with(direction), "{seen}");
    }
}

#[test]
fn tells_secret_files_that_others_can_read_or_replace() {
    let simulator = TestSimulator::start();
    let chmod = |patient: &Patient, name: &str, mode| {
        let path = patient.folder.path().join(name);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    let patient = Patient::new(simulator.base_url(Environment::Sandbox));
    chmod(&patient, "secret", 0o644);
    let examination = patient.examine();
    assert_eq!(
        (examination.code, examination.complaints()),
        (0, vec!["warn secrets".into()])
    );
    let seen = examination.seen("secrets");
    assert!(
        seen.contains("environments.sandbox.secret: the secret file is readable"),
        "{seen}"
    );

    let patient = Patient::new(simulator.base_url(Environment::Production)).production();
    chmod(&patient, "secret", 0o644);
    let examination = patient.examine();
    assert_eq!(
        (examination.code, examination.complaints()),
        (78, vec!["fail secrets".into()])
    );

    let patient = Patient::new(simulator.base_url(Environment::Production)).production();
    chmod(&patient, ".", 0o777);
    let examination = patient.examine();
    assert_eq!((examination.code, examination.complaints().len()), (69, 2));
    let seen = examination.seen("secrets");
    assert!(seen.contains("others can put a file of theirs"), "{seen}");
    // Kubernetes mounts secrets like this.
    chmod(&patient, ".", 0o1777);
    assert_eq!(patient.examine().complaints(), [""; 0]);
}

#[test]
fn tells_a_name_that_does_not_resolve() {
    let patient = Patient::new("https://no-such-host.invalid/pay/sandbox");
    let examination = patient.upstream("connect_timeout = \"500ms\"").examine();
    assert_eq!(examination.code, 69);
    assert_eq!(examination.complaints(), ["fail dns"]);
    assert_eq!(examination.seen("tls"), "MODEN cannot be reached");
}

#[test]
fn looks_up_the_egress_proxy_where_there_is_one() {
    let nobody = ClosedPort::bind();
    let examination = Patient::new("https://no-such-host.invalid/pay/sandbox")
        .upstream(&format!("proxy = \"http://{}\"", nobody.address()))
        .examine();
    assert_eq!(examination.complaints(), ["fail connection"]);
    assert!(
        examination
            .seen("dns")
            .starts_with("127.0.0.1 is an address")
    );
}

#[test]
fn asks_production_only_when_told_to() {
    let simulator = TestSimulator::start();
    let patient = Patient::new(simulator.base_url(Environment::Production)).production();
    let examination = patient.examine();
    assert_eq!(
        (examination.code, simulator.control().request_count()),
        (0, 0)
    );
    assert!(
        examination
            .statuses()
            .contains(&"skipped credential".to_owned())
    );
    assert!(
        examination
            .seen("credential")
            .starts_with("give --production ")
    );
    assert!(examination.seen("connection").starts_with("127.0.0.1:"));

    let examination = patient.examine_with(&["--production"]);
    assert_eq!(
        (examination.code, simulator.control().request_count()),
        (0, 1)
    );
    assert!(examination.statuses().contains(&"ok credential".to_owned()));
}

#[test]
fn says_whether_a_gateway_seems_to_run() {
    let simulator = TestSimulator::start();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = taken.local_addr().map(|address| (address, taken));
    let (address, listening) = taken.expect("it is bound");
    let mut patient = Patient::new(simulator.base_url(Environment::Sandbox));
    patient.listener = address.to_string();
    let examination = patient.examine();
    assert_eq!(examination.complaints(), [""; 0]);
    assert!(examination.seen("addresses").starts_with("all in use"));

    let nobody = ClosedPort::bind();
    patient.admin = nobody.address().to_string();
    // Bound by somebody who does not listen and would not share it.
    let examination = patient.examine();
    assert_eq!(examination.complaints(), [""; 0]);
    drop(listening);
    let examination = patient.examine();
    assert_eq!(examination.complaints(), ["warn addresses"]);

    patient.admin = "192.0.2.1:9090".to_owned();
    let examination = patient.examine();
    assert_eq!(examination.complaints(), ["fail addresses"]);
}

#[test]
fn tells_everything_that_is_wrong_at_once_and_sends_no_credential_then() {
    let (simulator, other) = (simulator_with_tls(), simulator_with_tls());
    let base_url = simulator.base_url(Environment::Sandbox);
    let mut patient = Patient::new(base_url).ca(other.ca_pem().expect("it speaks TLS"));
    patient.server = "thread = 1\ndrain_timeout = 5".to_owned();
    patient.admin = "192.0.2.1:9090".to_owned();
    fs::remove_file(patient.folder.path().join("secret")).expect("it is there");
    let examination = patient.examine();
    assert_eq!(examination.code, 78);
    assert_eq!(
        examination.complaints(),
        [
            "fail configuration",
            "fail configuration",
            "fail secrets",
            "fail addresses",
            "fail tls"
        ]
    );

    let simulator = TestSimulator::start();
    let mut patient = Patient::new(simulator.base_url(Environment::Sandbox));
    patient.server = "thread = 1".to_owned();
    let examination = patient.examine();
    assert_eq!((examination.code, examination.complaints().len()), (78, 1));
    assert!(examination.statuses().contains(&"ok connection".to_owned()));
    assert!(
        examination
            .statuses()
            .contains(&"skipped credential".to_owned())
    );
    assert_eq!(simulator.control().request_count(), 0);

    // Where the way itself is at fault, a default stands in its place and is left alone.
    let examination = Patient::new("http://192.0.2.1/pay/sandbox").examine();
    assert_eq!((examination.code, examination.complaints().len()), (78, 1));
    assert!(examination.statuses().contains(&"skipped dns".to_owned()));
}

#[test]
fn tells_that_no_environment_is_named() {
    let folder = TempDir::with_prefix("moden-gateway-test-").expect("a temporary folder");
    write_private(
        &folder.path().join("gateway.toml"),
        "[server]\nthreads = 1\n",
    );
    let arguments = ["doctor", "--json", "--config", "gateway.toml"];
    let ended = start_in(folder.path(), &arguments, &[]).end();
    let report = serde_json::from_str(&ended.stdout).expect("one JSON object");
    let examination = Examination {
        code: ended.code,
        report,
    };
    assert_eq!((examination.code, examination.statuses().len()), (78, 10));
    assert_eq!(examination.complaints(), ["fail configuration"]);
    assert_eq!(examination.report["environment"], Json::Null);
}
