//! How long an answer is, and what stands where it should end.

use std::time::Duration;

use super::{
    Asked, End, Fault, LONG, STREAMED, answer, chunked, cut, fault, fine, invalid, passed, says,
};
use crate::support::Conversation;
use crate::survives_faults::{GOOD, drip};

pub(super) fn too_much() -> Vec<Fault> {
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

pub(super) fn lengths() -> Vec<Fault> {
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

pub(super) fn codings() -> Vec<Fault> {
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

pub(super) fn chunks() -> Vec<Fault> {
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

/// Answers that are passed on as they come: what breaks them must be seen.
pub(super) fn streamed() -> Vec<Fault> {
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
