//! What a connection is doing, seen from the bytes it sends and the service it calls.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::time::Instant;

/// What a connection is doing, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No byte of a next request has come.
    Idle,
    /// A head has begun and is not complete.
    Head,
    /// A request is being answered.
    Busy,
}

/// The phase of one connection, written where bytes and requests pass, read by its timer.
///
/// One number holds both parts, so that a reader never sees half of a change: the microseconds
/// since the connection was accepted, and the phase in the two lowest bits.
#[derive(Debug)]
pub(super) struct Watch {
    accepted: Instant,
    state: AtomicU64,
    /// Microseconds since `accepted` when the client stopped taking what we write; 0 when it does.
    deaf_since: AtomicU64,
    /// Whether a reply broke off: the connection must not end as if it had been whole.
    is_cut: AtomicBool,
}

impl Watch {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            accepted: Instant::now(),
            state: AtomicU64::new(0),
            deaf_since: AtomicU64::new(0),
            is_cut: AtomicBool::new(false),
        })
    }

    /// The phase, and how long it has lasted.
    pub(super) fn phase(&self) -> (Phase, Duration) {
        let state = self.state.load(Ordering::Relaxed);
        let phase = match state & 0b11 {
            0 => Phase::Idle,
            1 => Phase::Head,
            _ => Phase::Busy,
        };
        let since = self.accepted + Duration::from_micros(state >> 2);
        (phase, since.elapsed())
    }

    /// How long the client has not taken a byte of what is ready for it.
    pub(super) fn deaf_for(&self) -> Duration {
        match self.deaf_since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => (self.accepted + Duration::from_micros(since)).elapsed(),
        }
    }

    /// Whether there is no request, not even the beginning of one, and nothing left to write.
    pub(super) fn is_idle(&self) -> bool {
        self.phase().0 == Phase::Idle && self.deaf_since.load(Ordering::Relaxed) == 0
    }

    pub(super) fn wrote(&self, is_pending: bool) {
        let is_deaf = self.deaf_since.load(Ordering::Relaxed) != 0;
        if is_pending != is_deaf {
            let since = if is_pending { self.micros().max(1) } else { 0 };
            self.deaf_since.store(since, Ordering::Relaxed);
        }
    }

    fn micros(&self) -> u64 {
        // Two bits are spoken for; what is left lasts 146,000 years.
        u64::try_from(self.accepted.elapsed().as_micros()).unwrap_or(u64::MAX) & (u64::MAX >> 2)
    }

    fn enter(&self, phase: Phase) {
        let phase = match phase {
            Phase::Idle => 0,
            Phase::Head => 1,
            Phase::Busy => 2,
        };
        self.state
            .store(self.micros() << 2 | phase, Ordering::Relaxed);
    }

    pub(super) fn received(&self) {
        if self.state.load(Ordering::Relaxed) & 0b11 == 0 {
            self.enter(Phase::Head);
        }
    }

    /// A request is complete enough to be answered.
    pub(super) fn begin_request(&self) {
        self.enter(Phase::Busy);
    }

    fn end_request(&self) {
        self.enter(Phase::Idle);
    }
}

/// A client's stream that tells its [`Watch`] when a request begins.
///
/// After a reply that broke off it ends by `abort`, which resets the connection: to a client of
/// HTTP/1.0 an orderly end would say that the reply is complete.
pub(super) struct WatchedIo<T> {
    pub(super) io: T,
    pub(super) watch: Arc<Watch>,
    pub(super) abort: fn(&T),
}

impl<T> Drop for WatchedIo<T> {
    fn drop(&mut self) {
        if self.watch.is_cut.load(Ordering::Relaxed) {
            (self.abort)(&self.io);
        }
    }
}

impl<T: Read + Unpin> Read for WatchedIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_read(context, buffer);
        if polled.is_ready() {
            self.watch.received();
        }
        polled
    }
}

impl<T: Write + Unpin> Write for WatchedIo<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(context, bytes);
        self.watch.wrote(polled.is_pending());
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.watch.wrote(polled.is_pending());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(context);
        // TLS takes bytes before the client does; what counts is that they leave.
        self.watch.wrote(polled.is_pending());
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.watch.is_cut.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

/// A reply's body that tells its [`Watch`] when hyper is done with it.
pub(super) struct WatchedBody<B> {
    pub(super) body: B,
    pub(super) watch: Arc<Watch>,
}

impl<B> Drop for WatchedBody<B> {
    fn drop(&mut self) {
        self.watch.end_request();
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for WatchedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if matches!(polled, Poll::Ready(Some(Err(_)))) {
            self.watch.is_cut.store(true, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn follows_a_connection_through_a_request() {
        let watch = Watch::new();
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(watch.phase(), (Phase::Idle, Duration::from_secs(2)));
        assert!(watch.is_idle());
        watch.received();
        tokio::time::advance(Duration::from_secs(1)).await;
        watch.received();
        assert_eq!(watch.phase(), (Phase::Head, Duration::from_secs(1)));
        assert!(!watch.is_idle(), "a request has begun");
        watch.begin_request();
        watch.received();
        assert_eq!(watch.phase(), (Phase::Busy, Duration::ZERO));
        watch.end_request();
        assert_eq!(watch.phase(), (Phase::Idle, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn notices_a_client_that_takes_nothing() {
        let watch = Watch::new();
        watch.wrote(true);
        assert!(!watch.is_idle(), "a reply is not all taken");
        tokio::time::advance(Duration::from_secs(3)).await;
        watch.wrote(true);
        assert_eq!(
            watch.deaf_for().as_secs(),
            2,
            "counted from the first refusal, to a microsecond"
        );
        watch.wrote(false);
        assert_eq!(watch.deaf_for(), Duration::ZERO);
    }
}
