//! Every message in one piece, in two pieces split everywhere, and byte by byte: one verdict.

use super::*;

const LIMITS: HeadLimits = HeadLimits {
    max_bytes: 512,
    max_fields: 8,
};

/// What a guard made of a connection's bytes.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    /// Where each complete message ends.
    ends: Vec<usize>,
    /// How many bytes were passed on in all.
    passed: usize,
    /// What broke it.
    violation: Option<Violation>,
}

/// Either guard, so that both are fed by the same hand.
enum Guard {
    Request(RequestGuard),
    /// With the methods that are still to be sent.
    Answer(AnswerGuard, Vec<&'static str>),
}

impl Guard {
    fn inspect(&mut self, bytes: &[u8]) -> Result<Passed, Violation> {
        match self {
            Self::Request(guard) => guard.inspect(bytes),
            Self::Answer(guard, _) => guard.inspect(bytes),
        }
    }

    /// Goes on behind a complete message.
    fn begin_next(&mut self) {
        match self {
            Self::Request(guard) => guard.begin_next(),
            Self::Answer(guard, methods) => {
                if !methods.is_empty() {
                    guard.expect_answer(methods.remove(0) == "HEAD");
                }
            }
        }
    }
}

/// Shows a guard these pieces, as a connection would.
fn feed(mut guard: Guard, pieces: &[&[u8]]) -> Verdict {
    let mut verdict = Verdict {
        ends: Vec::new(),
        passed: 0,
        violation: None,
    };
    let mut waiting = Vec::new();
    guard.begin_next();
    for piece in pieces {
        waiting.extend_from_slice(piece);
        loop {
            let passed = match guard.inspect(&waiting) {
                Ok(passed) => passed,
                Err(violation) => {
                    verdict.violation = Some(violation);
                    assert_eq!(guard.inspect(&waiting), Err(violation), "it stays broken");
                    return verdict;
                }
            };
            waiting.drain(..passed.bytes);
            verdict.passed += passed.bytes;
            if passed.is_complete {
                verdict.ends.push(verdict.passed);
                guard.begin_next();
            }
            if passed.bytes == 0 || waiting.is_empty() {
                break;
            }
        }
    }
    verdict
}

/// The one verdict on these bytes, however they come.
fn judge(guard: impl Fn() -> Guard, bytes: &[u8]) -> Verdict {
    let whole = feed(guard(), &[bytes]);
    let text = String::from_utf8_lossy(bytes);
    for at in 0..=bytes.len() {
        let (first, second) = bytes.split_at(at);
        let split = feed(guard(), &[first, second]);
        assert_eq!(split, whole, "split at {at}: {text:?}");
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(feed(guard(), &single), whole, "byte by byte: {text:?}");
    whole
}

fn requests(bytes: impl AsRef<[u8]>) -> Verdict {
    let guard = || Guard::Request(RequestGuard::new(LIMITS));
    judge(guard, bytes.as_ref())
}

/// The answers to requests of these methods, one sent after the other.
fn answers(methods: &[&'static str], bytes: impl AsRef<[u8]>) -> Verdict {
    let guard = || Guard::Answer(AnswerGuard::new(LIMITS), methods.to_vec());
    judge(guard, bytes.as_ref())
}

/// The only message, complete.
fn complete(bytes: usize) -> Verdict {
    Verdict {
        ends: vec![bytes],
        passed: bytes,
        violation: None,
    }
}

/// Nothing but what was in front of the violation has passed.
fn broken(passed: usize, violation: Violation) -> Verdict {
    Verdict {
        ends: Vec::new(),
        passed,
        violation: Some(violation),
    }
}

const HEAD: &str = "POST /pay/gateway HTTP/1.1\r\nHost: a\r\n";

/// A request with these field lines.
fn with(lines: &str) -> String {
    format!("{HEAD}{lines}\r\n\r\n")
}

#[test]
fn requests_of_every_framing_are_complete_where_they_end() {
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET /a?b=c HTTP/1.0\r\nHost: a\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        "POST / HTTP/1.1\r\nCONTENT-length:\t 05 \t\r\n\r\nhello",
        "POST / HTTP/1.1\r\ncontent-length: 5\r\nContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nContent-Lengths: 9\r\nTe: trailers\r\nC: d\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding:CHUNKED \r\n\r\n5\r\nhello\r\n00A\r\n0123456789\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;a=\"b;\u{e9}\"\r\nhello\r\n0 ;c\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\nC:\t\r\n\r\n",
    ] {
        assert_eq!(requests(request), complete(request.len()), "{request:?}");
    }
}

#[test]
fn one_request_follows_the_other() {
    let requests_ = [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        "\r\nPOST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nA: b\r\n\r\n",
        "GET /b HTTP/1.0\r\n\r\n",
    ];
    let verdict = requests(requests_.concat());
    let ends: Vec<usize> = requests_
        .iter()
        .scan(0, |end, request| {
            *end += request.len();
            Some(*end)
        })
        .collect();
    assert_eq!(verdict.ends, ends);
    assert_eq!(verdict.violation, None);
}

#[test]
fn a_request_waits_for_the_one_before_it() {
    let mut guard = RequestGuard::new(LIMITS);
    let both = b"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n";
    let passed = guard.inspect(both).expect("well-formed");
    assert_eq!((passed.bytes, passed.is_complete), (19, true));
    let passed = guard.inspect(&both[19..]).expect("well-formed");
    assert_eq!((passed.bytes, passed.is_complete), (0, true));
    guard.begin_next();
    let passed = guard.inspect(&both[19..]).expect("well-formed");
    assert_eq!((passed.bytes, passed.is_complete), (19, true));
    assert_eq!(guard.messages(), 2);
}

#[test]
fn tells_how_each_body_is_framed() {
    for (lines, framing) in [
        ("A: b", Framing::Length(0)),
        ("Content-Length: 7", Framing::Length(7)),
        (
            "Content-Length: 9223372036854775807",
            Framing::Length(i64::MAX as u64),
        ),
        ("Transfer-Encoding: chunked", Framing::Chunked),
    ] {
        let mut guard = RequestGuard::new(LIMITS);
        guard.inspect(with(lines).as_bytes()).expect("well-formed");
        assert_eq!((guard.messages(), guard.framing()), (1, framing), "{lines}");
    }
    for (method, answer, framing) in [
        ("GET", "200 OK\r\n\r\n", Framing::UntilEnd),
        (
            "GET",
            "200 OK\r\nContent-Length: 7\r\n\r\n",
            Framing::Length(7),
        ),
        (
            "GET",
            "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            Framing::Chunked,
        ),
        (
            "HEAD",
            "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            Framing::Length(0),
        ),
        (
            "HEAD",
            "200 OK\r\nContent-Length: 7\r\n\r\n",
            Framing::Length(0),
        ),
        ("GET", "204 No Content\r\n\r\n", Framing::Length(0)),
        (
            "GET",
            "304 Not Modified\r\nContent-Length: 7\r\n\r\n",
            Framing::Length(0),
        ),
    ] {
        let mut guard = AnswerGuard::new(LIMITS);
        guard.expect_answer(method == "HEAD");
        let answer = format!("HTTP/1.1 {answer}");
        guard.inspect(answer.as_bytes()).expect("well-formed");
        assert_eq!(
            (guard.messages(), guard.framing()),
            (1, framing),
            "{method} {answer}"
        );
    }
}

#[test]
fn knows_which_messages_are_answered_without_content() {
    let mut guard = RequestGuard::new(LIMITS);
    for (bytes, is_head) in [
        ("HEAD / HTTP/1.1\r\nA:", true),
        ("HEAD / HTTP/1.1\r\nA: b\r\n\r\n", true),
        ("GET / HTTP/1.1\r\n\r\n", false),
        ("HEAD / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", true),
    ] {
        guard.begin_next();
        let _ = guard.inspect(bytes.as_bytes());
        assert_eq!(guard.is_head(), is_head, "{bytes:?}");
    }
}

#[test]
fn knows_when_a_head_has_begun() {
    let mut guard = RequestGuard::new(LIMITS);
    for (bytes, has_begun) in [("", false), ("\r", false), ("\r\n", false), ("\r\nG", true)] {
        let passed = guard.inspect(bytes.as_bytes()).expect("well-formed");
        assert_eq!(passed.bytes, 0);
        assert_eq!(guard.is_within_head(), has_begun, "{bytes:?}");
    }
}

#[test]
fn refuses_malformed_request_lines() {
    use Violation::*;
    for (line, violation) in [
        ("GET /pay/a", NoVersion),
        ("GET", NoVersion),
        ("GET  HTTP/1.1", RequestLine),
        ("GET HTTP/1.1", RequestLine),
        (" GET / HTTP/1.1", RequestLine),
        ("\u{16}\u{3}\u{1}GET / HTTP/1.1", RequestLine),
        ("GET  / HTTP/1.1", RequestLine),
        ("GET /  HTTP/1.1", RequestLine),
        ("GET / a HTTP/1.1", RequestLine),
        ("GET / HTTP/1.1 ", RequestLine),
        ("GET /\tHTTP/1.1", NoVersion),
        ("GET / HTTP/1.1\0", RequestLine),
        ("GET / http/1.1", RequestLine),
        ("GET / HTTP/1.", RequestLine),
        ("GET / HTTP/11", RequestLine),
        ("GET / HTTP/1.2", Version),
        ("GET / HTTP/2.0", Version),
        ("GET / HTTP/2", Version),
        ("GET / HTTP/0.9", Version),
        ("PRI * HTTP/2.0", Version),
        ("GET /a#b HTTP/1.1", Fragment),
        ("GET # HTTP/1.1", Fragment),
    ] {
        let request = format!("{line}\r\nHost: a\r\n\r\n");
        assert_eq!(requests(request), broken(0, violation), "{line:?}");
    }
}

#[test]
fn refuses_line_ends_that_are_none() {
    use Violation::*;
    for (bytes, violation) in [
        ("\nGET / HTTP/1.1\r\n\r\n", BareLineFeed),
        ("\r\n\nGET / HTTP/1.1\r\n\r\n", BareLineFeed),
        ("\r\n\r\nGET / HTTP/1.1\r\n\r\n", EmptyLines),
        ("\rGET / HTTP/1.1\r\n\r\n", BareCarriageReturn),
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", BareLineFeed),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", BareLineFeed),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", BareLineFeed),
        ("GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", BareCarriageReturn),
        (
            "GET / HTTP/1.1\r\nA: b\rTransfer-Encoding: chunked\r\n\r\n",
            BareCarriageReturn,
        ),
        ("GET /\r HTTP/1.1\r\n\r\n", BareCarriageReturn),
        ("GET / HTTP/1.1\r\nHost: a\r\n\rx", BareCarriageReturn),
    ] {
        assert_eq!(requests(bytes), broken(0, violation), "{bytes:?}");
    }
}

#[test]
fn refuses_doubtful_fields() {
    use Violation::*;
    for (lines, violation) in [
        ("A: b\r\n c", Folded),
        ("A: b\r\n\tc: d", Folded),
        ("Transfer-Encoding:\r\n chunked", ChunkedNotLast),
        (": b", EmptyName),
        ("Transfer-Encoding : chunked", SpaceBeforeColon),
        ("transfer-encoding\t: chunked", SpaceBeforeColon),
        ("Content-Length : 5", SpaceBeforeColon),
        ("Content-Length:", ContentLength),
        ("Content-Length: +5", ContentLength),
        ("Content-Length: -5", ContentLength),
        ("Content-Length: 0x5", ContentLength),
        ("Content-Length: 5 5", ContentLength),
        ("Content-Length: 5,5", ContentLength),
        ("Content-Length: 5, 6", ContentLength),
        ("Content-Length: 5\u{b}", ContentLength),
        ("Content-Length: \u{661}", ContentLength),
        ("Content-Length: 9223372036854775808", ContentLength),
        ("Content-Length: 18446744073709551616", ContentLength),
        ("Content-Length: 18446744073709551621", ContentLength),
        (
            "Content-Length: 99999999999999999999999999999999999999999",
            ContentLength,
        ),
        (
            "Content-Length: 5\r\nContent-Length: 6",
            ContentLengthConflict,
        ),
        ("Content-Length: 5\r\ncontent-length:", ContentLength),
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            TwoFramings,
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 0",
            TwoFramings,
        ),
        ("Transfer-Encoding: gzip, chunked", UnknownCoding),
        ("Transfer-Encoding: xchunked, chunked", UnknownCoding),
        ("Transfer-Encoding: gzip", ChunkedNotLast),
        ("Transfer-Encoding: identity", ChunkedNotLast),
        ("Transfer-Encoding: xchunked", ChunkedNotLast),
        ("Transfer-Encoding: chunked, gzip", ChunkedNotLast),
        ("Transfer-Encoding: chunked;q=1", ChunkedNotLast),
        ("Transfer-Encoding: \"chunked\"", ChunkedNotLast),
        ("Transfer-Encoding: chunked\u{b}", ChunkedNotLast),
        ("Transfer-Encoding: chunked,", ChunkedNotLast),
        ("Transfer-Encoding:", ChunkedNotLast),
        ("Transfer-Encoding: chunked, chunked", RepeatedCoding),
        ("Transfer-Encoding: chunked, gzip, chunked", RepeatedCoding),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            RepeatedCoding,
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip",
            RepeatedCoding,
        ),
        (
            "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
            ChunkedNotLast,
        ),
    ] {
        assert_eq!(requests(with(lines)), broken(0, violation), "{lines:?}");
    }
    let bytes = "GET / HTTP/1.1\r\n Host: a\r\n\r\n";
    assert_eq!(requests(bytes), broken(0, LeadingWhitespace));
    let bytes = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(requests(bytes), broken(0, CodingInOldVersion));
}

#[test]
fn bounds_heads() {
    let longest = |fill: usize| with(&format!("A: {}", "b".repeat(fill)));
    let room = LIMITS.max_bytes - longest(0).len();
    assert_eq!(requests(longest(room)), complete(LIMITS.max_bytes));
    for fill in [room + 1, room + 2, room + 500] {
        assert_eq!(requests(longest(fill)), broken(0, Violation::HeadTooLong));
    }
    let line = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(LIMITS.max_bytes));
    assert_eq!(requests(line), broken(0, Violation::RequestLineTooLong));

    let fields = |count| format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(count));
    let request = fields(LIMITS.max_fields);
    assert_eq!(requests(&request), complete(request.len()));
    let request = fields(LIMITS.max_fields + 1);
    assert_eq!(requests(request), broken(0, Violation::TooManyFields));
}

#[test]
fn refuses_broken_chunks() {
    use Violation::*;
    let head = with("Transfer-Encoding: chunked");
    let long = "a".repeat(9_000);
    let many = "A: b\r\n".repeat(LIMITS.max_fields + 1);
    // How much passes before the violation is found: never the end of the body.
    for (body, passed, violation) in [
        ("\r\n", 0, ChunkSize),
        ("x\r\n", 0, ChunkSize),
        ("-5\r\nhello", 0, ChunkSize),
        ("+5\r\nhello", 0, ChunkSize),
        (" 5\r\nhello", 0, ChunkSize),
        ("0x5\r\nhello", 1, ChunkSize),
        ("5 \r\nhello", 2, ChunkSize),
        ("5 5\r\nhello", 2, ChunkSize),
        ("5\nhello", 1, BareLineFeed),
        ("\nhello", 0, BareLineFeed),
        ("5\rhello", 2, BareCarriageReturn),
        ("5;\nhello\r\n0\r\n\r\n", 2, BareLineFeed),
        ("5;a\0\r\nhello", 3, ControlCharacter),
        ("5;a\rb\r\nhello", 4, BareCarriageReturn),
        ("10000000000000005\r\n", 15, ChunkSize),
        ("fffffffffffffffff\r\n", 15, ChunkSize),
        ("5\r\nhelloXX", 8, ChunkEnd),
        ("5\r\nhello\n", 8, ChunkEnd),
        ("5\r\nhello\rX", 9, BareCarriageReturn),
        ("0\r\n\n", 3, BareLineFeed),
        ("0\r\n\rx", 4, BareCarriageReturn),
        ("0\r\nA b\r\n\r\n", 4, SpaceBeforeColon),
        ("0\r\nAb\r\n\r\n", 5, TrailerLine),
        ("0\r\nA\n\r\n", 4, BareLineFeed),
        ("0\r\n: b\r\n\r\n", 3, EmptyName),
        ("0\r\n A: b\r\n\r\n", 3, LeadingWhitespace),
        ("0\r\nA: b\r\n c\r\n\r\n", 9, Folded),
        ("0\r\nA: b\n\r\n", 7, BareLineFeed),
        ("0\r\nA: b\0\r\n\r\n", 7, ControlCharacter),
        ("0\r\nA: b\rc\r\n\r\n", 8, BareCarriageReturn),
        (
            &format!("0\r\n{many}\r\n"),
            3 + LIMITS.max_fields * 6,
            TooManyFields,
        ),
    ] {
        let verdict = requests(format!("{head}{body}"));
        assert_eq!(verdict, broken(head.len() + passed, violation), "{body:?}");
    }
    for (body, violation) in [
        (format!("5;{long}\r\nhello"), ExtensionsTooLong),
        ("1;a=b\r\na\r\n".repeat(1_500), ExtensionsTooLong),
        (format!("0\r\nA: {long}\r\n\r\n"), TrailersTooLong),
        (format!("0\r\n{long}"), TrailersTooLong),
    ] {
        let bytes = format!("{head}{body}");
        let guard = Guard::Request(RequestGuard::new(LIMITS));
        let verdict = feed(guard, &[bytes.as_bytes()]);
        assert_eq!((verdict.ends, verdict.violation), (vec![], Some(violation)));
    }
}

#[test]
fn a_message_cannot_reach_into_the_next() {
    let smuggled = "GET /pay/smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let first = "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody";
    let verdict = requests(format!("{first}XY{smuggled}"));
    let ends = vec![first.len(), first.len() + 2 + smuggled.len()];
    assert_eq!(verdict.ends, ends, "XYGET is a method");
    let verdict = requests(format!("{first}\r\n\r\n{smuggled}"));
    assert_eq!(verdict.ends, [first.len()]);
    assert_eq!(verdict.violation, Some(Violation::EmptyLines));
    let verdict = requests(format!("{first}0\r\n\r\n{smuggled}"));
    assert_eq!(verdict.ends, [first.len()]);
    assert_eq!(verdict.violation, Some(Violation::NoVersion));
}

#[test]
fn answers_of_every_framing_are_complete_where_they_end() {
    for (method, answer) in [
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
        ("GET", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
        ("GET", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"),
        ("GET", "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n"),
        (
            "GET",
            "HTTP/1.1 999 a b\r\nContent-Length: 1,1\r\nContent-Length: 1 , 1\r\n\r\na",
        ),
        (
            "GET",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nA: b\r\n\r\n",
        ),
        (
            "GET",
            "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
        ),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        ),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\n\r\n"),
        (
            "POST",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n\
             Content-Length: 1\r\n\r\na",
        ),
    ] {
        assert_eq!(
            answers(&[method], answer),
            complete(answer.len()),
            "{answer:?}"
        );
    }
}

#[test]
fn an_answer_without_a_length_ends_with_its_connection() {
    let answer = "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\nall of it";
    let verdict = answers(&["GET"], answer);
    assert_eq!((verdict.passed, verdict.ends), (answer.len(), vec![]));
    let mut guard = AnswerGuard::new(LIMITS);
    assert!(guard.may_end(), "nothing is expected");
    guard.expect_answer(false);
    assert!(!guard.may_end());
    guard.inspect(answer.as_bytes()).expect("well-formed");
    assert!(guard.may_end());
    guard.expect_answer(false);
    assert_eq!(guard.violation(), Some(Violation::Unasked), "it still runs");
}

#[test]
fn what_comes_unasked_is_never_an_answer() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na";
    assert_eq!(answers(&[], answer), broken(0, Violation::Unasked));

    let verdict = answers(&["GET"], format!("{answer}{answer}"));
    assert_eq!(verdict.ends, [answer.len()]);
    assert_eq!(verdict.violation, Some(Violation::Unasked));

    // The next request does not make surplus bytes its answer.
    let mut guard = AnswerGuard::new(LIMITS);
    guard.expect_answer(false);
    let both = format!("{answer}{answer}");
    let passed = guard.inspect(both.as_bytes()).expect("the first is asked");
    assert_eq!((passed.bytes, passed.is_complete), (answer.len(), true));
    guard.expect_answer(false);
    assert_eq!(guard.inspect(answer.as_bytes()), Err(Violation::Unasked));
}

#[test]
fn one_answer_follows_the_other() {
    let mut guard = AnswerGuard::new(LIMITS);
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        guard.expect_answer(false);
        let passed = guard.inspect(answer.as_bytes()).expect("well-formed");
        assert_eq!((passed.bytes, passed.is_complete), (answer.len(), true));
    }
    assert_eq!(guard.messages(), 3);
}

#[test]
fn refuses_what_is_no_answer() {
    use Violation::*;
    for (bytes, violation) in [
        ("SSH-2.0-OpenSSH_9.2\r\n", StatusLine),
        ("\u{15}\u{3}\u{3}", StatusLine),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", EmptyLines),
        ("\nHTTP/1.1 200 OK\r\n\r\n", BareLineFeed),
        (" HTTP/1.1 200 OK\r\n\r\n", StatusLine),
        ("<html>", StatusLine),
        ("HTTP/2.0 200 OK\r\n\r\n", Version),
        ("HTTP/1.2 200 OK\r\n\r\n", Version),
        ("HTTP/1.10 200 OK\r\n\r\n", StatusLine),
        ("HTTP/1.1  200 OK\r\n\r\n", StatusLine),
        ("HTTP/1.1 20 OK\r\n\r\n", StatusLine),
        ("HTTP/1.1 2000 OK\r\n\r\n", StatusLine),
        ("HTTP/1.1 099 OK\r\n\r\n", StatusLine),
        ("HTTP/1.1 000 OK\r\n\r\n", StatusLine),
        ("HTTP/1.1 -20 OK\r\n\r\n", StatusLine),
        ("HTTP/1.1 200OK\r\n\r\n", StatusLine),
        ("HTTP/1.1\r\n\r\n", StatusLine),
        (
            "HTTP/1.1 101 Switching\r\nUpgrade: a\r\n\r\n",
            SwitchingProtocols,
        ),
        ("HTTP/1.1 200 OK\n\n", BareLineFeed),
        ("HTTP/1.1 200 O\rK\r\n\r\n", BareCarriageReturn),
        ("HTTP/1.1 200 OK\r\n A: b\r\n\r\n", LeadingWhitespace),
        ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", Folded),
        (
            "HTTP/1.1 200 OK\r\nContent-Length : 1\r\n\r\na",
            SpaceBeforeColon,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\na",
            ContentLengthConflict,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1,\r\n\r\na",
            ContentLength,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na",
            ContentLength,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            TwoFramings,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            ChunkedNotLast,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            UnknownCoding,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
            RepeatedCoding,
        ),
        (
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            CodingInOldVersion,
        ),
    ] {
        assert_eq!(answers(&["GET"], bytes), broken(0, violation), "{bytes:?}");
    }
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let verdict = answers(&["GET"], format!("{head}5\nhello\r\n0\r\n\r\n"));
    assert_eq!(verdict, broken(head.len() + 1, BareLineFeed));
}

#[test]
fn bounds_all_heads_of_an_answer_together() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\n";
    let last = "HTTP/1.1 204 No Content\r\n\r\n";
    let most = (LIMITS.max_bytes - last.len()) / interim.len();
    let answer = |count| format!("{}{last}", interim.repeat(count));
    assert_eq!(
        answers(&["GET"], answer(most)),
        complete(answer(most).len())
    );
    let verdict = answers(&["GET"], answer(most + 1));
    assert_eq!(verdict.violation, Some(Violation::HeadTooLong));
    let line = format!("HTTP/1.1 200 {}", "a".repeat(LIMITS.max_bytes));
    assert_eq!(answers(&["GET"], line), broken(0, Violation::HeadTooLong));
}

#[test]
fn a_guard_is_small() {
    assert!(
        size_of::<RequestGuard>() <= 112,
        "{}",
        size_of::<RequestGuard>()
    );
    assert!(
        size_of::<AnswerGuard>() <= 128,
        "{}",
        size_of::<AnswerGuard>()
    );
}
