//! Nothing that a client sends makes two requests out of one, hangs a connection, or is answered
//! by anything but a clean refusal or a closed connection.

use std::time::{Duration, Instant};

use crate::support::{
    Client, PATIENCE, ScriptedUpstream, TestGateway, TestSimulator, eventually, payment, post,
};

/// What a smuggled request would look like; nobody but a victim of smuggling ever sends it.
const SMUGGLED: &str = "GET /pay/smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// Lets a GET through, which the routes by default do not.
const ROUTES: &str = r#"
[[routes]]
name = "all"
path = "/pay/*"
methods = ["GET", "POST"]
"#;

/// The first field lines of every request here.
const HOST: &str = "Host: gateway.test\r\n";

/// What becomes of the bytes of one connection.
struct Case {
    bytes: Vec<u8>,
    /// Status and code of each reply, in order; code `""` where MODEN has answered. Afterwards the
    /// connection is closed.
    replies: Vec<(u16, &'static str)>,
    /// How many requests reach MODEN.
    arrives: usize,
}

/// Bytes that are answered with this and nothing else, and never reach MODEN.
fn refused(status: u16, code: &'static str, bytes: impl AsRef<[u8]>) -> Case {
    Case {
        bytes: bytes.as_ref().to_vec(),
        replies: vec![(status, code)],
        arrives: 0,
    }
}

fn malformed(bytes: impl AsRef<[u8]>) -> Case {
    refused(400, "request-malformed", bytes)
}

/// A POST with these further field lines and this after its head.
fn request(lines: &str, rest: &str) -> String {
    format!("POST /pay/s HTTP/1.1\r\n{HOST}{lines}\r\n{rest}")
}

/// As [`request`], in chunks.
fn chunks(body: &str) -> String {
    request("Transfer-Encoding: chunked\r\n", body)
}

/// An upstream that answers whatever comes.
fn obliging() -> ScriptedUpstream {
    ScriptedUpstream::start(|mut conversation| {
        while conversation.request().is_some() {
            conversation.answer("{}");
        }
    })
}

/// Every row of what proxies fell to, as bytes.
fn cases() -> Vec<Case> {
    let answered = |count: usize, bytes: String| Case {
        bytes: bytes.into_bytes(),
        replies: vec![(200, ""); count],
        arrives: count,
    };
    let then_malformed = |bytes: String| Case {
        bytes: bytes.into_bytes(),
        replies: vec![(200, ""), (400, "request-malformed")],
        arrives: 1,
    };
    let long = "a".repeat(20_000);
    let tail = format!("0\r\n\r\n{SMUGGLED}");
    let last = format!("GET /pay/s HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n");
    let mut cases = Vec::new();

    // Both framings, several codings, strange spellings.
    for lines in [
        "Content-Length: 58\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 58\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: chunked;a\r\n",
        "Transfer-Encoding: \u{b}chunked\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding\t: chunked\r\n",
        " Transfer-Encoding: chunked\r\n",
        "X: a\r\n Transfer-Encoding: chunked\r\n",
        "X: a\rTransfer-Encoding: chunked\r\n",
        "X: a\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "Transfer-Encoding: chunked\r\r\n",
        "Transfer-Encoding\0: chunked\r\n",
        "Transfer-Encoding\u{e9}: chunked\r\n",
        "Transfer_Encoding chunked\r\n",
    ] {
        cases.push(malformed(request(lines, &tail)));
    }
    for lines in [
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: identity, chunked\r\n",
    ] {
        cases.push(refused(501, "not-implemented", request(lines, &tail)));
    }
    let old = format!("POST /pay/s HTTP/1.0\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n{tail}");
    cases.push(malformed(old));

    // Lengths.
    for length in [
        "",
        " ",
        "+5",
        "-5",
        "0x5",
        "5 5",
        "5,5",
        "5, 6",
        "5;",
        "5.0",
        "1e1",
        "\u{661}",
        "5\0",
        "9223372036854775808",
        "18446744073709551616",
        "18446744073709551621",
        "\u{b}5",
    ] {
        let lines = format!("Content-Length: {length}\r\n");
        cases.push(malformed(request(&lines, "hello")));
    }
    let lines = "Content-Length: 5\r\nContent-Length: 6\r\n";
    cases.push(malformed(request(lines, "hello!")));
    cases.push(malformed(request("Content-Length : 5\r\n", "hello")));
    let lines = "Content-Length: 5\r\nContent-Length: 5\r\nConnection: close\r\n";
    cases.push(answered(1, request(lines, "hello")));
    let lines = "Content-Length: 999999999999\r\n";
    cases.push(refused(413, "body-too-large", request(lines, "hello")));

    // Chunks.
    for body in [
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\rXhello\r\n0\r\n\r\n",
        "5;\nhello\r\n0\r\n\r\n",
        "5;a\0\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloXX\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        "5\r\nhello\r\n0\r\nA\r\n\r\n",
        "5\r\nhello\r\n0\r\nA : b\r\n\r\n",
        "5\r\nhello\r\n0\r\nA: b\n\r\n",
        "5\r\nhello\r\n0\r\nA: b\r\n c\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "x\r\n",
    ] {
        cases.push(malformed(chunks(&format!("{body}{SMUGGLED}"))));
    }
    cases.push(malformed(chunks(&format!(
        "5;{long}\r\nhello\r\n0\r\n\r\n"
    ))));
    cases.push(malformed(chunks(&format!(
        "5\r\nhello\r\n0\r\nA: {long}\r\n\r\n"
    ))));
    let trailed = format!("5;a=b\r\nhello\r\n0\r\nAuthorization: Basic x\r\n\r\n{last}");
    cases.push(answered(2, chunks(&trailed)));

    // What follows a message is another message or none.
    let first = request("Content-Length: 5\r\n", "hello");
    cases.push(answered(2, format!("{first}{last}")));
    cases.push(answered(2, format!("{first}\r\n{last}")));
    cases.push(then_malformed(format!("{first}\r\n\r\n{last}")));
    cases.push(then_malformed(format!("{first}0\r\n\r\n{SMUGGLED}")));
    cases.push(then_malformed(format!("{first}\n{SMUGGLED}")));
    cases.push(then_malformed(format!("{first}\0")));
    // The body of a GET stays a body.
    let length = SMUGGLED.len();
    let lines = format!("{HOST}Content-Length: {length}\r\nConnection: close\r\n");
    cases.push(answered(
        1,
        format!("GET /pay/s HTTP/1.1\r\n{lines}\r\n{SMUGGLED}"),
    ));
    // So does that of a request that is refused before its body is read.
    let lines = format!("{HOST}Content-Length: {length}\r\n");
    cases.push(Case {
        bytes: format!("POST /outside HTTP/1.1\r\n{lines}\r\n{SMUGGLED}{last}").into_bytes(),
        replies: vec![(404, "route-not-found"), (200, "")],
        arrives: 1,
    });
    let lines = "Expect: y 100-continue\r\nContent-Length: 41\r\n";
    cases.push(refused(417, "expectation-failed", request(lines, SMUGGLED)));
    let lines = "Connection: Upgrade\r\nUpgrade: x\r\n";
    cases.push(answered(2, format!("{}{last}", request(lines, ""))));
    cases.push(Case {
        bytes: format!("CONNECT /pay/a HTTP/1.1\r\n{HOST}\r\n{last}").into_bytes(),
        replies: vec![(405, "method-not-allowed"), (200, "")],
        arrives: 1,
    });

    // Line ends, controls, names, targets.
    for bytes in [
        format!("POST /pay/s HTTP/1.1\n{HOST}\r\n"),
        format!("POST /pay/s HTTP/1.1\r\n{HOST}\n"),
        "POST /pay/s HTTP/1.1\r\nHost: a\n\r\n".into(),
        format!("\n{last}"),
        format!("\r\n\r\n{last}"),
        format!("\rPOST /pay/s HTTP/1.1\r\n{HOST}\r\n"),
        request("X-A: a\0b\r\n", ""),
        request("X-A: a\u{7f}b\r\n", ""),
        request("X-A\u{1}: b\r\n", ""),
        request(": v\r\n", ""),
        request("X-A b\r\n", ""),
        request("X A: b\r\n", ""),
        request("X-A: b\r\n\tc\r\n", ""),
        format!("POST /pay/a b HTTP/1.1\r\n{HOST}\r\n"),
        format!("POST  /pay/a HTTP/1.1\r\n{HOST}\r\n"),
        format!("POST /pay/a\0 HTTP/1.1\r\n{HOST}\r\n"),
        format!("POST /pay/a\tb HTTP/1.1\r\n{HOST}\r\n"),
        format!("POST /pay/a#b HTTP/1.1\r\n{HOST}\r\n"),
        format!("P\u{e9}ST /pay/a HTTP/1.1\r\n{HOST}\r\n"),
        format!("(POST) /pay/a HTTP/1.1\r\n{HOST}\r\n"),
        format!(" POST /pay/a HTTP/1.1\r\n{HOST}\r\n"),
        format!("POST pay/a HTTP/1.1\r\n{HOST}\r\n"),
    ] {
        cases.push(malformed(bytes));
    }

    // Versions.
    cases.push(malformed("GET /pay/a\r\n"));
    cases.push(malformed("GET /pay/a\r\n\r\n"));
    cases.push(malformed(format!("GET /pay/a HTTP/1.1\0\r\n{HOST}\r\n")));
    cases.push(malformed(format!("GET /pay/a http/1.1\r\n{HOST}\r\n")));
    cases.push(malformed(
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}",
    ));
    for version in ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "HTTP/3"] {
        let bytes = format!("GET /pay/a {version}\r\n{HOST}\r\n");
        cases.push(refused(505, "version-not-supported", bytes));
    }
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    cases.push(refused(505, "version-not-supported", preface));

    // Sizes.
    let bytes = request(&format!("X-A: {long}\r\n"), "");
    cases.push(refused(431, "header-too-large", bytes));
    let bytes = request(&format!("{long}: a\r\n"), "");
    cases.push(refused(431, "header-too-large", bytes));
    let bytes = request(&"X-A: a\r\n".repeat(101), "");
    cases.push(refused(431, "header-too-large", bytes));
    let bytes = format!("POST /pay/{long} HTTP/1.1\r\n{HOST}\r\n");
    cases.push(refused(414, "uri-too-long", bytes));

    // Host.
    let bytes = format!("POST /pay/s HTTP/1.1\r\nConnection: close\r\n\r\n{SMUGGLED}");
    cases.push(malformed(bytes));
    let bytes = request("Host: b\r\nConnection: close\r\n", SMUGGLED);
    cases.push(malformed(bytes));
    cases
}

/// The replies of a connection until it is closed: status, code, and whether all says what it must.
fn replies(client: &mut Client, count: usize) -> Vec<(u16, String)> {
    let replies: Vec<_> = (0..count)
        .map(|_| {
            let answer = client.answer();
            let code = match answer.all("proxy-status").is_empty() {
                true => String::new(),
                false => {
                    assert_eq!(answer.outcome(), "not-sent");
                    assert!(!answer.field("date").is_empty());
                    answer.code()
                }
            };
            assert_eq!(answer.field("gateway-environment"), "sandbox");
            (answer.status(), code)
        })
        .collect();
    let rest = client.rest();
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    replies
}

/// Sends bytes one by one, until the gateway has had enough.
fn drip(client: &mut Client, bytes: &[u8]) {
    for byte in bytes {
        if client.try_write([*byte]).is_err() {
            return;
        }
    }
}

#[test]
fn every_malformed_message_is_refused_and_none_becomes_two() {
    let upstream = obliging();
    let gateway = TestGateway::builder()
        .scripted(&upstream)
        .tables(ROUTES)
        .start();
    let (mut lines, mut arrived) = (0, 0);
    for case in cases() {
        for is_dripped in [false, true] {
            let text = String::from_utf8_lossy(&case.bytes);
            let what = text.get(..text.len().min(160)).unwrap_or(&text);
            let mut client = gateway.connect();
            match is_dripped {
                // The method is told, so that the client reads the reply as it should.
                true => {
                    drip(&mut client, &case.bytes);
                }
                false => {
                    // A refusal may come before all is written.
                    let _ = client.try_write(&case.bytes);
                }
            }
            let replies = replies(&mut client, case.replies.len());
            let replies: Vec<_> = replies.iter().map(|(s, c)| (*s, c.as_str())).collect();
            assert_eq!(replies, case.replies, "dripped: {is_dripped}: {what:?}");

            lines += case.replies.len();
            let log = gateway.await_log_lines(lines);
            assert_eq!(log.len(), lines, "one line a reply: {what:?}");
            for (line, (status, code)) in log.iter().rev().zip(case.replies.iter().rev()) {
                assert_eq!(line["status"], *status, "{what:?}: {line}");
                assert_eq!(line["code"].as_str().unwrap_or_default(), *code, "{line}");
            }
            arrived += case.arrives;
            assert_eq!(upstream.requests().len(), arrived, "{what:?}");
        }
    }
    for request in upstream.requests() {
        assert!(!request.target().contains("smuggled"), "{request:?}");
        let framings = request.all("content-length").len() + request.all("transfer-encoding").len();
        assert!(framings <= 1, "{request:?}");
    }
    assert!(upstream.fragments().is_empty(), "half a request arrived");
    assert_eq!(gateway.exchange(payment("order-1")).status(), 200);
}

#[test]
fn the_log_holds_no_control_character_of_a_client() {
    let upstream = obliging();
    let gateway = TestGateway::builder().scripted(&upstream).start();
    for bytes in [
        "GET /pay/\u{1b}[2J HTTP/1.1\r\nHost: a\r\n\r\n".as_bytes(),
        b"G\x1b[2JT /pay/a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /pay/a%0d%0aERROR HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET /pay/a HTTP/1.1\r\nHost: a\r\nX-Request-Id: \x1b[2J\r\n\r\n",
        b"GET /pay/a HTTP/1.1\r\nHost: a\r\nUser-Agent: \x1b[2J\r\n\r\n",
        b"GET /pay/\xff\xfe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ] {
        let answer = gateway.exchange(bytes);
        assert_eq!(answer.status(), 400, "{answer:?}");
    }
    gateway.await_log_lines(6);
    let log = gateway.log_text();
    assert_eq!(log.lines().count(), 6);
    assert!(
        !log.contains(|c: char| c.is_control() && c != '\n'),
        "{log:?}"
    );
    assert!(log.is_ascii(), "{log:?}");
}

#[test]
fn a_request_split_at_every_byte_is_one_request() {
    let upstream = obliging();
    let gateway = TestGateway::builder().scripted(&upstream).start();
    let counted = post("/pay/s", &[("X-A", "b")], "hello");
    let chunked = chunks("5;a\r\nhello\r\n0\r\nA: b\r\n\r\n").into_bytes();
    let mut client = gateway.connect();
    let mut sent = 0;
    for request in [counted, chunked] {
        for at in 1..request.len() {
            let (start, rest) = request.split_at(at);
            client.begin(start);
            client.write(rest);
            assert_eq!(client.answer().status(), 200, "split at {at}");
            sent += 1;
        }
    }
    let arrived = upstream.requests();
    assert_eq!(arrived.len(), sent);
    assert!(arrived.iter().all(|request| request.body == b"hello"));
}

#[test]
fn pipelined_requests_are_answered_in_order_and_one_after_the_other() {
    let upstream = ScriptedUpstream::start(|mut conversation| {
        while let Some(request) = conversation.request() {
            conversation.answer(&format!("{:?}", request.target()));
        }
    });
    let gateway = TestGateway::builder()
        .scripted(&upstream)
        .threads(1)
        .start();
    let requests: Vec<u8> = (0..200)
        .flat_map(|number| post(&format!("/pay/n{number}"), &[], "hello"))
        .collect();
    let mut client = gateway.connect();
    client.begin(requests);
    for number in 0..200 {
        let answer = client.answer();
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(text.contains(&format!("n{number}\"")), "{number}: {text}");
    }
    // Had two run at once, there would have been a second connection.
    assert_eq!(upstream.connection_count(), 1);
}

#[test]
fn a_connection_carries_ten_thousand_requests_and_no_more_than_it_may() {
    let upstream = obliging();
    let gateway = TestGateway::builder().scripted(&upstream).start();
    let mut client = gateway.connect();
    let request = post("/outside", &[], "");
    for number in 1..=10_000 {
        let answer = client.exchange(&request);
        assert_eq!(answer.status(), 404);
        let is_last = !answer.all("connection").is_empty();
        assert_eq!(is_last, number == 10_000, "{number}");
    }
    assert!(client.rest().is_empty());

    let gateway = TestGateway::builder()
        .scripted(&upstream)
        .listener("max_requests_per_connection = 2")
        .start();
    let mut client = gateway.connect();
    // What was sent behind the last one is not looked at.
    client.begin(
        [
            &payment("order-1")[..],
            &payment("order-2"),
            &payment("order-3"),
        ]
        .concat(),
    );
    assert!(client.answer().all("connection").is_empty());
    assert_eq!(client.answer().field("connection"), "close");
    assert!(client.rest().is_empty());
    assert_eq!(gateway.stop().len(), 2);
}

/// RFC 9110 section 9.3.2.
#[test]
fn a_malformed_head_request_is_refused_without_content() {
    let upstream = obliging();
    let gateway = TestGateway::builder().scripted(&upstream).start();
    for line in ["X-A: a\r\n b", "X-A: a\0", "Content-Length: +5"] {
        let mut client = gateway.connect();
        client.begin(format!("HEAD /pay/s HTTP/1.1\r\n{HOST}{line}\r\n\r\n"));
        let answer = client.answer();
        assert_eq!(answer.status(), 400, "{line:?}");
        assert_ne!(answer.field("content-length"), "0");
        assert!(client.rest().is_empty());
    }
    for line in gateway.stop() {
        assert_eq!(line["bytes_out"], 0);
    }
}

/// The largest head, which hyper's buffer has to take as well, in one piece, in two, and ahead of
/// its turn.
#[test]
fn a_head_may_be_as_long_as_its_limit_and_no_longer() {
    let upstream = obliging();
    let gateway = TestGateway::builder().scripted(&upstream).start();
    let limit = 16 * 1024;
    let sized = |length: usize| {
        let fill = length - request("X-A: \r\nContent-Length: 5\r\n", "").len();
        let lines = format!("X-A: {}\r\nContent-Length: 5\r\n", "a".repeat(fill));
        request(&lines, "hello")
    };
    let mut client = gateway.connect();
    let longest = sized(limit);
    for at in [0, 1, 8_191, 8_192, 16_383, 16_384, 16_386] {
        let (start, rest) = longest.split_at(at);
        client.begin(start);
        client.write(rest);
        assert_eq!(client.answer().status(), 200, "split at {at}");
    }
    client.begin(longest.repeat(3));
    for _ in 0..3 {
        assert_eq!(client.answer().status(), 200);
    }
    let refused = client.exchange(sized(limit + 1));
    assert_eq!(refused.code(), "header-too-large");
    assert_eq!(upstream.requests().len(), 10);
}

#[test]
fn fields_are_counted() {
    let upstream = obliging();
    let gateway = TestGateway::builder()
        .scripted(&upstream)
        .listener("max_header_fields = 3")
        .start();
    let with = |count| request(&"X-A: b\r\n".repeat(count), "");
    assert_eq!(gateway.exchange(with(2)).status(), 200);
    let refused = gateway.exchange(with(3));
    assert_eq!(refused.status(), 431);
    assert_eq!(refused.code(), "header-too-large");
}

/// The reply to a request that is refused early is not lost to a reset, however much the client
/// still sends.
#[test]
fn a_client_that_goes_on_sending_still_gets_its_refusal() {
    let upstream = obliging();
    let gateway = TestGateway::builder().scripted(&upstream).start();
    let megabyte = vec![b'x'; 1024 * 1024];
    for (head, status) in [
        ("Content-Length: 99999999\r\n", 413),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", 400),
        ("Transfer-Encoding: gzip, chunked\r\n", 501),
    ] {
        let mut client = gateway.connect();
        client.begin(request(head, ""));
        for _ in 0..8 {
            client.write(&megabyte);
        }
        let answer = client.answer();
        assert_eq!(answer.status(), status);
        assert_eq!(answer.field("connection"), "close");
        assert!(client.rest().is_empty());
    }
    assert!(upstream.requests().is_empty());
}

/// A client that does not close after its last reply holds up nothing.
#[test]
fn lingering_does_not_delay_the_drain() {
    let upstream = obliging();
    let gateway = TestGateway::builder().scripted(&upstream).start();
    let mut clients: Vec<_> = (0..4).map(|_| gateway.connect()).collect();
    for client in &mut clients {
        client.begin(b"GET /pay/a HTTP/2.0\r\n\r\n");
        assert_eq!(client.answer().status(), 505);
    }
    let begun = Instant::now();
    gateway.stop();
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(1), "it took {took:?}");
}

/// It must be able to read the refusal, but not to hold its connection by sending on.
#[test]
fn a_refused_client_that_never_stops_is_cut_off() {
    let upstream = obliging();
    let gateway = TestGateway::builder().scripted(&upstream).start();
    let mut client = gateway.connect();
    client.begin("\0");
    let begun = Instant::now();
    while client.try_write("x").is_ok() {
        assert!(begun.elapsed() < PATIENCE, "it never closed");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
}

/// Slow senders of every kind, and how long they may be slow.
#[test]
fn slow_senders_are_answered_at_their_deadline_while_others_are_served() {
    let simulator = TestSimulator::start();
    let gateway = TestGateway::builder()
        .simulator(&simulator)
        .threads(1)
        .listener("header_timeout = \"300ms\"\nbody_timeout = \"300ms\"\nidle_timeout = \"600ms\"")
        .start();
    let start = |bytes: &str| {
        let mut client = gateway.connect();
        client.begin(bytes);
        client
    };
    let mut slow: Vec<_> = (0..20)
        .flat_map(|_| {
            [
                start("POST /pay/gateway HTTP/1.1\r\nHost: "),
                start(&request("Content-Length: 5\r\n", "hell")),
                start(&chunks("5\r\nhe")),
            ]
        })
        .collect();
    let silent: Vec<_> = (0..20).map(|_| gateway.connect()).collect();
    for number in 0..20 {
        let begun = Instant::now();
        let answer = gateway.exchange(payment(&format!("order-{number}")));
        assert_eq!(answer.status(), 200);
        assert!(begun.elapsed() < Duration::from_millis(250));
    }
    for client in &mut slow {
        let answer = client.answer();
        assert_eq!(
            (answer.status(), answer.code().as_str()),
            (408, "request-timeout")
        );
        assert!(client.rest().is_empty());
    }
    for mut client in silent {
        assert!(client.rest().is_empty());
    }
    eventually("all lines", || {
        (gateway.log_lines().len() == 80).then_some(())
    });
    assert_eq!(simulator.control().request_count(), 20);
}
