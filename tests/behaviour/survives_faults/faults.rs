//! The table of faults: what the upstream does, and how the request must end.

use std::time::Duration;

use super::{GOOD, drip};
use crate::support::{Conversation, Cut, Message, payment};

/// A body that is streamed where [`STREAMED`] is set, and held else.
const LONG: usize = 4096;

/// Answers above this size are streamed.
const STREAMED: &str = "hold_answer = \"1KiB\"";

/// What an upstream does with its first connection.
type Script = Box<dyn Fn(&mut Conversation) -> End + Send + Sync>;

/// A fault, and how it must end.
pub(super) struct Fault {
    pub(super) name: String,
    pub(super) moment: Moment,
    pub(super) asked: Asked,
    pub(super) hold_answer: &'static str,
    pub(super) script: Script,
    /// One of these; more than one only where two packets race.
    pub(super) expected: Vec<Seen>,
}

/// When the script takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// At once, with the first request.
    Fresh,
    /// After a good exchange, before the next request is sent.
    Idle,
    /// After a good exchange, with the second request on the same connection.
    Second,
}

/// How a script leaves the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// An orderly end.
    Fin,
    Reset,
    /// Open, and listening for requests.
    Stay,
    /// Open, and deaf to what comes.
    Discard,
}

/// What the client sends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked {
    Payment,
    Head,
    /// A body that is longer than what is held.
    Upload,
}

impl Asked {
    pub(super) fn request(self, id: &str) -> Vec<u8> {
        let head = |start: &str, length: usize| {
            format!(
                "{start} HTTP/1.1\r\nHost: gateway.test\r\nX-Request-Id: {id}\r\n\
                 Content-Length: {length}\r\n\r\n"
            )
        };
        match self {
            Self::Payment => payment(id),
            Self::Head => head("HEAD /pay/gateway", 0).into_bytes(),
            Self::Upload => {
                let mut request = head("POST /pay/upload", 100_000).into_bytes();
                request.resize(request.len() + 100_000, b'x');
                request
            }
        }
    }
}

/// How a request ended, for its client and in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) status: u16,
    pub(super) code: Option<String>,
    pub(super) outcome: String,
    pub(super) is_cut: bool,
}

impl Seen {
    fn new(status: u16, code: &str, outcome: &str) -> Self {
        Self {
            status,
            code: (!code.is_empty()).then(|| code.to_owned()),
            outcome: outcome.to_owned(),
            is_cut: false,
        }
    }

    /// What came back.
    pub(super) fn of(answer: Result<Message, Cut>) -> Self {
        match answer {
            Ok(answer) => {
                let is_ours = answer.all("content-type") == ["application/problem+json"];
                let code = if is_ours {
                    answer.code()
                } else {
                    String::new()
                };
                Self::new(answer.status(), &code, answer.outcome())
            }
            Err(cut) => {
                let kind = cut.error.kind();
                let waits = [std::io::ErrorKind::WouldBlock, std::io::ErrorKind::TimedOut];
                assert!(!waits.contains(&kind), "the client was left waiting");
                let text = String::from_utf8_lossy(&cut.received).into_owned();
                let status = text.split(' ').nth(1).unwrap_or_default();
                Self {
                    is_cut: true,
                    ..Self::new(status.parse().unwrap_or_default(), "", "unknown")
                }
            }
        }
    }
}

fn fine() -> Seen {
    passed(200)
}

/// MODEN's own answer, complete.
fn passed(status: u16) -> Seen {
    Seen::new(status, "", "answered")
}

fn reset() -> Seen {
    Seen::new(502, "upstream-reset", "unknown")
}

fn invalid() -> Seen {
    Seen::new(502, "upstream-invalid", "unknown")
}

fn late() -> Seen {
    Seen::new(504, "upstream-timeout", "unknown")
}

/// The client has seen the beginning of the answer, and that it is not whole.
fn cut() -> Seen {
    Seen {
        is_cut: true,
        ..Seen::new(200, "", "unknown")
    }
}

/// The request is read whole, then the script runs.
fn fault(
    name: impl Into<String>,
    script: impl Fn(&mut Conversation) -> End + Send + Sync + 'static,
    expected: Seen,
) -> Fault {
    let script = move |conversation: &mut Conversation| {
        conversation.request();
        script(conversation)
    };
    unread(name, script, vec![expected])
}

/// The script reads what it likes.
fn unread(
    name: impl Into<String>,
    script: impl Fn(&mut Conversation) -> End + Send + Sync + 'static,
    expected: Vec<Seen>,
) -> Fault {
    Fault {
        name: name.into(),
        moment: Moment::Fresh,
        asked: Asked::Payment,
        hold_answer: "",
        script: Box::new(script),
        expected,
    }
}

/// These words for an answer.
fn says(name: impl Into<String>, words: impl Into<String>, end: End, expected: Seen) -> Fault {
    let words = words.into();
    let script = move |conversation: &mut Conversation| {
        conversation.say(&words);
        end
    };
    fault(name, script, expected)
}

/// An answer with these fields and this body.
fn answer(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}")
}

/// An answer with this body, chunked as it stands there.
fn chunked(body: &str) -> String {
    answer("Transfer-Encoding: chunked\r\n", body)
}

pub(super) fn all() -> Vec<Fault> {
    let mut all = Vec::new();
    all.extend(broken_off());
    all.extend(slow());
    all.extend(idle());
    all.extend(early());
    all.extend(too_much());
    all.extend(lengths());
    all.extend(codings());
    all.extend(chunks());
    all.extend(interim());
    all.extend(large());
    all.extend(heads());
    all.extend(no_http());
    all.extend(statuses());
    all.extend(streamed());
    all
}

/// Every stage of an exchange, and both ways to end it.
fn broken_off() -> Vec<Fault> {
    const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n";
    let stages = [
        ("after the request", ""),
        ("in the status line", "HTTP/1.1 2"),
        ("in the head", "HTTP/1.1 200 OK\r\nContent-Type: appl"),
        (
            "before the empty line",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n",
        ),
        ("after the head", HEAD),
        (
            "in a counted body",
            "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"status\":",
        ),
        (
            "in a chunk",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{\"sta",
        ),
        (
            "in a chunk's size",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1",
        ),
        (
            "before the last chunk",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        ),
        (
            "in the trailers",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-Sum: 1",
        ),
    ];
    let mut all = Vec::new();
    for (verb, end) in [("closes", End::Fin), ("resets", End::Reset)] {
        // Where nothing was written yet, the request goes to the next connection, which is good.
        all.push(unread(
            format!("{verb} before it reads"),
            move |_| end,
            vec![reset(), fine()],
        ));
        let in_head = move |conversation: &mut Conversation| {
            conversation.fragment(20);
            end
        };
        all.push(unread(
            format!("{verb} in the request's head"),
            in_head,
            vec![reset()],
        ));
        for (stage, words) in stages {
            all.push(says(format!("{verb} {stage}"), words, end, reset()));
        }
        let complete = answer("Content-Length: 2\r\n", "{}");
        all.push(says(
            format!("{verb} after the complete answer"),
            complete,
            end,
            fine(),
        ));
    }
    let until_end = answer("", "{}");
    all.push(says(
        "ends its answer by closing",
        &*until_end,
        End::Fin,
        fine(),
    ));
    all.push(says(
        "ends its answer by a reset",
        until_end,
        End::Reset,
        reset(),
    ));
    all
}

fn slow() -> Vec<Fault> {
    const MOMENT: Duration = Duration::from_millis(2);
    const WHILE: Duration = Duration::from_millis(50);
    let drips = |name: &str, at_once: &str, drops: String, pause, expected| {
        let at_once = at_once.to_owned();
        let script = move |conversation: &mut Conversation| {
            conversation.say(&at_once);
            drip(conversation, &drops, pause);
            End::Stay
        };
        fault(name, script, expected)
    };
    let short = answer("Content-Length: 2\r\n", "{}");
    let long = answer("Content-Length: 100\r\n", "");
    let body = "x".repeat(100);
    vec![
        says("never answers", "", End::Stay, late()),
        says(
            "stalls in the head",
            "HTTP/1.1 200 OK\r\nX-A",
            End::Stay,
            late(),
        ),
        says("stalls after the head", &*long, End::Stay, late()),
        says(
            "stalls in a counted body",
            format!("{long}xx"),
            End::Stay,
            late(),
        ),
        says("stalls in a chunk", chunked("10\r\n{"), End::Stay, late()),
        says(
            "stalls before the last chunk",
            chunked("2\r\n{}\r\n"),
            End::Stay,
            late(),
        ),
        drips("drips its answer, in time", "", short, MOMENT, fine()),
        drips(
            "drips its head, too late",
            "",
            format!("HTTP/1.1 200 OK\r\nX-A: {body}\r\n\r\n"),
            WHILE,
            late(),
        ),
        drips(
            "drips its body, in time",
            &long,
            body.clone(),
            MOMENT,
            fine(),
        ),
        drips("drips its body, too late", &long, body, WHILE, late()),
        drips(
            "drips chunks, in time",
            &chunked(""),
            "1\r\n{\r\n1\r\n}\r\n0\r\n\r\n".to_owned(),
            MOMENT,
            fine(),
        ),
    ]
}

fn idle() -> Vec<Fault> {
    let forged = || answer("Content-Length: 13\r\n", r#"{"forged":1 }"#);
    let on_idle = |name: &str, words: String, end| {
        let script = move |conversation: &mut Conversation| {
            conversation.say(&words);
            end
        };
        Fault {
            moment: Moment::Idle,
            ..unread(name, script, vec![fine()])
        }
    };
    let on_second = |name: &str, end| {
        let script = move |conversation: &mut Conversation| {
            conversation.fragment(20);
            end
        };
        Fault {
            moment: Moment::Second,
            ..unread(name, script, vec![reset()])
        }
    };
    let second_says = |name: &str, words: String, expected| Fault {
        moment: Moment::Second,
        ..says(name, words, End::Stay, expected)
    };
    let on_fresh = move |conversation: &mut Conversation| {
        conversation.say(forged());
        End::Stay
    };
    // Only what is there before the request leaves is known to be unasked.
    let unasked = Seen::new(502, "upstream-invalid", "not-sent");
    vec![
        on_idle("closes an idle connection", String::new(), End::Fin),
        on_idle("resets an idle connection", String::new(), End::Reset),
        on_idle("answers unasked on an idle connection", forged(), End::Stay),
        on_idle(
            "half an answer unasked on an idle connection",
            "HTTP/1.1 2".to_owned(),
            End::Stay,
        ),
        on_idle(
            "says 408 on an idle connection and closes",
            "HTTP/1.1 408 Late\r\nContent-Length: 0\r\n\r\n".to_owned(),
            End::Fin,
        ),
        on_second("closes an idle connection as we write", End::Fin),
        on_second("resets an idle connection as we write", End::Reset),
        second_says(
            "a broken answer on a reused connection",
            answer("Content-Length: x\r\n", "{}"),
            invalid(),
        ),
        unread(
            "answers unasked on a fresh connection",
            on_fresh,
            vec![unasked, invalid(), fine()],
        ),
    ]
}

/// Answers before the request is read.
fn early() -> Vec<Fault> {
    const CLOSES: &str = "Connection: close\r\n";
    let early = |name: &str, asked, fields: &'static str| {
        let script = move |conversation: &mut Conversation| {
            conversation.await_bytes();
            conversation.say(answer(&format!("{fields}Content-Length: 13\r\n"), GOOD));
            if fields == CLOSES {
                conversation.finish();
            }
            conversation.request();
            End::Stay
        };
        Fault {
            asked,
            ..unread(name, script, vec![fine()])
        }
    };
    let resets = |conversation: &mut Conversation| {
        conversation.fragment(100);
        conversation.say(answer("Content-Length: 13\r\n", GOOD));
        End::Reset
    };
    vec![
        early(
            "answers before it has read a short request",
            Asked::Payment,
            "",
        ),
        early(
            "answers a short request early and closes",
            Asked::Payment,
            CLOSES,
        ),
        early(
            "answers before it has read a long request",
            Asked::Upload,
            "",
        ),
        early(
            "answers a long request early and closes",
            Asked::Upload,
            CLOSES,
        ),
        Fault {
            asked: Asked::Upload,
            ..unread(
                "answers a long request early and resets",
                resets,
                vec![fine(), reset()],
            )
        },
    ]
}

fn too_much() -> Vec<Fault> {
    let complete = answer("Content-Length: 13\r\n", GOOD);
    let forged = answer("Content-Length: 13\r\n", r#"{"forged":1 }"#);
    let to_head = |name: &str, words: String| Fault {
        asked: Asked::Head,
        ..says(name, words, End::Stay, fine())
    };
    vec![
        says(
            "surplus bytes behind its answer",
            format!("{complete}surplus"),
            End::Stay,
            fine(),
        ),
        says(
            "a newline behind its answer",
            format!("{complete}\r\n"),
            End::Stay,
            fine(),
        ),
        says(
            "a second answer behind its answer",
            format!("{complete}{forged}"),
            End::Stay,
            fine(),
        ),
        says(
            "a second answer behind chunks",
            chunked(&format!("2\r\n{{}}\r\n0\r\n\r\n{forged}")),
            End::Stay,
            fine(),
        ),
        says(
            "204 with a body",
            "HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\n{}",
            End::Stay,
            passed(204),
        ),
        says(
            "204 with chunks",
            "HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
            End::Stay,
            passed(204),
        ),
        says(
            "304 with a body",
            "HTTP/1.1 304 Same\r\nContent-Length: 2\r\n\r\n{}",
            End::Stay,
            passed(304),
        ),
        to_head("a body in answer to HEAD", complete.clone()),
        to_head(
            "a second answer in answer to HEAD",
            answer("Content-Length: 5\r\n", &forged),
        ),
    ]
}

fn lengths() -> Vec<Fault> {
    let length = |name: &str, fields: &str, expected| {
        says(name, answer(fields, "{\"a\":1}"), End::Stay, expected)
    };
    vec![
        length(
            "the same length twice",
            "Content-Length: 7\r\nContent-Length: 7\r\n",
            fine(),
        ),
        length(
            "the same length in a list",
            "Content-Length: 7, 7\r\n",
            fine(),
        ),
        length(
            "two lengths",
            "Content-Length: 7\r\nContent-Length: 2\r\n",
            invalid(),
        ),
        length(
            "two lengths in a list",
            "Content-Length: 7, 2\r\n",
            invalid(),
        ),
        length("a length of +7", "Content-Length: +7\r\n", invalid()),
        length("a length of 0x7", "Content-Length: 0x7\r\n", invalid()),
        length("a length of -7", "Content-Length: -7\r\n", invalid()),
        length("a length of 7 7", "Content-Length: 7 7\r\n", invalid()),
        length("an empty length", "Content-Length:\r\n", invalid()),
        length("a length of words", "Content-Length: seven\r\n", invalid()),
        length(
            "a length of 2^64",
            "Content-Length: 18446744073709551616\r\n",
            invalid(),
        ),
        length(
            "a length of 2^64 + 7",
            "Content-Length: 18446744073709551623\r\n",
            invalid(),
        ),
        length(
            "space before a length's colon",
            "Content-Length : 7\r\n",
            invalid(),
        ),
    ]
}

fn codings() -> Vec<Fault> {
    const BODY: &str = "7\r\n{\"a\":1}\r\n0\r\n\r\n";
    let coded =
        |name: &str, fields: &str, expected| says(name, answer(fields, BODY), End::Stay, expected);
    let old = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n{\"a\":1}\r\n0\r\n\r\n";
    vec![
        coded(
            "a length, then chunks",
            "Content-Length: 7\r\nTransfer-Encoding: chunked\r\n",
            invalid(),
        ),
        coded(
            "chunks, then a length",
            "Transfer-Encoding: chunked\r\nContent-Length: 17\r\n",
            invalid(),
        ),
        coded("coding gzip", "Transfer-Encoding: gzip\r\n", invalid()),
        coded(
            "coding gzip, chunked",
            "Transfer-Encoding: gzip, chunked\r\n",
            invalid(),
        ),
        coded(
            "coding chunked, chunked",
            "Transfer-Encoding: chunked, chunked\r\n",
            invalid(),
        ),
        coded(
            "coding chunked, gzip",
            "Transfer-Encoding: chunked, gzip\r\n",
            invalid(),
        ),
        coded(
            "coding identity",
            "Transfer-Encoding: identity\r\n",
            invalid(),
        ),
        coded(
            "coding xchunked",
            "Transfer-Encoding: xchunked\r\n",
            invalid(),
        ),
        coded("an empty coding", "Transfer-Encoding:\r\n", invalid()),
        coded(
            "coding chunked on two lines",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            invalid(),
        ),
        coded(
            "space before a coding's colon",
            "Transfer-Encoding : chunked\r\n",
            invalid(),
        ),
        coded("coding cHuNkEd", "Transfer-Encoding: cHuNkEd\r\n", fine()),
        says("chunks in HTTP/1.0", old, End::Stay, invalid()),
    ]
}

fn chunks() -> Vec<Fault> {
    let bad = |name: &str, body: &str| says(name, chunked(body), End::Stay, invalid());
    let extensions = "x".repeat(5_000);
    let trailers = format!("X-A: {}\r\n", "x".repeat(1_000)).repeat(10);
    vec![
        bad("a chunk of size zz", "zz\r\n{}\r\n0\r\n\r\n"),
        bad("a chunk of size 0x2", "0x2\r\n{}\r\n0\r\n\r\n"),
        bad("a chunk of size -2", "-2\r\n{}\r\n0\r\n\r\n"),
        bad("a chunk of size +2", "+2\r\n{}\r\n0\r\n\r\n"),
        bad("a chunk without a size", "\r\n{}\r\n0\r\n\r\n"),
        bad(
            "a chunk of size 2^64 + 2",
            "10000000000000002\r\n{}\r\n0\r\n\r\n",
        ),
        bad(
            "a chunk of size 2^63",
            "8000000000000000\r\n{}\r\n0\r\n\r\n",
        ),
        bad("a space before a chunk's size", " 2\r\n{}\r\n0\r\n\r\n"),
        bad("no line end behind a chunk", "2\r\n{}0\r\n\r\n"),
        bad("a chunk longer than announced", "1\r\n{}\r\n0\r\n\r\n"),
        bad(
            "a bare line feed behind a chunk's size",
            "2\n{}\r\n0\r\n\r\n",
        ),
        bad("a bare line feed behind a chunk", "2\r\n{}\n0\r\n\r\n"),
        bad("a bare line feed at the very end", "2\r\n{}\r\n0\r\n\n"),
        bad(
            "a bare line feed in an extension",
            "2;a\nb\r\n{}\r\n0\r\n\r\n",
        ),
        bad("NUL in an extension", "2;a\0b\r\n{}\r\n0\r\n\r\n"),
        bad(
            "endless extensions",
            &format!("2;{extensions}\r\n{{}}\r\n0\r\n\r\n"),
        ),
        bad(
            "endless trailers",
            &format!("2\r\n{{}}\r\n0\r\n{trailers}\r\n"),
        ),
        bad("a trailer without a colon", "2\r\n{}\r\n0\r\nX-A\r\n\r\n"),
        says(
            "extensions and trailers as they may be",
            chunked("2;a=b\r\n{}\r\n0\r\nX-A: 1\r\n\r\n"),
            End::Stay,
            fine(),
        ),
    ]
}

fn interim() -> Vec<Fault> {
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

fn large() -> Vec<Fault> {
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

fn heads() -> Vec<Fault> {
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

fn no_http() -> Vec<Fault> {
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

fn statuses() -> Vec<Fault> {
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

/// Answers that are passed on as they come: what breaks them must be seen.
fn streamed() -> Vec<Fault> {
    let streamed = |name: &str, words: String, end, expected| Fault {
        hold_answer: STREAMED,
        ..says(format!("streamed: {name}"), words, end, expected)
    };
    let body = "x".repeat(LONG);
    let forged = answer("Content-Length: 13\r\n", r#"{"forged":1 }"#);
    let counted = |length: usize| answer(&format!("Content-Length: {length}\r\n"), &body);
    let chunk = |rest: &str| chunked(&format!("{LONG:x}\r\n{body}{rest}"));
    let long = format!("{LONG:x}\r\n{body}\r\n0\r\n\r\n");
    let both = format!("Content-Length: {LONG}\r\nTransfer-Encoding: chunked\r\n");
    let drops = counted(LONG + 100);
    let drips = move |conversation: &mut Conversation| {
        conversation.say(&drops);
        drip(conversation, &"x".repeat(100), Duration::from_millis(50));
        End::Stay
    };
    vec![
        streamed(
            "closes in a counted body",
            counted(LONG + 1),
            End::Fin,
            cut(),
        ),
        streamed(
            "resets in a counted body",
            counted(LONG + 1),
            End::Reset,
            cut(),
        ),
        streamed(
            "stalls in a counted body",
            counted(LONG + 1),
            End::Stay,
            cut(),
        ),
        Fault {
            hold_answer: STREAMED,
            ..fault("streamed: drips its body, too late", drips, cut())
        },
        streamed(
            "closes in a chunk",
            chunked(&format!("{:x}\r\n{body}", LONG + 1)),
            End::Fin,
            cut(),
        ),
        streamed(
            "closes before the last chunk",
            chunk("\r\n"),
            End::Fin,
            cut(),
        ),
        streamed(
            "resets before the last chunk",
            chunk("\r\n"),
            End::Reset,
            cut(),
        ),
        streamed(
            "closes in the trailers",
            chunk("\r\n0\r\nX-A"),
            End::Fin,
            cut(),
        ),
        streamed(
            "a second chunk of size zz",
            chunk("\r\nzz\r\n{}\r\n0\r\n\r\n"),
            End::Stay,
            cut(),
        ),
        streamed(
            "a second chunk of size 2^64 + 2",
            chunk("\r\n10000000000000002\r\n{}\r\n0\r\n\r\n"),
            End::Stay,
            cut(),
        ),
        streamed(
            "no line end behind a chunk",
            chunk("0\r\n\r\n"),
            End::Stay,
            cut(),
        ),
        streamed(
            "a bare line feed behind a chunk",
            chunk("\n0\r\n\r\n"),
            End::Stay,
            cut(),
        ),
        streamed(
            "a bare line feed at the very end",
            chunk("\r\n0\r\n\n"),
            End::Stay,
            cut(),
        ),
        streamed("a reset for its end", answer("", &body), End::Reset, cut()),
        streamed("closing for its end", answer("", &body), End::Fin, fine()),
        streamed(
            "a length and chunks",
            answer(&both, &long),
            End::Stay,
            invalid(),
        ),
        streamed(
            "a second answer behind its answer",
            counted(LONG) + &forged,
            End::Stay,
            fine(),
        ),
        streamed(
            "a second answer behind chunks",
            chunk("\r\n0\r\n\r\n") + &forged,
            End::Stay,
            fine(),
        ),
        streamed(
            "resets after the complete answer",
            counted(LONG),
            End::Reset,
            fine(),
        ),
    ]
}
