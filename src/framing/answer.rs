//! The answers of one upstream connection.

use super::body::{Body, State};
use super::head::{Announced, Head, HeadLimits, Line, Lists};
use super::violation::Violation;
use super::{Framing, Passed};

/// Every answer begins like this.
const START: &[u8] = b"HTTP/1.";

/// Watches the bytes that come back on one upstream connection, answer after answer.
///
/// [`Self::expect_answer`] is called before each request is written. Bytes are shown to
/// [`Self::inspect`] in the order they come; what it does not pass is shown again, with what came
/// after it. Whatever comes unasked or behind a complete answer breaks the connection for good,
/// even if the next request was written in between.
#[derive(Debug)]
pub struct AnswerGuard {
    limits: HeadLimits,
    stage: Stage,
    /// What the final head of the last answer says of its body.
    framing: Framing,
    /// Final heads that have passed.
    messages: u64,
}

#[derive(Debug)]
enum Stage {
    /// No request is outstanding.
    Idle,
    Head(Reading),
    Body(Body),
    Broken(Violation),
}

/// A head, as far as it has come.
#[derive(Debug)]
struct Reading {
    head: Head,
    /// Whether the request was a HEAD.
    is_head: bool,
    /// What the 1xx heads before this one took of the limit, in bytes.
    interim_bytes: usize,
    status: Status,
}

/// What the status line tells of the framing.
#[derive(Clone, Copy, Debug, Default)]
struct Status {
    code: u16,
    is_old_version: bool,
}

impl AnswerGuard {
    /// For a connection on which no request was sent yet; `limits.max_bytes` is for all heads up
    /// to the final one together.
    pub fn new(limits: HeadLimits) -> Self {
        Self {
            limits,
            stage: Stage::Idle,
            framing: Framing::Length(0),
            messages: 0,
        }
    }

    /// Says that a request is about to be written, and whether its method is HEAD.
    ///
    /// An answer that is still running then makes the framing doubtful, and breaks it.
    pub fn expect_answer(&mut self, is_head: bool) {
        self.stage = match self.stage {
            Stage::Idle => Stage::Head(Reading::new(is_head, 0)),
            Stage::Broken(violation) => Stage::Broken(violation),
            Stage::Head(_) | Stage::Body(_) => Stage::Broken(Violation::Unasked),
        };
    }

    /// Looks at the bytes that have come and were not passed on yet.
    ///
    /// While a head is incomplete nothing passes, and the caller keeps the bytes. Bytes in front
    /// of a violation in a body, and a complete answer in front of surplus bytes, still pass; the
    /// violation is told at the next call.
    ///
    /// # Errors
    /// What is wrong with the answer; from then on nothing passes.
    pub fn inspect(&mut self, bytes: &[u8]) -> Result<Passed, Violation> {
        let mut passed = 0;
        let mut is_complete = false;
        while let Stage::Head(reading) = &mut self.stage {
            let rest = bytes.get(passed..).unwrap_or_default();
            match reading.read(rest, self.limits) {
                Ok(Ended::Not) => {
                    return Ok(Passed {
                        bytes: passed,
                        is_complete: false,
                    });
                }
                Ok(Ended::Interim(end)) => {
                    passed += end;
                    let interim_bytes = reading.interim_bytes + end;
                    self.stage = Stage::Head(Reading::new(reading.is_head, interim_bytes));
                }
                Ok(Ended::Final(end, framing)) => {
                    passed += end;
                    self.messages += 1;
                    self.framing = framing;
                    self.stage = Stage::Body(Body::new(framing, self.limits.max_fields));
                }
                Err(violation) => self.stage = Stage::Broken(violation),
            }
        }
        if let Stage::Body(body) = &mut self.stage {
            let progress = body.read(bytes.get(passed..).unwrap_or_default());
            passed += progress.bytes;
            match progress.state {
                Ok(State::Incomplete) => {}
                Ok(State::Complete) => {
                    is_complete = true;
                    self.stage = Stage::Idle;
                }
                Err(violation) => self.stage = Stage::Broken(violation),
            }
        }
        if matches!(self.stage, Stage::Idle) && passed < bytes.len() {
            self.stage = Stage::Broken(Violation::Unasked);
        }
        match &self.stage {
            Stage::Broken(violation) if passed == 0 => Err(*violation),
            _ => Ok(Passed {
                bytes: passed,
                is_complete,
            }),
        }
    }

    /// Whether an answer is complete if the connection ends now, or none was expected.
    pub fn may_end(&self) -> bool {
        matches!(self.stage, Stage::Idle | Stage::Body(Body::UntilEnd))
    }

    /// What broke it, if anything did.
    pub fn violation(&self) -> Option<Violation> {
        match self.stage {
            Stage::Broken(violation) => Some(violation),
            _ => None,
        }
    }

    /// How the body of the answer is framed whose final head has passed last.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// How many final heads have passed.
    pub fn messages(&self) -> u64 {
        self.messages
    }
}

/// How far a head has come.
enum Ended {
    Not,
    /// A 1xx answer of this length; another head follows.
    Interim(usize),
    Final(usize, Framing),
}

impl Reading {
    fn new(is_head: bool, interim_bytes: usize) -> Self {
        Self {
            head: Head::new(),
            is_head,
            interim_bytes,
            status: Status::default(),
        }
    }

    fn read(&mut self, bytes: &[u8], limits: HeadLimits) -> Result<Ended, Violation> {
        if !bytes.starts_with(START) {
            check_start(bytes)?;
        }
        let limits = HeadLimits {
            max_bytes: limits.max_bytes.saturating_sub(self.interim_bytes),
            ..limits
        };
        loop {
            match self.head.read(bytes, limits, Lists::Folded) {
                Ok(Line::Start(line)) => self.status = status_of(line)?,
                Ok(Line::End(end)) => return self.end(end),
                Ok(Line::Incomplete) => return Ok(Ended::Not),
                // There is no request line.
                Err(Violation::RequestLineTooLong) => return Err(Violation::HeadTooLong),
                Err(violation) => return Err(violation),
            }
        }
    }

    /// # Source
    /// RFC 9112 section 6.3.
    fn end(&self, end: usize) -> Result<Ended, Violation> {
        let announced = self.head.announced(self.status.is_old_version)?;
        if self.status.code == 101 {
            return Err(Violation::SwitchingProtocols);
        }
        if self.status.code < 200 {
            return Ok(Ended::Interim(end));
        }
        let framing = match announced {
            _ if self.is_head || matches!(self.status.code, 204 | 304) => Framing::Length(0),
            Announced::Nothing => Framing::UntilEnd,
            Announced::Length(length) => Framing::Length(length),
            Announced::Chunked => Framing::Chunked,
        };
        Ok(Ended::Final(end, framing))
    }
}

/// Reads a status line; what its reason phrase may hold is hyper's to judge.
///
/// # Source
/// RFC 9112 section 4.
fn status_of(line: &[u8]) -> Result<Status, Violation> {
    let (is_old_version, rest) = match line.split_first_chunk::<9>() {
        Some((b"HTTP/1.1 ", rest)) => (false, rest),
        Some((b"HTTP/1.0 ", rest)) => (true, rest),
        _ => match line.get(START.len()..) {
            Some([minor, b' ', ..]) if minor.is_ascii_digit() => return Err(Violation::Version),
            _ => return Err(Violation::StatusLine),
        },
    };
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u16::from(byte - b'0'));
    let code = match rest {
        [a, b, c] | [a, b, c, b' ', ..] => match (digit(a), digit(b), digit(c)) {
            (Some(a), Some(b), Some(c)) => a * 100 + b * 10 + c,
            _ => return Err(Violation::StatusLine),
        },
        _ => return Err(Violation::StatusLine),
    };
    if code < 100 {
        return Err(Violation::StatusLine);
    }
    Ok(Status {
        code,
        is_old_version,
    })
}

/// Refuses what cannot become an answer, such as an SSH banner, at its first wrong byte.
#[cold]
fn check_start(bytes: &[u8]) -> Result<(), Violation> {
    let wrong = bytes
        .iter()
        .zip(START)
        .position(|(byte, start)| byte != start);
    let Some(wrong) = wrong else {
        return Ok(());
    };
    Err(match bytes.get(wrong) {
        Some(b'\n') => Violation::BareLineFeed,
        Some(b'\r') if wrong == 0 => Violation::EmptyLines,
        Some(major) if wrong == 5 && major.is_ascii_digit() => Violation::Version,
        _ => Violation::StatusLine,
    })
}
