//! A listener speaks TLS 1.2 and 1.3 and nothing else, by the certificate that is on disk.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use insta::assert_snapshot;
use rustls::client::Resumption;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ProtocolVersion};

use crate::support::tls::{Authority, Pair, TlsClient, TlsFiles};
use crate::support::{
    PATIENCE, ScriptedUpstream, TestGateway, TestSimulator, captured_log, eventually, metrics,
    payment, program, write_private,
};

/// The content type of an alert, and the level that ends a connection.
///
/// # Source
/// RFC 8446 sections 5.1 and 6.
const ALERT: u8 = 21;
const FATAL: u8 = 2;

struct Setup {
    authority: Authority,
    pair: Pair,
    files: TlsFiles,
}

fn setup() -> Setup {
    let authority = Authority::new();
    let pair = authority.pair();
    let files = TlsFiles::of(&pair);
    Setup {
        authority,
        pair,
        files,
    }
}

impl Setup {
    fn config(&self) -> Arc<ClientConfig> {
        Arc::new(self.authority.client_config(&[&TLS13, &TLS12]))
    }

    fn gateway(&self, simulator: &TestSimulator) -> TestGateway {
        TestGateway::builder()
            .simulator(simulator)
            .listener(&self.files.listener())
            .start()
    }
}

fn sum(gateway: &TestGateway, name: &str, labels: &[(&str, &str)]) -> f64 {
    let text = String::from_utf8(gateway.admin("/metrics").body).expect("it is text");
    metrics::parse(&text)
        .expect("it is valid")
        .sum(name, labels)
}

fn failures(gateway: &TestGateway, reason: &str) -> f64 {
    let labels = [("listener", "0"), ("reason", reason)];
    sum(gateway, "gateway_server_tls_failures_total", &labels)
}

fn await_failures(gateway: &TestGateway, reason: &str, count: f64) {
    eventually("the failure to be counted", || {
        (failures(gateway, reason) == count).then_some(())
    });
}

fn changes(gateway: &TestGateway, result: &str) -> f64 {
    let labels = [("listener", "0"), ("result", result)];
    sum(gateway, "gateway_server_certificate_changes_total", &labels)
}

#[test]
fn serves_tls_1_2_and_1_3_and_keeps_the_connection() {
    let simulator = TestSimulator::start();
    let setup = setup();
    let gateway = setup.gateway(&simulator);
    let versions = [
        (&TLS12, ProtocolVersion::TLSv1_2),
        (&TLS13, ProtocolVersion::TLSv1_3),
    ];
    for (version, expected) in versions {
        let config = Arc::new(setup.authority.client_config(&[version]));
        let mut client = TlsClient::connect(gateway.address(), &config).expect("a handshake");
        assert_eq!(client.session().protocol_version(), Some(expected));
        assert_eq!(client.session().alpn_protocol(), Some(&b"http/1.1"[..]));
        for number in 0..3 {
            let answer = client.exchange(payment(&format!("{expected:?}-{number}")));
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.outcome(), "answered");
        }
    }
    assert_eq!(gateway.stop().len(), 6);
    assert_eq!(simulator.control().committed_total(), 6);
}

/// The beginning of a handshake that offers TLS 1.1 at most.
fn client_hello_of_tls_1_1() -> Vec<u8> {
    let mut hello = vec![3, 2];
    hello.extend([7; 32]);
    // No session, ECDHE-RSA with AES-128 and plain RSA with AES-128, no compression.
    hello.extend([0, 0, 4, 0xc0, 0x13, 0, 0x2f, 1, 0]);
    let length = u8::try_from(hello.len()).expect("it is short");
    let mut record = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend(hello);
    record
}

#[test]
fn what_is_no_tls_of_today_is_closed_with_an_alert() {
    let simulator = TestSimulator::start();
    let setup = setup();
    let gateway = setup.gateway(&simulator);
    let attempts = [
        client_hello_of_tls_1_1(),
        payment("in-plain-text"),
        vec![0xff; 600],
    ];
    for (number, attempt) in (1..).zip(&attempts) {
        let mut client = gateway.connect();
        client.write(attempt);
        let said = client.rest();
        assert_eq!(said.first(), Some(&ALERT), "{number}: {said:?}");
        assert_eq!(said.get(5), Some(&FATAL), "{number}: {said:?}");
        assert_eq!(said.len(), 7, "{number}: {said:?}");
        await_failures(&gateway, "protocol", f64::from(number));
    }
    assert!(gateway.stop().is_empty(), "none of them was a request");
    assert_eq!(simulator.control().request_count(), 0);
}

#[test]
fn a_client_that_asks_for_another_name_gets_the_one_certificate() {
    let simulator = TestSimulator::start();
    let setup = setup();
    let gateway = setup.gateway(&simulator);
    let error = TlsClient::connect_to("other.test", gateway.address(), &setup.config())
        .err()
        .expect("the client does not accept it");
    assert!(error.to_string().contains("not valid for name"), "{error}");
    let mut config = setup.authority.client_config(&[&TLS13]);
    config.enable_sni = false;
    let client = TlsClient::connect(gateway.address(), &Arc::new(config));
    assert_eq!(client.expect("a handshake").certificate(), setup.pair.der);
}

#[test]
fn a_handshake_that_does_not_end_in_time_is_closed() {
    let simulator = TestSimulator::start();
    let setup = setup();
    let gateway = TestGateway::builder()
        .simulator(&simulator)
        .listener(&setup.files.listener())
        .listener("tls_timeout = \"100ms\"")
        .start();
    let mut client = gateway.connect();
    client.write(&client_hello_of_tls_1_1()[..20]);
    assert!(client.rest().is_empty());
    await_failures(&gateway, "timeout", 1.0);

    let mut leaving = gateway.connect();
    leaving.write(&client_hello_of_tls_1_1()[..20]);
    drop(leaving);
    eventually("the client that left", || {
        (failures(&gateway, "closed") + failures(&gateway, "timeout") == 2.0).then_some(())
    });
}

#[test]
fn a_connection_without_a_byte_is_no_failed_handshake() {
    let simulator = TestSimulator::start();
    let setup = setup();
    let gateway = setup.gateway(&simulator);
    drop(gateway.connect());
    let listener = [("listener", "0")];
    eventually("the end of what was accepted", || {
        let accepted = "gateway_server_connections_accepted_total";
        let is_accepted = sum(&gateway, accepted, &listener) == 1.0;
        let open = sum(&gateway, "gateway_server_connections", &listener);
        (is_accepted && open == 0.0).then_some(())
    });
    assert_eq!(failures(&gateway, "closed"), 0.0);
}

#[test]
fn a_renewed_certificate_is_taken_up_under_load_without_a_failed_request() {
    let simulator = TestSimulator::start();
    let setup = setup();
    let gateway = setup.gateway(&simulator);
    let config = setup.config();
    let connect = || TlsClient::connect(gateway.address(), &config).expect("a handshake");
    let mut old = connect();
    assert_eq!(old.certificate(), setup.pair.der);
    let mut resuming = setup.authority.client_config(&[&TLS13]);
    resuming.resumption = Resumption::in_memory_sessions(4);
    let resuming = Arc::new(resuming);
    let resume = || {
        let mut client = TlsClient::connect(gateway.address(), &resuming).expect("a handshake");
        // The ticket comes behind the handshake.
        assert_eq!(client.exchange(payment("resumed")).status(), 200);
        client.is_resumed()
    };
    assert!(!resume());
    assert!(resume(), "a session is resumed by its ticket");

    let renewed = setup.authority.pair();
    let (is_over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for worker in 0..2 {
            let (connect, is_over, served) = (&connect, &is_over, &served);
            scope.spawn(move || {
                while !is_over.load(Ordering::Acquire) {
                    let number = served.fetch_add(1, Ordering::AcqRel);
                    let mut client = connect();
                    for round in 0..2 {
                        let order = format!("{worker}-{number}-{round}");
                        assert_eq!(client.exchange(payment(&order)).status(), 200);
                    }
                }
            });
        }
        // One after the other: in between they do not belong together.
        write_private(&setup.files.certificate(), &renewed.certificate);
        let before = served.load(Ordering::Acquire);
        eventually("connections in between", || {
            (served.load(Ordering::Acquire) > before + 20).then_some(())
        });
        write_private(&setup.files.key(), &renewed.key);
        eventually("the renewed certificate", || {
            (connect().certificate() == renewed.der).then_some(())
        });
        is_over.store(true, Ordering::Release);
    });
    assert_eq!(changes(&gateway, "renewed"), 1.0);
    assert_eq!(old.exchange(payment("on-the-old-one")).status(), 200);
    assert!(!resume(), "no session outlives its certificate");
    let lines = gateway.stop();
    assert!(lines.iter().all(|line| line["status"] == 200));
}

#[test]
fn a_pair_that_cannot_be_used_is_refused_and_the_old_one_kept() {
    let simulator = TestSimulator::start();
    let setup = setup();
    let gateway = setup.gateway(&simulator);
    let expired = setup.authority.pair_until(2001);
    setup.files.write(&expired.certificate, &expired.key);
    eventually("the refusal", || {
        (changes(&gateway, "refused") == 1.0).then_some(())
    });
    let client = TlsClient::connect(gateway.address(), &setup.config()).expect("a handshake");
    assert_eq!(client.certificate(), setup.pair.der);
    assert_eq!(changes(&gateway, "renewed"), 0.0);
    let log = captured_log();
    assert!(log.contains("a changed certificate was refused"));
    assert!(log.contains("the certificate has expired"));
}

#[test]
fn tells_when_the_certificate_ends_and_never_the_key() {
    let simulator = TestSimulator::start();
    let setup = setup();
    let gateway = setup.gateway(&simulator);
    let name = "gateway_server_certificate_expiry_timestamp_seconds";
    let expiry = sum(&gateway, name, &[("listener", "0")]);
    assert_eq!(expiry, 64_092_124_800.0, "the last day of the year 4000");
    let secret = setup.pair.key.lines().nth(1).expect("it has lines");
    assert!(!gateway.debug().contains(secret));
    assert!(!captured_log().contains(secret));
    for path in ["/metrics", "/status", "/"] {
        let body = String::from_utf8_lossy(&gateway.admin(path).body).into_owned();
        assert!(!body.contains(secret), "{path}");
    }
}

#[test]
fn a_plain_listener_has_no_certificate_in_its_metrics() {
    let simulator = TestSimulator::start();
    let gateway = TestGateway::before(&simulator);
    let text = String::from_utf8(gateway.admin("/metrics").body).expect("it is text");
    assert!(!text.contains("gateway_server_certificate"), "{text}");
}

#[test]
fn an_orderly_end_says_so_and_a_cut_reply_does_not() {
    let chunk = "x".repeat(4096);
    let upstream = ScriptedUpstream::start(move |mut conversation| {
        match conversation.request().map(|request| request.body.len()) {
            Some(2) => conversation.answer("{}"),
            Some(_) => {
                conversation.say(format!(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\n{chunk}\r\n"
                ));
                conversation.close();
            }
            None => {}
        }
    });
    let setup = setup();
    let gateway = TestGateway::builder()
        .scripted(&upstream)
        .listener(&setup.files.listener())
        .upstream("hold_answer = \"1KiB\"")
        .start();
    for version in [&TLS12, &TLS13] {
        let config = Arc::new(setup.authority.client_config(&[version]));
        let connect = || TlsClient::connect(gateway.address(), &config).expect("a handshake");
        let mut whole = connect();
        whole.write(
            "POST /pay/gateway HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
        );
        let said = whole.rest().expect("it ends with close_notify");
        assert!(said.starts_with(b"HTTP/1.1 200"));

        let mut cut = connect();
        cut.write("POST /pay/gateway HTTP/1.0\r\nContent-Length: 3\r\n\r\n{ }");
        let error = cut.rest().expect_err("a part must not look whole");
        assert!(
            [ErrorKind::ConnectionReset, ErrorKind::UnexpectedEof].contains(&error.kind()),
            "{error}"
        );
    }
}

#[test]
fn what_is_no_request_is_refused_inside_tls_with_an_orderly_end() {
    let simulator = TestSimulator::start();
    let setup = setup();
    let gateway = TestGateway::builder()
        .simulator(&simulator)
        .listener(&setup.files.listener())
        .listener("header_timeout = \"200ms\"")
        .start();
    let attempts = [
        ("POST /pay/a HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n", "400"),
        ("POST /pay/a HTTP/1.1\r\nHost: a\r\n", "408"),
    ];
    for (attempt, status) in attempts {
        let mut client =
            TlsClient::connect(gateway.address(), &setup.config()).expect("a handshake");
        client.write(attempt);
        let said = client.rest().expect("it ends with close_notify");
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{said}");
        assert!(said.contains("problem+json"), "{said}");
    }
    assert_eq!(gateway.stop().len(), 2, "each has its line");
}

#[test]
fn a_client_that_takes_nothing_of_its_reply_is_left() {
    let upstream = ScriptedUpstream::start(|mut conversation| {
        if conversation.request().is_some() {
            let content = "x".repeat(16 * 1024 * 1024);
            conversation.answer(&content);
        }
    });
    let setup = setup();
    let gateway = TestGateway::builder()
        .scripted(&upstream)
        .listener(&setup.files.listener())
        .listener("idle_timeout = \"200ms\"\nheader_timeout = \"200ms\"")
        .start();
    let mut client = TlsClient::connect(gateway.address(), &setup.config()).expect("a handshake");
    client.write(payment("deaf"));
    eventually("the end of the connection", || {
        let open = sum(&gateway, "gateway_server_connections", &[("listener", "0")]);
        (open == 0.0).then_some(())
    });
    assert!(client.rest().is_err(), "it is not the end of the reply");
}

#[test]
fn a_drain_ends_connections_that_are_silent_or_in_the_middle_of_a_handshake() {
    let simulator = TestSimulator::start();
    let setup = setup();
    let mut gateway = setup.gateway(&simulator);
    let mut silent = gateway.connect();
    let mut shaking = gateway.connect();
    shaking.write(&client_hello_of_tls_1_1()[..20]);
    let mut idle = TlsClient::connect(gateway.address(), &setup.config()).expect("a handshake");
    eventually("all three", || {
        let open = sum(&gateway, "gateway_server_connections", &[("listener", "0")]);
        (open == 3.0).then_some(())
    });
    gateway.begin_drain();
    assert!(silent.rest().is_empty());
    assert!(shaking.rest().is_empty());
    assert!(idle.rest().expect("an orderly end").is_empty());
    gateway.stop();
}

#[test]
fn check_and_start_tell_what_is_wrong_with_a_certificate() {
    let setup = setup();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, text: &str| write_private(&folder.path().join(name), text);
    let other = setup.authority.pair();
    let expired = setup.authority.pair_until(2001);
    write("good.crt", &setup.pair.certificate);
    write("good.key", &setup.pair.key);
    write("other.key", &other.key);
    write("expired.crt", &expired.certificate);
    write("expired.key", &expired.key);
    write("empty", "");
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    write("broken.crt", broken);
    let run = |command: &str, certificate: &str, key: &str| {
        let configuration = program::running_configuration("http://127.0.0.1:1/pay/sandbox");
        let tls = format!(
            "[[listeners]]\ntls = {{ certificate = \"{certificate}\", key = \"{key}\" }}\n"
        );
        write(
            "gateway.toml",
            &configuration.replace("[[listeners]]\n", &tls),
        );
        program::start_in(folder.path(), &[command, "--config", "gateway.toml"], &[]).end()
    };
    let pairs = [
        ("./absent", "./absent"),
        ("./good.crt", "./other.key"),
        ("./good.key", "./good.crt"),
        ("./empty", "./empty"),
        ("./broken.crt", "./good.key"),
        ("./", "./"),
        ("marker", "marker"),
    ];
    let mut told = String::new();
    for (certificate, key) in pairs {
        let ended = run("check", certificate, key);
        assert_eq!(ended.code, 78, "{}", ended.stderr);
        told += &ended.stderr;
        assert_eq!(run("run", certificate, key).code, 78);
    }
    assert!(!told.contains("marker"), "{told}");
    assert_snapshot!(told, @"
    gateway.toml: listeners[0].tls.certificate: the certificate file could not be read: No such file or directory (os error 2)
    gateway.toml: listeners[0].tls.key: the secret file could not be read: No such file or directory (os error 2)
    gateway.toml: listeners[0].tls: the private key does not belong to the certificate
    gateway.toml: listeners[0].tls.certificate: the certificate file holds no certificate in PEM form
    gateway.toml: listeners[0].tls.key: the secret file holds no private key in PEM form that is not encrypted
    gateway.toml: listeners[0].tls.certificate: the certificate file holds no certificate in PEM form
    gateway.toml: listeners[0].tls.key: the secret file holds no private key in PEM form that is not encrypted
    gateway.toml: listeners[0].tls.certificate: the certificate file holds a certificate that is malformed
    gateway.toml: listeners[0].tls.certificate: the certificate file is not a regular file
    gateway.toml: listeners[0].tls.key: the secret file is not a regular file
    gateway.toml: listeners[0].tls.certificate: expected a file path that begins with /, ./ or ../
    gateway.toml: listeners[0].tls.key: expected a file path that begins with /, ./ or ../
    ");
    assert_eq!(run("check", "./good.crt", "./good.key").code, 0);
    let ended = run("check", "./expired.crt", "./expired.key");
    assert_eq!(ended.code, 0);
    let warning = "listeners[0].tls.certificate: it has expired, 2001-12-31T00:00:00Z";
    assert!((ended.stderr + &ended.stdout).contains(warning));
}

#[test]
fn tls_on_a_unix_socket_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let configuration = program::running_configuration("http://127.0.0.1:1/pay/sandbox").replace(
        "address = \"127.0.0.1:0\"\n[admin]",
        "address = \"unix:/tmp/a\"\ntls = { certificate = \"./a\", key = \"./a\" }\n[admin]",
    );
    write_private(&folder.path().join("gateway.toml"), &configuration);
    let ended = program::start_in(folder.path(), &["check", "--config", "gateway.toml"], &[]).end();
    assert_eq!(ended.code, 78);
    assert_snapshot!(ended.stderr, @"gateway.toml: listeners[0].tls: makes no sense on a Unix socket, which nobody can listen in on: take it out, or use an IP address and a port");
}

#[test]
fn a_slow_handshake_holds_up_nobody() {
    let simulator = TestSimulator::start();
    let setup = setup();
    let gateway = setup.gateway(&simulator);
    let slow: Vec<_> = (0..50)
        .map(|_| {
            let mut stream = TcpStream::connect(gateway.address()).expect("a connection");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            stream.write_all(&[22]).expect("one byte");
            stream
        })
        .collect();
    let mut client = TlsClient::connect(gateway.address(), &setup.config()).expect("a handshake");
    assert_eq!(client.exchange(payment("beside")).status(), 200);
    for mut stream in slow {
        let mut said = Vec::new();
        stream.write_all(b"GET / HTTP/1.1\r\n").expect("it is open");
        let _ = stream.read_to_end(&mut said);
        assert_eq!(said.first(), Some(&ALERT));
    }
}
