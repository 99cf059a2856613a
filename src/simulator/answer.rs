//! What leaves the simulator: a proper answer, one that comes in pieces, or an abrupt end.

use std::convert::Infallible;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};
use serde::Serialize;
use serde_json::json;
use tokio::time::{Sleep, sleep};

/// What a large answer consists of, piece by piece.
static FILLER: [u8; 64 * 1024] = [b'x'; 64 * 1024];

/// One answer, still whole: status, at most one field of its own, and content.
pub(super) struct Answer {
    status: StatusCode,
    content_type: &'static str,
    field: Option<(HeaderName, HeaderValue)>,
    content: Bytes,
}

impl Answer {
    /// An answer with JSON content.
    pub(super) fn json(status: StatusCode, content: &impl Serialize) -> Self {
        let content = serde_json::to_vec(content).expect("own types have string keys only");
        Self {
            status,
            content_type: "application/json",
            field: None,
            content: content.into(),
        }
    }

    /// A failure in MODEN's form.
    ///
    /// # Source
    /// MODEN help page "Create payment", 2021-03-23: `{"status":"fail","code":…,"message":…}`.
    pub(super) fn fail(status: StatusCode, code: u32, message: &str) -> Self {
        let content = json!({ "status": "fail", "code": code, "message": message });
        Self::json(status, &content)
    }

    /// An answer without content.
    pub(super) fn empty(status: StatusCode) -> Self {
        Self {
            status,
            content_type: "application/json",
            field: None,
            content: Bytes::new(),
        }
    }

    /// The same answer with one more field; a second call replaces the first.
    pub(super) fn with(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.field = Some((name, value.into()));
        self
    }

    /// The status.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// The answer as it usually leaves.
    pub(super) fn into_response(mut self) -> Response<AnswerBody> {
        let content = mem::take(&mut self.content);
        self.respond(AnswerBody::Whole(content))
    }

    /// The answer with `pace` before each byte of its content; the head leaves at once.
    pub(super) fn into_drip(mut self, pace: Duration) -> Response<AnswerBody> {
        let rest = mem::take(&mut self.content);
        let pause = Box::pin(sleep(pace));
        self.respond(AnswerBody::Drip { rest, pace, pause })
    }

    /// The answer with its content replaced by this many bytes of filler.
    pub(super) fn into_large(mut self, length: u64) -> Response<AnswerBody> {
        self.content_type = "application/octet-stream";
        self.respond(AnswerBody::Large { remaining: length })
    }

    fn respond(self, body: AnswerBody) -> Response<AnswerBody> {
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.extend(self.field);
        response
    }

    /// The answer's head as bytes, announcing all of the content.
    fn head(&self) -> Vec<u8> {
        let mut head = format!(
            "HTTP/1.1 {}\r\n{CONTENT_TYPE}: {}\r\n{CONTENT_LENGTH}: {}\r\n",
            self.status,
            self.content_type,
            self.content.len(),
        )
        .into_bytes();
        if let Some((name, value)) = &self.field {
            head.extend_from_slice(name.as_str().as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        head
    }
}

/// How a connection ends when a fault takes it out of HTTP's hands.
///
/// It travels as the service's error: hyper writes nothing then, and `connection.rs` carries it
/// out on the bare stream, so that exactly these bytes leave and none else.
#[derive(Debug, thiserror::Error)]
#[error("the connection ends here, as a fault or a vanished peer demands")]
pub(super) struct Parting {
    /// The last bytes that the peer is to receive.
    pub(super) words: Bytes,
    /// Whether the connection is reset (TCP RST) instead of closed.
    pub(super) reset: bool,
}

impl Parting {
    /// Closes without a word.
    pub(super) fn close() -> Self {
        Self {
            words: Bytes::new(),
            reset: false,
        }
    }

    /// Resets without a word.
    pub(super) fn reset() -> Self {
        Self {
            words: Bytes::new(),
            reset: true,
        }
    }

    /// Sends the head and the first half of the content, then resets.
    pub(super) fn reset_during(answer: &Answer) -> Self {
        let half = answer.content.slice(..answer.content.len() / 2);
        Self {
            words: [answer.head(), half.to_vec()].concat().into(),
            reset: true,
        }
    }

    /// Sends the whole answer, then resets.
    pub(super) fn reset_after(answer: &Answer) -> Self {
        Self {
            words: [answer.head(), answer.content.to_vec()].concat().into(),
            reset: true,
        }
    }
}

/// The content of an answer on its way out; its length is always known beforehand.
pub(super) enum AnswerBody {
    /// In one piece.
    Whole(Bytes),
    /// One byte at a time.
    Drip {
        /// What has not left yet.
        rest: Bytes,
        /// The time before each byte.
        pace: Duration,
        /// The pause that runs now.
        pause: Pin<Box<Sleep>>,
    },
    /// Filler, made as it leaves.
    Large {
        /// How many bytes are still to come.
        remaining: u64,
    },
}

impl AnswerBody {
    fn remaining(&self) -> u64 {
        match self {
            Self::Whole(rest) | Self::Drip { rest, .. } => rest.len() as u64,
            Self::Large { remaining } => *remaining,
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.is_end_stream() {
            return Poll::Ready(None);
        }
        let piece = match self.get_mut() {
            Self::Whole(content) => mem::take(content),
            Self::Drip { rest, pace, pause } => {
                ready!(pause.as_mut().poll(context));
                *pause = Box::pin(sleep(*pace));
                rest.split_to(1)
            }
            Self::Large { remaining } => {
                let length =
                    usize::try_from(*remaining).map_or(FILLER.len(), |rest| rest.min(FILLER.len()));
                *remaining -= length as u64;
                Bytes::from_static(&FILLER).slice(..length)
            }
        };
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining())
    }
}
