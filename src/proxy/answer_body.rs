//! The body of a reply: held, or an answer streamed under the eyes of its record.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio_util::task::TaskTracker;

use super::record::Record;
use crate::body::Held;
use crate::domain::Outcome;
use crate::upstream::{AnswerStream, UpstreamError};

/// What goes back to the client.
#[derive(Debug)]
pub struct ReplyBody(Kind);

#[derive(Debug)]
enum Kind {
    Held {
        /// Whole; `None` once hyper has taken it.
        bytes: Option<Bytes>,
        /// Counts an answer of MODEN's until hyper drops it.
        _held: Option<Held>,
    },
    Streamed(Box<StreamedReply>),
}

impl ReplyBody {
    /// A reply that is here in full.
    pub(super) fn held(bytes: Bytes) -> Self {
        Self(Kind::Held {
            bytes: Some(bytes),
            _held: None,
        })
    }

    /// An answer of MODEN's that is here in full.
    pub(super) fn counted(bytes: Bytes, held: Held) -> Self {
        Self(Kind::Held {
            bytes: Some(bytes),
            _held: Some(held),
        })
    }

    /// An answer that is passed on as it comes; `record` is written when it ends.
    pub(super) fn streamed(
        stream: Box<AnswerStream>,
        record: Record,
        exchanges: TaskTracker,
    ) -> Self {
        let passage = Some(Passage { stream, record });
        Self(Kind::Streamed(Box::new(StreamedReply {
            passage,
            exchanges,
        })))
    }
}

/// A long answer whose client is listening, or was.
#[derive(Debug)]
struct StreamedReply {
    /// Gone once the answer has ended, one way or the other.
    passage: Option<Passage>,
    exchanges: TaskTracker,
}

/// The answer and its record; they end together.
#[derive(Debug)]
struct Passage {
    stream: Box<AnswerStream>,
    record: Record,
}

impl Passage {
    /// The next chunk; at the end the record knows the outcome.
    fn poll_data(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, UpstreamError>>> {
        let polled = self.stream.poll_data(context);
        match &polled {
            Poll::Ready(None) => self.record.outcome = Outcome::Answered,
            Poll::Ready(Some(Err(error))) => self.record.outcome = error.outcome,
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        polled
    }

    /// Receives the rest for the record's sake alone.
    async fn finish(mut self) {
        let next = std::future::poll_fn(|context| self.poll_data(context));
        let mut next = std::pin::pin!(next);
        while let Some(Ok(_)) = next.as_mut().await {}
    }
}

impl Drop for StreamedReply {
    fn drop(&mut self) {
        // A client that leaves does not end the exchange; only MODEN's last byte, or a deadline,
        // says what became of it.
        if let Some(passage) = self.passage.take()
            && tokio::runtime::Handle::try_current().is_ok()
        {
            self.exchanges.spawn(passage.finish());
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = UpstreamError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        let reply = match &mut self.get_mut().0 {
            Kind::Held { bytes, .. } => {
                let bytes = bytes.take().filter(|bytes| !bytes.is_empty());
                return Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))));
            }
            Kind::Streamed(reply) => reply,
        };
        let Some(passage) = &mut reply.passage else {
            return Poll::Ready(None);
        };
        let polled = passage.poll_data(context);
        match &polled {
            Poll::Ready(Some(Ok(data))) => passage.record.reply_bytes += data.len() as u64,
            Poll::Ready(_) => reply.passage = None,
            Poll::Pending => {}
        }
        polled.map(|next| next.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Held { bytes, .. } => bytes.as_ref().is_none_or(Bytes::is_empty),
            // Asked before the last poll, this would cut off the record's view of the end.
            Kind::Streamed(reply) => reply.passage.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Held { bytes, .. } => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Kind::Streamed(reply) => reply
                .passage
                .as_ref()
                .and_then(|passage| passage.stream.length())
                .map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
