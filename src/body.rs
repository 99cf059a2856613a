//! Request bodies: held whole before anything leaves, or streamed above a size.
//!
//! For: turning a client's body into one of two kinds. A held body can be sent with
//! `Content-Length`, and a client that vanishes before it is whole has sent nothing; a streamed
//! one is passed on as it comes, under a cap and a deadline, and is never sent twice. Never does:
//! decode, inspect or change bytes; trailers are dropped. Called by: `proxy` (holding) and hyper
//! (polling, by way of `upstream`). Start reading at [`hold`].

mod held;

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, timeout_at};

pub use held::{Held, HeldBytes};

/// How much of a request body is accepted, held, and waited for.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Bodies up to this many bytes are held whole (`upstream.hold_body`).
    pub hold_bytes: usize,
    /// Longer bodies are refused (`max_body_bytes` of the listener).
    pub max_bytes: u64,
    /// The whole body must have arrived this long after its head (`body_timeout`).
    pub timeout: Duration,
}

/// Why a request body could not be taken; always the client's side at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Announced or actual length above [`BodyLimits::max_bytes`].
    #[error("the request body is longer than the listener's max_body_bytes")]
    TooLarge,
    /// Not whole inside [`BodyLimits::timeout`].
    #[error("the request body did not arrive within the listener's body_timeout")]
    Timeout,
    /// The connection ended, or the framing broke, before the body was whole.
    #[error("the request body ended before it was complete")]
    Incomplete,
}

/// The most that [`hold`] will keep of a body, as far as its announced length tells: the room that
/// has to be there before it is called.
pub fn most_held(body: &Incoming, hold_bytes: usize) -> u64 {
    let hold_bytes = hold_bytes as u64;
    match body.size_hint().exact() {
        Some(length) if length > hold_bytes => 0,
        Some(length) => length,
        // However long it becomes, up to here it is held.
        None => hold_bytes,
    }
}

/// Receives the body whole if it is small enough, else gets it ready to be streamed.
///
/// The first poll makes hyper answer `100 Continue`, so nothing may call this before the request
/// is otherwise admitted.
///
/// # Errors
/// See [`BodyError`]; nothing has been sent anywhere then.
///
/// # Cancel safety
/// Dropping the future loses the body, as it must: the client is gone.
pub async fn hold(mut body: Incoming, limits: BodyLimits) -> Result<RequestBody, BodyError> {
    if body.is_end_stream() {
        return Ok(RequestBody::held(Bytes::new()));
    }
    let length = body.size_hint().exact();
    if length.is_some_and(|length| length > limits.max_bytes) {
        return Err(BodyError::TooLarge);
    }
    let deadline = Instant::now() + limits.timeout;
    if length.is_some_and(|length| length > limits.hold_bytes as u64) {
        return Ok(RequestBody::streamed(
            Bytes::new(),
            body,
            length,
            deadline,
            limits,
        ));
    }
    let mut start = Start::default();
    loop {
        match timeout_at(deadline, body.frame()).await {
            Err(_) => return Err(BodyError::Timeout),
            Ok(Some(Err(_))) => return Err(BodyError::Incomplete),
            Ok(None) => return Ok(RequestBody::held(start.into_bytes())),
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    start.push(data);
                }
            }
        }
        if start.len() as u64 > limits.max_bytes {
            return Err(BodyError::TooLarge);
        }
        if start.len() > limits.hold_bytes {
            let start = start.into_bytes();
            return Ok(RequestBody::streamed(start, body, None, deadline, limits));
        }
        if length == Some(start.len() as u64) {
            return Ok(RequestBody::held(start.into_bytes()));
        }
    }
}

/// How long the rest of an unwanted body is waited for, so that its connection can live on.
const DISCARD_PATIENCE: Duration = Duration::from_millis(50);

/// Receives a body that nobody wants, if it is at most this long and comes at once; whether all of
/// it came.
pub async fn discard(mut body: Incoming, most_bytes: usize) -> bool {
    let is_too_long = |bytes: u64| bytes > most_bytes as u64;
    if body.size_hint().exact().is_some_and(is_too_long) {
        return false;
    }
    let deadline = Instant::now() + DISCARD_PATIENCE;
    let mut received_bytes = 0;
    while !body.is_end_stream() {
        match timeout_at(deadline, body.frame()).await {
            Ok(None) => break,
            Ok(Some(Ok(frame))) => {
                received_bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
                if is_too_long(received_bytes) {
                    return false;
                }
            }
            Ok(Some(Err(_))) | Err(_) => return false,
        }
    }
    true
}

/// The beginning of a body; one chunk, the usual case, is kept without a copy.
#[derive(Default)]
pub(crate) struct Start {
    first: Bytes,
    joined: BytesMut,
}

impl Start {
    /// Bytes received so far.
    pub(crate) fn len(&self) -> usize {
        self.first.len() + self.joined.len()
    }

    /// Adds the next chunk.
    pub(crate) fn push(&mut self, data: Bytes) {
        if self.len() == 0 {
            self.first = data;
            return;
        }
        if self.joined.is_empty() {
            self.joined.extend_from_slice(&self.first);
            self.first = Bytes::new();
        }
        self.joined.extend_from_slice(&data);
    }

    /// Everything received, in one piece.
    pub(crate) fn into_bytes(self) -> Bytes {
        if self.joined.is_empty() {
            self.first
        } else {
            self.joined.freeze()
        }
    }
}

/// A request body on its way to MODEN.
#[derive(Debug)]
pub struct RequestBody(Kind);

#[derive(Debug)]
enum Kind {
    /// Whole, and not yet polled by hyper (`None` afterwards).
    Held(Option<Bytes>),
    Streamed(Box<StreamedBody>),
}

impl RequestBody {
    /// A body that is here in full; it may be empty.
    pub fn held(bytes: Bytes) -> Self {
        Self(Kind::Held(Some(bytes)))
    }

    fn streamed(
        start: Bytes,
        rest: Incoming,
        length: Option<u64>,
        deadline: Instant,
        limits: BodyLimits,
    ) -> Self {
        Self(Kind::Streamed(Box::new(StreamedBody {
            start,
            rest,
            length,
            taken_bytes: 0,
            max_bytes: limits.max_bytes,
            deadline: Box::pin(tokio::time::sleep_until(deadline)),
            progress: Arc::new(StreamProgress::default()),
        })))
    }

    /// Whether it is here as a whole.
    pub fn is_held(&self) -> bool {
        matches!(self.0, Kind::Held(_))
    }

    /// The length to announce upstream; `None` means chunked.
    pub fn length(&self) -> Option<u64> {
        match &self.0 {
            Kind::Held(bytes) => Some(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Kind::Streamed(streamed) => streamed.length,
        }
    }

    /// How much of it is in memory before hyper polls it.
    pub fn held_bytes(&self) -> u64 {
        match &self.0 {
            Kind::Held(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Kind::Streamed(streamed) => streamed.start.len() as u64,
        }
    }

    /// How a streamed body is getting on; `None` for a held one, which is always whole.
    pub fn progress(&self) -> Option<Arc<StreamProgress>> {
        match &self.0 {
            Kind::Held(_) => None,
            Kind::Streamed(streamed) => Some(Arc::clone(&streamed.progress)),
        }
    }
}

/// What the rest of the gateway may know of a streamed body while hyper owns it.
#[derive(Debug, Default)]
pub struct StreamProgress {
    received_bytes: AtomicU64,
    is_whole: AtomicBool,
    ended: Notify,
    fault: OnceLock<BodyError>,
}

impl StreamProgress {
    /// Bytes received from the client so far.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes.load(Ordering::Relaxed)
    }

    /// Why the client's body broke off, if it did.
    pub fn fault(&self) -> Option<BodyError> {
        self.fault.get().copied()
    }

    /// Whether the last byte has been handed on.
    pub fn is_whole(&self) -> bool {
        self.is_whole.load(Ordering::Acquire)
    }

    /// Waits until the body is whole; pends for ever if it breaks off.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn whole(&self) {
        while !self.is_whole() {
            self.ended.notified().await;
        }
    }

    fn finish(&self) {
        self.is_whole.store(true, Ordering::Release);
        self.ended.notify_one();
    }
}

/// A body above the hold size, passed on chunk by chunk with backpressure.
#[derive(Debug)]
struct StreamedBody {
    /// What was received before the body proved too long to hold.
    start: Bytes,
    rest: Incoming,
    length: Option<u64>,
    taken_bytes: u64,
    max_bytes: u64,
    deadline: Pin<Box<Sleep>>,
    progress: Arc<StreamProgress>,
}

impl StreamedBody {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if !self.start.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.start))));
        }
        loop {
            match Pin::new(&mut self.rest).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Poll::Ready(Some(Err(_))) => {
                    return Poll::Ready(Some(Err(BodyError::Incomplete)));
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    ready!(self.deadline.as_mut().poll(context));
                    return Poll::Ready(Some(Err(BodyError::Timeout)));
                }
            }
        }
    }

    fn poll_counted(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyError>>> {
        let next = match ready!(self.poll_next(context)) {
            Some(Ok(data)) => {
                self.taken_bytes += data.len() as u64;
                self.progress
                    .received_bytes
                    .store(self.taken_bytes, Ordering::Relaxed);
                if self.taken_bytes > self.max_bytes {
                    Some(Err(BodyError::TooLarge))
                } else {
                    Some(Ok(data))
                }
            }
            other => other,
        };
        match &next {
            None => self.progress.finish(),
            // hyper does not ask again once a body of known length has given its last byte.
            Some(Ok(_)) if self.length == Some(self.taken_bytes) => self.progress.finish(),
            Some(Err(fault)) => {
                // The first fault is the cause; later ones only follow from it.
                let _ = self.progress.fault.set(*fault);
            }
            Some(Ok(_)) => {}
        }
        Poll::Ready(next)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.get_mut().0 {
            Kind::Held(bytes) => Poll::Ready(
                bytes
                    .take()
                    .filter(|bytes| !bytes.is_empty())
                    .map(|bytes| Ok(Frame::data(bytes))),
            ),
            Kind::Streamed(streamed) => streamed
                .poll_counted(context)
                .map(|next| next.map(|data| data.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Held(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Kind::Streamed(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Held(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Kind::Streamed(streamed) => match streamed.length {
                Some(length) => SizeHint::with_exact(length.saturating_sub(streamed.taken_bytes)),
                None => SizeHint::default(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_a_single_chunk_without_a_copy() {
        let chunk = Bytes::from_static(b"one piece");
        let mut start = Start::default();
        start.push(chunk.clone());
        assert_eq!(start.into_bytes().as_ptr(), chunk.as_ptr());
    }

    #[test]
    fn joins_several_chunks_in_order() {
        let mut start = Start::default();
        for chunk in ["a", "", "bc", "d"] {
            start.push(Bytes::from_static(chunk.as_bytes()));
        }
        assert_eq!(start.len(), 4);
        assert_eq!(start.into_bytes(), "abcd");
    }

    #[tokio::test]
    async fn a_held_body_is_polled_once_and_announces_its_length() {
        let mut body = RequestBody::held(Bytes::from_static(b"{}"));
        assert_eq!(body.length(), Some(2));
        let frame = body.frame().await.expect("a frame").expect("no fault");
        assert_eq!(frame.into_data().expect("data"), "{}");
        assert!(body.is_end_stream());
        assert!(body.frame().await.is_none());
    }
}
