//! Above the hold sizes bodies stream both ways with backpressure, caps and deadlines.

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use crate::support::{
    Conversation, PATIENCE, ScriptedUpstream, TestGateway, TestSimulator, alone, eventually,
    in_parallel, payment,
};

const MIB: usize = 1 << 20;

/// What a socket must not have taken after this long, it does not take.
const STALL: Duration = Duration::from_millis(700);

/// More than the kernel's buffers of the connections on the way hold together, and far less than
/// what is sent.
const MOST_ON_THE_WAY: usize = 32 * MIB;

/// Bytes that repeat with an odd period, so that a lost, doubled or swapped piece shows.
fn content(length: usize) -> Vec<u8> {
    (0..=250_u8).cycle().take(length).collect()
}

/// Answers each request with its own body.
fn mirror() -> ScriptedUpstream {
    ScriptedUpstream::start(|mut conversation| {
        while let Some(request) = conversation.request() {
            let length = request.body.len();
            conversation.say(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"
            ));
            conversation.say(request.body);
        }
    })
}

fn in_chunks(body: &[u8], size: usize) -> Vec<u8> {
    let mut framed = Vec::new();
    for chunk in body.chunks(size) {
        framed.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        framed.extend_from_slice(chunk);
        framed.extend_from_slice(b"\r\n");
    }
    framed.extend_from_slice(b"0\r\n\r\n");
    framed
}

fn head(length: usize) -> Vec<u8> {
    format!("POST /pay/upload HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: {length}\r\n\r\n")
        .into_bytes()
}

const CHUNKED_HEAD: &[u8] =
    b"POST /pay/upload HTTP/1.1\r\nHost: gateway.test\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn bodies_of_any_size_and_framing_come_through_byte_for_byte() {
    let _alone = alone();
    let upstream = mirror();
    let gateway = TestGateway::builder()
        .scripted(&upstream)
        .listener("max_body_bytes = \"16MiB\"")
        .start();
    let mut client = gateway.connect();
    // Around the hold sizes of 64 KiB, and far above.
    for length in [1, 65_535, 65_536, 65_537, 5 * MIB] {
        let body = content(length);
        let framings = [
            [head(length), body.clone()].concat(),
            [CHUNKED_HEAD.to_vec(), in_chunks(&body, 40_000)].concat(),
        ];
        for request in framings {
            let answer = client.exchange(request);
            assert_eq!(answer.outcome(), "answered");
            assert!(answer.body == body, "{length} bytes came back changed");
        }
    }
    let requests = upstream.requests();
    for request in &requests {
        let is_held = request.body.len() <= 65_536;
        let is_one_framing = request.is_chunked == request.all("content-length").is_empty();
        assert!(is_one_framing, "{:?}", request.fields);
        assert!(!(is_held && request.is_chunked), "a held body has a length");
    }
    let lines = gateway.stop();
    for (line, request) in lines.iter().zip(&requests) {
        assert_eq!(line["bytes_in"], request.body.len());
        assert_eq!(line["bytes_out"], request.body.len());
    }
}

#[test]
fn a_chunked_answer_streams_byte_for_byte() {
    let body = content(5 * MIB);
    let framed = in_chunks(&body, 10_000);
    let upstream = ScriptedUpstream::start(move |mut conversation| {
        while conversation.request().is_some() {
            conversation.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            conversation.say(&framed);
        }
    });
    let gateway = TestGateway::builder().scripted(&upstream).start();
    let mut client = gateway.connect();
    for number in 0..2 {
        let answer = client.exchange(payment(&format!("order-{number}")));
        assert!(answer.body == body, "the answer came through changed");
    }
}

#[test]
fn a_client_that_reads_slowly_slows_the_upstream_down() {
    let _alone = alone();
    let total = 96 * MIB;
    let (stalled, has_stalled) = mpsc::channel();
    let stalled = Mutex::new(stalled);
    let upstream = ScriptedUpstream::start(move |mut conversation| {
        if conversation.request().is_none() {
            return;
        }
        conversation.say(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {total}\r\n\r\n"
        ));
        let piece = vec![b'x'; 64 * 1024];
        let mut written = 0;
        let mut stalled = Some(stalled.lock().expect("no panic").clone());
        while written < total {
            let rest = piece.len().min(total - written);
            let piece = piece.get(..rest).expect("a part of the piece");
            match conversation.say_some(piece, STALL) {
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Some(stalled) = stalled.take() {
                        stalled.send(written).expect("the test waits");
                    }
                }
                Err(error) => panic!("the gateway took no more: {error}"),
            }
        }
        conversation.listen();
    });
    let gateway = TestGateway::builder().scripted(&upstream).start();
    let mut client = gateway.connect();
    client.begin(payment("order-1"));
    let taken = has_stalled.recv().expect("the upstream stalls");
    assert!(taken < MOST_ON_THE_WAY, "the gateway took {taken} bytes");
    assert_eq!(client.answer().body.len(), total);
    drop(client);
    assert_eq!(gateway.stop()[0]["outcome"], "answered");
}

#[test]
fn an_upstream_that_reads_slowly_slows_the_client_down() {
    let _alone = alone();
    let total = 96 * MIB;
    let (go_on, may_go_on) = mpsc::channel();
    let may_go_on = Mutex::new(may_go_on);
    let upstream = ScriptedUpstream::start(move |mut conversation| {
        may_go_on
            .lock()
            .expect("no panic")
            .recv()
            .expect("the test goes on");
        if conversation.request().is_some() {
            conversation.answer("{}");
        }
    });
    let gateway = TestGateway::builder()
        .scripted(&upstream)
        .listener("max_body_bytes = \"128MiB\"\nbody_timeout = \"60s\"")
        .start();
    let mut client = gateway.connect();
    client.begin(head(total));
    client.set_write_patience(STALL);
    let piece = vec![b'x'; 64 * 1024];
    let mut written = 0;
    let mut has_stalled = false;
    while written < total {
        let rest = piece.len().min(total - written);
        match client.write_some(piece.get(..rest).expect("a part of the piece")) {
            Ok(bytes) => written += bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !has_stalled => {
                has_stalled = true;
                assert!(
                    written < MOST_ON_THE_WAY,
                    "the gateway took {written} bytes"
                );
                go_on.send(()).expect("the script waits");
            }
            Err(error) => panic!("the gateway took no more: {error}"),
        }
    }
    assert!(has_stalled, "the gateway took everything at once");
    assert_eq!(client.answer().outcome(), "answered");
    assert_eq!(upstream.requests()[0].body.len(), total);
}

#[test]
fn an_announced_body_above_the_cap_is_refused_before_it_comes() {
    let simulator = TestSimulator::start();
    let gateway = TestGateway::builder()
        .simulator(&simulator)
        .listener("max_body_bytes = \"128KiB\"")
        .start();
    let mut client = gateway.connect();
    client.begin(head(128 * 1024 + 1));
    let answer = client.answer();
    assert_eq!(answer.status(), 413);
    assert_eq!(answer.code(), "body-too-large");
    assert_eq!(answer.outcome(), "not-sent");
    assert_eq!(answer.field("connection"), "close");
    assert!(client.rest().is_empty());
    assert_eq!(gateway.stop()[0]["code"], "body-too-large");
    assert_eq!(simulator.control().request_count(), 0);
}

#[test]
fn a_client_that_sends_too_much_without_waiting_still_gets_its_refusal() {
    let simulator = TestSimulator::start();
    let gateway = TestGateway::builder()
        .simulator(&simulator)
        .listener("max_body_bytes = \"128KiB\"")
        .start();
    for request in [
        [head(2 * MIB), content(2 * MIB)].concat(),
        [
            CHUNKED_HEAD.to_vec(),
            in_chunks(&content(128 * 1024 + 1), 40_000),
        ]
        .concat(),
    ] {
        let mut client = gateway.connect();
        // The gateway may close before it has taken all of it.
        let _ = client.try_write(request);
        let answer = client.try_answer().expect("the refusal arrives");
        assert_eq!(answer.status(), 413);
    }
}

#[test]
fn a_chunked_body_above_a_small_cap_sends_nothing() {
    let simulator = TestSimulator::start();
    let gateway = TestGateway::builder()
        .simulator(&simulator)
        .listener("max_body_bytes = \"1KiB\"")
        .start();
    let request = [CHUNKED_HEAD.to_vec(), in_chunks(&content(1025), 600)].concat();
    let answer = gateway.exchange(request);
    assert_eq!(answer.status(), 413);
    assert_eq!(answer.outcome(), "not-sent");
    drop(gateway);
    assert_eq!(simulator.control().request_count(), 0);
}

#[test]
fn a_chunked_body_that_passes_the_cap_on_its_way_is_cut_and_unknown() {
    let upstream = ScriptedUpstream::start(|mut conversation| {
        assert!(
            conversation.request().is_none(),
            "it was made to look whole"
        );
    });
    let gateway = TestGateway::builder()
        .scripted(&upstream)
        .listener("max_body_bytes = \"256KiB\"")
        .start();
    let request = [
        CHUNKED_HEAD.to_vec(),
        in_chunks(&content(256 * 1024 + 1), 40_000),
    ]
    .concat();
    let answer = gateway.exchange(request);
    assert_eq!(answer.status(), 413);
    assert_eq!(answer.code(), "body-too-large");
    assert_eq!(answer.outcome(), "unknown");
    assert_eq!(gateway.stop()[0]["outcome"], "unknown");
}

#[test]
fn a_long_body_whose_client_vanishes_is_cut_and_unknown() {
    let upstream = ScriptedUpstream::start(|mut conversation| {
        assert!(
            conversation.request().is_none(),
            "it was made to look whole"
        );
    });
    let gateway = TestGateway::builder().scripted(&upstream).start();
    for (connections, start) in [
        (2, [head(MIB), content(MIB / 2)].concat()),
        (
            4,
            [
                CHUNKED_HEAD.to_vec(),
                b"80000\r\n".to_vec(),
                content(MIB / 4),
            ]
            .concat(),
        ),
    ] {
        let mut in_order = gateway.connect();
        in_order.write(&start);
        drop(in_order);
        let mut by_reset = gateway.connect();
        by_reset.write(&start);
        eventually("the start of the body at the upstream", || {
            (upstream.connection_count() == connections).then_some(())
        });
        by_reset.reset();
    }
    for line in gateway.await_log_lines(4) {
        assert_eq!(line["outcome"], "unknown", "{line}");
        // Not "internal": the exchange was brought to its end without its client.
        assert_eq!(line["code"], "request-malformed", "{line}");
    }
}

#[test]
fn a_body_that_does_not_come_in_time_is_answered_408_and_nothing_is_sent() {
    let simulator = TestSimulator::start();
    let gateway = TestGateway::builder()
        .simulator(&simulator)
        .listener("body_timeout = \"150ms\"")
        .start();
    for start in [
        [head(10), b"12345".to_vec()].concat(),
        CHUNKED_HEAD.to_vec(),
    ] {
        let mut client = gateway.connect();
        client.begin(start);
        let answer = client.answer();
        assert_eq!(answer.status(), 408);
        assert_eq!(answer.code(), "request-timeout");
        assert_eq!(answer.outcome(), "not-sent");
        assert_eq!(answer.field("connection"), "close");
        assert!(client.rest().is_empty());
    }
    drop(gateway);
    assert_eq!(simulator.control().request_count(), 0);
}

#[test]
fn the_deadline_of_a_body_is_for_the_whole_of_it() {
    let upstream = ScriptedUpstream::start(|mut conversation| {
        assert!(
            conversation.request().is_none(),
            "it was made to look whole"
        );
    });
    let gateway = TestGateway::builder()
        .scripted(&upstream)
        .listener("body_timeout = \"300ms\"")
        .start();
    let mut client = gateway.connect();
    client.begin(head(MIB));
    client.write(content(100_000));
    // A byte every few milliseconds: never silent, never whole.
    while client.try_write("x").is_ok() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let lines = gateway.await_log_lines(1);
    assert_eq!(lines[0]["outcome"], "unknown");
    assert_ne!(lines[0]["status"], 408, "which would invite a repetition");
}

/// How long it takes until the gateway closes a connection on which these bytes were sent.
fn closed_after(gateway: &TestGateway, start: &str) -> (Duration, Vec<u8>) {
    let begun = Instant::now();
    let mut client = gateway.connect();
    client.write(start);
    let rest = client.rest();
    (begun.elapsed(), rest)
}

/// It has begun to ask for something, so it is told what became of that.
#[test]
fn a_head_that_does_not_come_in_time_is_answered_408() {
    let simulator = TestSimulator::start();
    let gateway = TestGateway::builder()
        .simulator(&simulator)
        .listener("header_timeout = \"200ms\"\nidle_timeout = \"60s\"")
        .start();
    let begun = Instant::now();
    let mut client = gateway.connect();
    client.begin("POST /pay/gateway HTTP/1.1\r\nHost: gate");
    let answer = client.answer();
    let took = begun.elapsed();
    assert!(
        took >= Duration::from_millis(200),
        "answered after {took:?}"
    );
    assert_eq!(answer.status(), 408);
    assert_eq!(answer.code(), "request-timeout");
    assert_eq!(answer.outcome(), "not-sent");
    assert_eq!(answer.field("connection"), "close");
    assert!(client.rest().is_empty());
    let lines = gateway.stop();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["code"], "request-timeout");
    assert_eq!(simulator.control().request_count(), 0);
}

/// Until the reply to the first request is written, the second is not looked at.
#[test]
fn a_head_that_stops_behind_a_request_is_answered_408_too() {
    let simulator = TestSimulator::start();
    let gateway = TestGateway::builder()
        .simulator(&simulator)
        .listener("header_timeout = \"200ms\"\nidle_timeout = \"60s\"")
        .start();
    let mut client = gateway.connect();
    let second = b"POST /pay/gateway HTTP/1.1\r\nHo";
    client.begin([&payment("order-1")[..], second].concat());
    assert_eq!(client.answer().status(), 200);
    assert_eq!(client.answer().status(), 408);
    assert!(client.rest().is_empty());
}

/// RFC 9112 section 2.2: old clients send one behind a body.
#[test]
fn an_empty_line_is_not_the_beginning_of_a_head() {
    let simulator = TestSimulator::start();
    let gateway = TestGateway::builder()
        .simulator(&simulator)
        .listener("header_timeout = \"100ms\"\nidle_timeout = \"400ms\"")
        .start();
    let mut client = gateway.connect();
    client.begin([&payment("order-1")[..], b"\r\n"].concat());
    assert_eq!(client.answer().status(), 200);
    let begun = Instant::now();
    assert!(client.rest().is_empty());
    assert!(begun.elapsed() >= Duration::from_millis(350));
    assert_eq!(gateway.stop().len(), 1);
}

#[test]
fn a_head_that_drips_closes_the_connection_all_the_same() {
    let simulator = TestSimulator::start();
    let gateway = TestGateway::builder()
        .simulator(&simulator)
        .listener("header_timeout = \"200ms\"")
        .start();
    let mut client = gateway.connect();
    client.write("POST /pay/gateway HTTP/1.1\r\nX-Slow: ");
    let begun = Instant::now();
    let drip = b"x".repeat(1_000);
    for byte in drip {
        // It is answered and closed, and then what still comes is read for a while.
        if client.try_write([byte]).is_err() || gateway.log_lines().len() == 1 {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "it went on");
    assert_eq!(client.answer().status(), 408);
}

#[test]
fn a_connection_without_a_request_is_closed_without_a_word() {
    let simulator = TestSimulator::start();
    let gateway = TestGateway::builder()
        .simulator(&simulator)
        .listener("idle_timeout = \"200ms\"")
        .start();
    let (took, rest) = closed_after(&gateway, "");
    assert!(took >= Duration::from_millis(200), "closed after {took:?}");
    assert!(rest.is_empty(), "{rest:?}");

    let mut client = gateway.connect();
    assert_eq!(client.exchange(payment("order-1")).status(), 200);
    assert!(client.rest().is_empty());
    assert_eq!(gateway.stop().len(), 1, "an idle connection leaves no line");
}

#[test]
fn a_slow_answer_is_not_cut_by_the_idle_deadline_of_its_connection() {
    let upstream = ScriptedUpstream::start(|mut conversation| {
        conversation.request();
        std::thread::sleep(Duration::from_millis(600));
        conversation.answer("{}");
    });
    let gateway = TestGateway::builder()
        .scripted(&upstream)
        .listener("idle_timeout = \"100ms\"\nheader_timeout = \"100ms\"")
        .start();
    assert_eq!(gateway.exchange(payment("order-1")).outcome(), "answered");
}

#[test]
fn an_upstream_that_answers_in_http_1_0_gets_the_next_request_whole_on_a_new_connection() {
    let upstream = ScriptedUpstream::start(|mut conversation| {
        while conversation.request().is_some() {
            conversation
                .say("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}");
        }
    });
    let gateway = TestGateway::builder().scripted(&upstream).start();
    let mut client = gateway.connect();
    assert_eq!(client.exchange(payment("order-1")).outcome(), "answered");
    let body = content(100_000);
    let answer = client.exchange([CHUNKED_HEAD.to_vec(), in_chunks(&body, 40_000)].concat());
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(answer.outcome(), "answered");

    let requests = upstream.requests();
    assert_eq!(requests.len(), 2);
    let start_line = "POST /pay/sandbox/upload HTTP/1.1";
    assert_eq!(requests[1].start_line, start_line);
    assert!(requests[1].body == body, "the body came changed");
    assert_eq!(upstream.connection_count(), 2);
}

/// Lets GET through to the path of [`head`] and [`CHUNKED_HEAD`].
const GET_ALLOWED: &str = r#"
[[routes]]
name = "upload"
path = "/pay/upload"
methods = ["GET", "POST"]
"#;

/// The same request with GET.
fn as_get(request: Vec<u8>) -> Vec<u8> {
    let rest = request.strip_prefix(b"POST").expect("it is a POST");
    [b"GET", rest].concat()
}

#[test]
fn a_get_with_a_long_body_of_unknown_length_is_refused_and_nothing_is_sent() {
    let upstream = mirror();
    let gateway = TestGateway::builder()
        .scripted(&upstream)
        .tables(GET_ALLOWED)
        .start();
    for length in [65_537, MIB] {
        let body = in_chunks(&content(length), 40_000);
        let mut client = gateway.connect();
        // The gateway may close before it has taken all of it.
        let _ = client.try_write(as_get([CHUNKED_HEAD.to_vec(), body].concat()));
        let answer = client.try_answer().expect("the refusal arrives");
        assert_eq!(answer.status(), 411, "{answer:?}");
        assert_eq!(answer.code(), "length-required");
        assert_eq!(answer.outcome(), "not-sent");
    }
    let lines = gateway.stop();
    assert_eq!(lines.len(), 2);
    for line in lines {
        assert_eq!(line["code"], "length-required");
        assert_eq!(line["outcome"], "not-sent");
    }
    assert_eq!(upstream.connection_count(), 0);
}

#[test]
fn a_get_with_a_body_of_known_length_arrives_with_it() {
    let upstream = mirror();
    let gateway = TestGateway::builder()
        .scripted(&upstream)
        .tables(GET_ALLOWED)
        .start();
    let mut client = gateway.connect();
    let (short, long) = (content(1000), content(100_000));
    for (request, body) in [
        ([head(long.len()), long.clone()].concat(), &long),
        ([head(short.len()), short.clone()].concat(), &short),
        (
            [CHUNKED_HEAD.to_vec(), in_chunks(&short, 300)].concat(),
            &short,
        ),
    ] {
        let answer = client.exchange(as_get(request));
        assert_eq!(answer.status(), 200, "{answer:?}");
        assert_eq!(answer.outcome(), "answered");
        assert!(answer.body == *body, "the answer came through changed");
        let arrived = upstream.requests().pop().expect("the request arrived");
        assert_eq!(arrived.start_line, "GET /pay/sandbox/upload HTTP/1.1");
        assert_eq!(arrived.field("content-length"), body.len().to_string());
        assert!(arrived.body == *body, "the request came through changed");
    }
}

/// How many connections to this address are held open by whoever made them, as the kernel has it:
/// those that still wait to deliver something have been closed.
fn held_open(address: SocketAddr) -> usize {
    let table = fs::read_to_string("/proc/self/net/tcp").expect("Linux has it");
    let port = format!(":{:04X}", address.port());
    let connections = table.lines().filter(|line| {
        // Number, local address, remote address, state: established, or closed by the other.
        let mut words = line.split_whitespace().skip(2);
        let is_to_us = words.next().is_some_and(|remote| remote.ends_with(&port));
        is_to_us
            && words
                .next()
                .is_some_and(|state| ["01", "08"].contains(&state))
    });
    connections.count()
}

/// Whether the other end has closed, which is seen behind all that it sent.
fn is_closed(conversation: &Conversation) -> bool {
    let mut socket = conversation.socket();
    let patience = Some(PATIENCE);
    socket.set_read_timeout(patience).expect("a valid timeout");
    match io::copy(&mut socket, &mut io::sink()) {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
fn an_answer_in_the_middle_of_the_upload_ends_its_connection() {
    const EXCHANGES: usize = 6;
    let _alone = alone();
    let is_over = Arc::new(AtomicBool::new(false));
    let closed = Arc::new(AtomicUsize::new(0));
    let upstream = {
        let (is_over, closed) = (Arc::clone(&is_over), Arc::clone(&closed));
        ScriptedUpstream::start(move |mut conversation| {
            let read = conversation.socket().read(&mut [0; 1024]);
            assert!(read.expect("the gateway sends") > 0);
            conversation.answer("{}");
            // From here on nothing is read, until everything else has happened.
            eventually("the last exchange", || {
                is_over.load(Ordering::Acquire).then_some(())
            });
            if is_closed(&conversation) {
                closed.fetch_add(1, Ordering::Release);
            }
        })
    };
    let total = 64 * MIB;
    let gateway = TestGateway::builder()
        .scripted(&upstream)
        .threads(1)
        .listener("max_body_bytes = \"64MiB\"\nbody_timeout = \"60s\"")
        .upstream("max_connections = 2\nqueue_timeout = \"10s\"")
        .start();
    // Kept open, so that no upload ends for want of its client.
    let clients = in_parallel(2, EXCHANGES, |number| {
        let mut client = gateway.connect();
        client.begin(head(total));
        // The gateway may close as soon as it has the answer.
        let _ = client.try_write(content(MIB / 4));
        let answer = client.answer();
        assert_eq!(answer.status(), 200, "exchange {number}: {answer:?}");
        assert_eq!(answer.outcome(), "answered");
        // Goes on until nothing moves any more, or the gateway has closed.
        client.set_write_patience(STALL);
        let mut written = MIB / 4;
        while written < total
            && let Ok(bytes) = client.write_some(&[b'x'; 64 * 1024])
        {
            written += bytes;
        }
        assert!(
            written < MOST_ON_THE_WAY,
            "the gateway took {written} bytes"
        );
        let open = held_open(upstream.address());
        assert!(open <= 2, "{open} connections, after exchange {number}");
        client
    });
    eventually("the end of all connections to the upstream", || {
        (held_open(upstream.address()) == 0).then_some(())
    });
    is_over.store(true, Ordering::Release);
    eventually("the end of all connections at the upstream", || {
        (closed.load(Ordering::Acquire) == EXCHANGES).then_some(())
    });
    drop(clients);
    assert_eq!(upstream.connection_count(), EXCHANGES);
    let lines = gateway.stop();
    assert!(lines.iter().all(|line| line["outcome"] == "answered"));
}

#[test]
fn a_cut_answer_resets_a_client_that_would_take_its_end_for_whole() {
    let chunk = "x".repeat(4096);
    for words in [
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\n{chunk}\r\n"),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1001\r\n{chunk}"),
    ] {
        let upstream = ScriptedUpstream::start(move |mut conversation| {
            if conversation.request().is_some() {
                conversation.say(&words);
                conversation.close();
            }
        });
        let gateway = TestGateway::builder()
            .scripted(&upstream)
            .upstream("hold_answer = \"1KiB\"")
            .start();
        let mut client = gateway.connect();
        client.begin("POST /pay/gateway HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}");
        let cut = client.try_answer().expect_err("a part must not look whole");
        assert_eq!(cut.error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(gateway.await_log_lines(1)[0]["outcome"], "unknown");
    }
}
