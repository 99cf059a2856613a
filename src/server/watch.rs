//! What a connection is doing, seen from the bytes it sends and the service it calls.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use crate::framing::Framing;

/// What a connection is doing, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No byte of a next request has come.
    Idle,
    /// A head has begun and is not complete.
    Head,
    /// A request is being answered.
    Busy,
    /// hyper has the whole of the reply, and the socket does not yet.
    Answered,
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
    is_cut: AtomicBool,
    /// Heads that the guard has passed, and the length of the last one's body.
    passed_heads: AtomicU64,
    passed_body: AtomicU64,
    /// Requests that hyper has found.
    requests: AtomicU64,
}

/// The length of a body that comes in chunks; no counted one is as long.
const UNCOUNTED: u64 = u64::MAX;

impl Watch {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            accepted: Instant::now(),
            state: AtomicU64::new(0),
            deaf_since: AtomicU64::new(0),
            is_cut: AtomicBool::new(false),
            passed_heads: AtomicU64::new(0),
            passed_body: AtomicU64::new(0),
            requests: AtomicU64::new(0),
        })
    }

    /// The phase, and how long it has lasted.
    pub(super) fn phase(&self) -> (Phase, Duration) {
        let state = self.state.load(Ordering::Relaxed);
        let phase = match state & 0b11 {
            0 => Phase::Idle,
            1 => Phase::Head,
            2 => Phase::Busy,
            _ => Phase::Answered,
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
            if self.phase_bits() == 3 {
                self.enter(Phase::Answered);
            }
        }
    }

    fn phase_bits(&self) -> u64 {
        self.state.load(Ordering::Relaxed) & 0b11
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
            Phase::Answered => 3,
        };
        self.state
            .store(self.micros() << 2 | phase, Ordering::Relaxed);
    }

    pub(super) fn received(&self) {
        if self.phase_bits() == 0 {
            self.enter(Phase::Head);
        }
    }

    /// A request is complete enough to be answered.
    pub(super) fn begin_request(&self) {
        self.enter(Phase::Busy);
    }

    fn end_request(&self) {
        self.enter(Phase::Answered);
    }

    /// Whether hyper may have something to say: a request is being answered, or its reply is not
    /// all written.
    pub(super) fn owes_reply(&self) -> bool {
        self.phase_bits() & 0b10 != 0
    }

    /// Notes that all is written that hyper had; whether this was the end of a reply.
    pub(super) fn flushed(&self) -> bool {
        let state = self.state.load(Ordering::Relaxed);
        let is_answered = state & 0b11 == 3;
        if is_answered {
            // Since the reply was complete, or since the client took the last of it: without
            // another look at the clock.
            self.state.store(state & !0b11, Ordering::Relaxed);
        }
        is_answered
    }

    /// Notes what the guard made of the head that hyper gets next.
    pub(super) fn passed_head(&self, number: u64, framing: Framing) {
        let body = match framing {
            Framing::Length(length) => length,
            Framing::Chunked | Framing::UntilEnd => UNCOUNTED,
        };
        self.passed_heads.store(number, Ordering::Relaxed);
        self.passed_body.store(body, Ordering::Relaxed);
    }

    /// Whether hyper has made the same of the head as the guard: the next request, with a body of
    /// this length.
    pub(super) fn agrees<B: Body>(&self, body: &B) -> bool {
        let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let length = match body.is_end_stream() {
            true => Some(0),
            false => body.size_hint().exact(),
        };
        number == self.passed_heads.load(Ordering::Relaxed)
            && length.unwrap_or(UNCOUNTED) == self.passed_body.load(Ordering::Relaxed)
    }

    /// Requests that hyper has found so far.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Whether every head that was passed has become a request, and its reply is written.
    pub(super) fn has_answered_all(&self) -> bool {
        !self.owes_reply() && self.requests() == self.passed_heads.load(Ordering::Relaxed)
    }

    /// Notes that what had begun will not become a request.
    pub(super) fn give_up_head(&self) {
        self.enter(Phase::Idle);
    }

    /// Whether a reply broke off: the connection must not end as if it had been whole.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed)
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
        assert!(!watch.flushed(), "the reply is not complete");
        watch.end_request();
        assert_eq!(watch.phase(), (Phase::Answered, Duration::ZERO));
        assert!(!watch.is_idle() && watch.owes_reply());
        assert!(watch.flushed());
        assert_eq!(watch.phase(), (Phase::Idle, Duration::ZERO));
        assert!(watch.is_idle() && !watch.owes_reply());
    }

    #[test]
    fn compares_what_hyper_found_with_what_the_guard_has_passed() {
        use http_body_util::{Empty, Full};

        let watch = Watch::new();
        watch.passed_head(1, Framing::Length(0));
        assert!(watch.agrees(&Empty::<Bytes>::new()));
        assert!(!watch.agrees(&Empty::<Bytes>::new()), "one too many");
        watch.passed_head(3, Framing::Length(5));
        assert!(watch.agrees(&Full::new(Bytes::from("hello"))));
        watch.passed_head(4, Framing::Length(5));
        assert!(!watch.agrees(&Full::new(Bytes::from("hell"))));
        watch.passed_head(5, Framing::Length(5));
        assert!(!watch.agrees(&Empty::<Bytes>::new()));
        watch.passed_head(6, Framing::Chunked);
        assert!(!watch.agrees(&Full::new(Bytes::from("hello"))));
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
