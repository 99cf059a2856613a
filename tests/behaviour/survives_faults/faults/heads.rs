//! What stands where the head of an answer should.

use std::time::Duration;

use super::{End, Fault, Seen, answer, fault, fine, invalid, late, passed, reset, says};
use crate::support::Conversation;
use crate::survives_faults::drip;

pub(super) fn interim() -> Vec<Fault> {
    const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
    let complete = answer("Content-Length: 2\r\n", "{}");
    let slowly = |conversation: &mut Conversation| {
        drip(conversation, &CONTINUE.repeat(8), Duration::from_millis(20));
        End::Stay
    };
    vec![
        says(
            "several 1xx answers first",
            format!("{CONTINUE}HTTP/1.1 103 Hints\r\nLink: </a>\r\n\r\n{complete}"),
            End::Stay,
            fine(),
        ),
        says(
            "a thousand 1xx answers first",
            format!("{}{complete}", CONTINUE.repeat(1_000)),
            End::Stay,
            fine(),
        ),
        says(
            "more 1xx answers than a head may be long",
            CONTINUE.repeat(4_000),
            End::Stay,
            invalid(),
        ),
        says("100, then a reset", CONTINUE, End::Reset, reset()),
        says("100, then the end", CONTINUE, End::Fin, reset()),
        says("100, then nothing", CONTINUE, End::Stay, late()),
        fault("1xx answers that drip for ever", slowly, late()),
        says(
            "100 with a length and a body",
            format!("HTTP/1.1 100 Go\r\nContent-Length: 2\r\n\r\n{{}}{complete}"),
            End::Stay,
            invalid(),
        ),
        says(
            "101",
            "HTTP/1.1 101 Switch\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
            End::Stay,
            invalid(),
        ),
        says(
            "101 behind 100",
            format!("{CONTINUE}HTTP/1.1 101 Switch\r\n\r\n"),
            End::Stay,
            invalid(),
        ),
    ]
}

pub(super) fn large() -> Vec<Fault> {
    let fields = |count: usize| "X-A: 1\r\n".repeat(count);
    let field = |bytes: usize| format!("X-A: {}\r\n", "x".repeat(bytes));
    let endless = |start: &'static str| {
        move |conversation: &mut Conversation| {
            conversation.say(start);
            // Until the gateway has had enough.
            while conversation.try_say([b'x'; 4096]).is_ok() {}
            End::Stay
        }
    };
    let length = "Content-Length: 2\r\n";
    vec![
        says(
            "a head of 60 KiB",
            answer(&format!("{}{length}", field(60 * 1024)), "{}"),
            End::Stay,
            fine(),
        ),
        says(
            "a head of 70 KiB",
            answer(&format!("{}{length}", field(70 * 1024)), "{}"),
            End::Discard,
            invalid(),
        ),
        says(
            "99 fields and a length",
            answer(&format!("{}{length}", fields(99)), "{}"),
            End::Stay,
            fine(),
        ),
        says(
            "100 fields and a length",
            answer(&format!("{}{length}", fields(100)), "{}"),
            End::Stay,
            invalid(),
        ),
        fault(
            "an endless field",
            endless("HTTP/1.1 200 OK\r\nX-A: "),
            invalid(),
        ),
        fault("an endless reason", endless("HTTP/1.1 200 "), invalid()),
    ]
}

pub(super) fn heads() -> Vec<Fault> {
    let field = |name: &str, field: &str| {
        says(
            name,
            answer(&format!("X-First: 1\r\n{field}Content-Length: 2\r\n"), "{}"),
            End::Stay,
            invalid(),
        )
    };
    vec![
        field("a folded field", "X-A: 1\r\n 2\r\n"),
        field("a folded coding", "Transfer-Encoding:\r\n chunked\r\n"),
        says(
            "space before the first field",
            answer(" X-A: 1\r\nContent-Length: 2\r\n", "{}"),
            End::Stay,
            invalid(),
        ),
        field("space before a colon", "X-A : 1\r\n"),
        field("a field without a name", ": 1\r\n"),
        field("a field without a colon", "X-A\r\n"),
        field("a name with a space", "X A: 1\r\n"),
        field("NUL in a value", "X-A: 1\0\r\n"),
        field("NUL in a name", "X\0A: 1\r\n"),
        field(
            "a bare carriage return in a value",
            "X-A: 1\rContent-Length: 0\r\n",
        ),
        field("a bare line feed behind a field", "X-A: 1\n"),
        says(
            "bare line feeds in the whole head",
            "HTTP/1.1 200 OK\nContent-Length: 2\n\n{}",
            End::Stay,
            invalid(),
        ),
        says(
            "a bare line feed behind the status line",
            "HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\n{}",
            End::Stay,
            invalid(),
        ),
        says(
            "a bare line feed for the empty line",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\n{}",
            End::Stay,
            invalid(),
        ),
    ]
}

pub(super) fn no_http() -> Vec<Fault> {
    let words = |name: &str, words: &str| says(name, words, End::Stay, invalid());
    let bytes = |name: &str, bytes: &'static [u8]| {
        let script = move |conversation: &mut Conversation| {
            conversation.say(bytes);
            End::Stay
        };
        fault(name, script, invalid())
    };
    vec![
        words("an SSH banner", "SSH-2.0-OpenSSH_9.2\r\n"),
        bytes("an alert of TLS", b"\x15\x03\x03\x00\x02\x02\x46"),
        bytes(
            "SETTINGS of HTTP/2",
            b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
        ),
        words("HTTP/0.9", "<html>fine</html>"),
        words("HTTP/2.0", "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
        words("HTTP/1.2", "HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
        words(
            "http/1.1 in lower case",
            "http/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        ),
        words("ICY", "ICY 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
        words(
            "an empty line before its answer",
            "\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        ),
        words(
            "a request for an answer",
            "GET / HTTP/1.1\r\nHost: moden\r\n\r\n",
        ),
    ]
}

pub(super) fn statuses() -> Vec<Fault> {
    let line = |line: &str, expected| {
        let words = format!("{line}\r\nContent-Length: 2\r\n\r\n{{}}");
        says(format!("status line {line}"), words, End::Stay, expected)
    };
    // A client may repeat any request after a 421, so it does not get to see it.
    let misdirected = Seen::new(502, "upstream-invalid", "answered");
    vec![
        line("HTTP/1.1 000 None", invalid()),
        line("HTTP/1.1 099 Low", invalid()),
        line("HTTP/1.1 99 Short", invalid()),
        line("HTTP/1.1 1000 Long", invalid()),
        line("HTTP/1.1 2OO OK", invalid()),
        line("HTTP/1.1", invalid()),
        line("HTTP/1.1  200 OK", invalid()),
        line("HTTP/1.1 600 High", passed(600)),
        line("HTTP/1.1 200", fine()),
        line("HTTP/1.0 200 OK", fine()),
        line("HTTP/1.1 408 Request Timeout", passed(408)),
        line("HTTP/1.1 425 Too Early", passed(425)),
        line("HTTP/1.1 421 Misdirected Request", misdirected),
        line("HTTP/1.1 429 Too Many Requests", passed(429)),
        line("HTTP/1.1 500 Oops", passed(500)),
        line("HTTP/1.1 503 Busy", passed(503)),
    ]
}
