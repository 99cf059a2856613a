//! The requests of one client connection.

use super::body::{Body, State};
use super::head::{Announced, Head, HeadLimits, Line, Lists};
use super::violation::Violation;
use super::{Framing, Passed};

/// Watches the bytes that one client sends, message after message.
///
/// Bytes are shown to [`Self::inspect`] in the order they come. What it does not pass is shown
/// again, with what came after it: a head passes whole or not at all. When a message is complete
/// nothing more passes before [`Self::begin_next`], so that one message never runs into the next.
#[derive(Debug)]
pub struct RequestGuard {
    limits: HeadLimits,
    stage: Stage,
    /// What the head of the running message says of its body.
    framing: Framing,
    /// Heads that have passed.
    messages: u64,
    /// Whether the method of the running message is HEAD.
    is_head: bool,
}

#[derive(Debug)]
enum Stage {
    Head(Reading),
    Body(Body),
    /// The message is complete, and the next has not been begun.
    Complete,
    Broken {
        violation: Violation,
        /// Whether the head of the message had passed before.
        is_in_body: bool,
    },
}

/// A head, as far as it has come.
#[derive(Debug)]
struct Reading {
    head: Head,
    line: RequestLine,
    /// One empty line before the request is not minded.
    has_empty_line: bool,
    /// Whether there is more than such a line.
    has_begun: bool,
}

/// What the rest has to know of a request line.
#[derive(Clone, Copy, Debug, Default)]
struct RequestLine {
    is_old_version: bool,
    is_head: bool,
}

impl Reading {
    fn new() -> Self {
        Self {
            head: Head::new(),
            line: RequestLine::default(),
            has_empty_line: false,
            has_begun: false,
        }
    }
}

impl RequestGuard {
    /// For a connection on which nothing has come yet.
    pub fn new(limits: HeadLimits) -> Self {
        Self {
            limits,
            stage: Stage::Head(Reading::new()),
            framing: Framing::Length(0),
            messages: 0,
            is_head: false,
        }
    }

    /// Looks at the bytes that have come and were not passed on yet.
    ///
    /// While a head is incomplete nothing passes, and the caller keeps the bytes; there are never
    /// more of them than the limit for heads and what it shows at a time. Bytes in front of a
    /// violation in a body still pass; the violation is told at the next call.
    ///
    /// # Errors
    /// What is wrong with the framing; from then on nothing passes.
    pub fn inspect(&mut self, bytes: &[u8]) -> Result<Passed, Violation> {
        let mut passed = 0;
        if let Stage::Head(reading) = &mut self.stage {
            let read = reading.read(bytes, self.limits);
            self.is_head = reading.line.is_head;
            match read {
                Ok(None) => {
                    return Ok(Passed {
                        bytes: 0,
                        is_complete: false,
                    });
                }
                Ok(Some((end, framing))) => {
                    passed = end;
                    self.messages += 1;
                    self.framing = framing;
                    self.stage = Stage::Body(Body::new(framing, self.limits.max_fields));
                }
                Err(violation) => {
                    self.stage = Stage::Broken {
                        violation,
                        is_in_body: false,
                    };
                }
            }
        }
        if let Stage::Body(body) = &mut self.stage {
            let progress = body.read(bytes.get(passed..).unwrap_or_default());
            passed += progress.bytes;
            match progress.state {
                Ok(State::Incomplete) => {}
                Ok(State::Complete) => self.stage = Stage::Complete,
                Err(violation) => {
                    self.stage = Stage::Broken {
                        violation,
                        is_in_body: true,
                    };
                }
            }
        }
        match &self.stage {
            Stage::Broken { violation, .. } if passed == 0 => Err(*violation),
            stage => Ok(Passed {
                bytes: passed,
                is_complete: matches!(stage, Stage::Complete),
            }),
        }
    }

    /// Lets the next message begin, once the running one is complete and answered.
    pub fn begin_next(&mut self) {
        if self.is_complete() {
            self.stage = Stage::Head(Reading::new());
        }
    }

    /// Whether the running message has ended, and the next must wait.
    pub fn is_complete(&self) -> bool {
        matches!(self.stage, Stage::Complete)
    }

    /// Whether a head has begun that is not complete; an empty line is no beginning.
    pub fn is_within_head(&self) -> bool {
        matches!(&self.stage, Stage::Head(reading) if reading.has_begun)
    }

    /// Whether it broke before the head of a message had passed, so that nobody has begun to answer.
    pub fn is_broken_in_head(&self) -> bool {
        matches!(
            self.stage,
            Stage::Broken {
                is_in_body: false,
                ..
            }
        )
    }

    /// How the body of the message is framed whose head has passed last.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Whether the method of the running message is HEAD, as far as it has come.
    pub fn is_head(&self) -> bool {
        self.is_head
    }

    /// How many heads have passed.
    pub fn messages(&self) -> u64 {
        self.messages
    }
}

impl Reading {
    /// Where the head ends and how its body is framed, once it is complete.
    fn read(
        &mut self,
        bytes: &[u8],
        limits: HeadLimits,
    ) -> Result<Option<(usize, Framing)>, Violation> {
        loop {
            self.look_at_start(bytes)?;
            match self.head.read(bytes, limits, Lists::Refused)? {
                // RFC 9112 section 2.2: some clients send one behind the body of a POST.
                Line::Start([]) if self.has_empty_line => return Err(Violation::EmptyLines),
                Line::Start([]) => {
                    self.has_empty_line = true;
                    self.head.await_start_line();
                }
                Line::Start(line) => self.line = request_line(line)?,
                Line::End(end) => {
                    let framing = match self.head.announced(self.line.is_old_version)? {
                        Announced::Nothing => Framing::Length(0),
                        Announced::Length(length) => Framing::Length(length),
                        Announced::Chunked => Framing::Chunked,
                    };
                    return Ok(Some((end, framing)));
                }
                Line::Incomplete => return Ok(None),
            }
        }
    }

    /// What cannot become a request is refused at once, such as a TLS handshake.
    fn look_at_start(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        if self.has_begun {
            return Ok(());
        }
        match bytes.get(self.head.line_start()) {
            // The beginning of an empty line, as far as can be seen.
            None | Some(b'\r' | b'\n') => Ok(()),
            Some(byte) if !byte.is_ascii_graphic() => Err(Violation::RequestLine),
            Some(_) => {
                self.has_begun = true;
                Ok(())
            }
        }
    }
}

/// Checks the form of a request line: one space before and behind the target, which has no
/// fragment, and a version that is spoken here. What else a target may hold is hyper's to judge.
///
/// # Source
/// RFC 9112 sections 2.3 and 3.
fn request_line(line: &[u8]) -> Result<RequestLine, Violation> {
    let (rest, is_old_version) = match line.split_last_chunk::<9>() {
        Some((rest, b" HTTP/1.1")) => (rest, false),
        Some((rest, b" HTTP/1.0")) => (rest, true),
        _ => return Err(without_version(line)),
    };
    // Both are short; a search that is fast for long ones would not pay.
    let mut words = rest.splitn(2, |byte| *byte == b' ');
    let (method, target) = (words.next(), words.next().unwrap_or_default());
    if method.is_none_or(<[u8]>::is_empty) || target.is_empty() {
        return Err(Violation::RequestLine);
    }
    match target.iter().find(|byte| matches!(byte, b' ' | b'#')) {
        None => Ok(RequestLine {
            is_old_version,
            is_head: method == Some(b"HEAD"),
        }),
        Some(b'#') => Err(Violation::Fragment),
        Some(_) => Err(Violation::RequestLine),
    }
}

/// What is wrong with a request line that does not end with a version of ours.
#[cold]
fn without_version(line: &[u8]) -> Violation {
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    match (method, target, version, words.next()) {
        (Some(_), None | Some([_, ..]), None, None) => Violation::NoVersion,
        (_, _, Some(version), None) if is_version(version) => Violation::Version,
        _ => Violation::RequestLine,
    }
}

/// `HTTP/` and one or two numbers of one digit.
fn is_version(word: &[u8]) -> bool {
    match word.strip_prefix(b"HTTP/") {
        Some([major]) => major.is_ascii_digit(),
        Some([major, b'.', minor]) => major.is_ascii_digit() && minor.is_ascii_digit(),
        _ => false,
    }
}
