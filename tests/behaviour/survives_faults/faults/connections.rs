//! When an upstream speaks, and when it ends.

use std::time::Duration;

use super::{
    Asked, End, Fault, Moment, Seen, answer, chunked, fault, fine, invalid, late, reset, says,
    unreached, unread,
};
use crate::support::Conversation;
use crate::survives_faults::{GOOD, drip};

/// Every stage of an exchange, and both ways to end it.
pub(super) fn broken_off() -> Vec<Fault> {
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
        // Where nothing was written yet, the request goes to the next connection, which is good; a
        // reset may even come before the connection is set up.
        all.push(unread(
            format!("{verb} before it reads"),
            move |_| end,
            vec![reset(), fine(), unreached()],
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

pub(super) fn slow() -> Vec<Fault> {
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

pub(super) fn idle() -> Vec<Fault> {
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
pub(super) fn early() -> Vec<Fault> {
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
