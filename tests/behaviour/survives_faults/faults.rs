//! The table of faults: what the upstream does, and how the request must end.

mod bodies;
mod connections;
mod heads;

use crate::support::{Conversation, Cut, Message, payment};

/// A body that is streamed where [`STREAMED`] is set, and held else.
const LONG: usize = 4096;

/// Answers above this size are streamed.
const STREAMED: &str = "hold_answer = \"1KiB\"";

/// What an upstream does with its first connection.
type Script = Box<dyn Fn(&mut Conversation) -> End + Send + Sync>;

/// The whole table, in the order in which it is printed.
pub(super) fn all() -> Vec<Fault> {
    let parts = [
        connections::broken_off(),
        connections::slow(),
        connections::idle(),
        connections::early(),
        bodies::too_much(),
        bodies::lengths(),
        bodies::codings(),
        bodies::chunks(),
        heads::interim(),
        heads::large(),
        heads::heads(),
        heads::no_http(),
        heads::statuses(),
        bodies::streamed(),
    ];
    parts.into_iter().flatten().collect()
}

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
                if let Some(proxy_status) = proxy_status(&code, answer.outcome()) {
                    assert_eq!(answer.field("proxy-status"), proxy_status);
                }
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

/// What `Proxy-Status` says beside an error of the gateway's own.
fn proxy_status(code: &str, outcome: &str) -> Option<&'static str> {
    match (code, outcome) {
        ("upstream-reset", _) => Some("moden-gateway; error=connection_terminated"),
        ("upstream-timeout", _) => Some("moden-gateway; error=http_response_timeout"),
        ("upstream-invalid", "answered") => Some("moden-gateway; received-status=421"),
        ("upstream-invalid", _) => Some("moden-gateway; error=http_protocol_error"),
        _ => None,
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

fn unreached() -> Seen {
    Seen::new(502, "upstream-unreachable", "not-sent")
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
