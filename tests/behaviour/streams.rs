//! Promise 13: above the hold sizes bodies stream both ways with backpressure, caps and deadlines.

use std::io;
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use crate::support::{ScriptedUpstream, TestGateway, TestSimulator, alone, eventually, payment};

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

#[test]
fn a_head_that_does_not_come_in_time_closes_the_connection() {
    let simulator = TestSimulator::start();
    let gateway = TestGateway::builder()
        .simulator(&simulator)
        .listener("header_timeout = \"200ms\"\nidle_timeout = \"60s\"")
        .start();
    let (took, _) = closed_after(&gateway, "POST /pay/gateway HTTP/1.1\r\nHost: gate");
    assert!(took >= Duration::from_millis(200), "closed after {took:?}");
    drop(gateway);
    assert_eq!(simulator.control().request_count(), 0);
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
    while client.try_write("x").is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(10), "it never closed");
        std::thread::sleep(Duration::from_millis(10));
    }
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
