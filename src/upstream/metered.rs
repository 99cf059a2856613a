//! An upstream's stream with the byte meter and the framing guard between it and hyper.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};

use crate::domain::Outcome;
use crate::framing::{AnswerGuard, Framing, HeadLimits, Passed, Violation};

/// What one read takes at most: a record of TLS.
const READ_BYTES: usize = 16 * 1024;

/// What a connection's two ends know of the running exchange: the one that asks for it, and the one
/// that moves its bytes.
///
/// Both live on one core, so that the atomics are never contended.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// Whether any byte of the exchange was offered to the socket; set before the write call, so that
    /// an error from that call counts as sent.
    has_begun: AtomicBool,
    /// Which request is written next: [`NONE`], [`HEAD`] or [`OTHER`].
    next: AtomicU8,
    /// Final heads of answers that have passed the guard.
    answers: AtomicU64,
    /// Of the last of them: a length, [`CHUNKED`] or [`UNTIL_END`].
    framing: AtomicU64,
    /// What broke the framing; nothing on this connection can be trusted any more.
    violation: OnceLock<Violation>,
}

const NONE: u8 = 0;
const HEAD: u8 = 1;
const OTHER: u8 = 2;

/// Beyond all lengths, which are below 2^63.
const CHUNKED: u64 = u64::MAX;
const UNTIL_END: u64 = u64::MAX - 1;

impl Meter {
    /// Begins anew: the next bytes that are written are a request.
    pub(super) fn begin(&self, is_head: bool) {
        self.has_begun.store(false, Ordering::Relaxed);
        self.next
            .store(if is_head { HEAD } else { OTHER }, Ordering::Relaxed);
    }

    /// What can be said of a request whose answer is not complete.
    pub(super) fn outcome(&self) -> Outcome {
        if self.has_begun.load(Ordering::Relaxed) {
            Outcome::Unknown
        } else {
            Outcome::NotSent
        }
    }

    /// Final heads that have passed, and how the body behind the last of them is framed.
    pub(super) fn answers(&self) -> (u64, Framing) {
        let framing = match self.framing.load(Ordering::Relaxed) {
            CHUNKED => Framing::Chunked,
            UNTIL_END => Framing::UntilEnd,
            length => Framing::Length(length),
        };
        (self.answers.load(Ordering::Relaxed), framing)
    }

    /// What broke the framing, if anything did.
    pub(super) fn violation(&self) -> Option<Violation> {
        self.violation.get().copied()
    }

    fn note(&self, guard: &AnswerGuard) {
        let answers = guard.messages();
        if answers != self.answers.load(Ordering::Relaxed) {
            let framing = match guard.framing() {
                Framing::Chunked => CHUNKED,
                Framing::UntilEnd => UNTIL_END,
                Framing::Length(length) => length,
            };
            self.framing.store(framing, Ordering::Relaxed);
            self.answers.store(answers, Ordering::Relaxed);
        }
        if let Some(violation) = guard.violation() {
            // The first one stays.
            let _ = self.violation.set(violation);
        }
    }
}

/// A stream, above TLS, that tells its [`Meter`] of every write before it is made, and shows hyper
/// nothing that the guard has not passed: whole heads, bodies as they come, and no byte behind a
/// complete answer.
pub(super) struct Metered<T> {
    io: T,
    meter: Arc<Meter>,
    guard: AnswerGuard,
    /// What came and hyper has not got; empty, and without memory, unless a head came in pieces.
    held: BytesMut,
    /// How much of `held` has passed.
    cleared: usize,
}

impl<T> Metered<T> {
    pub(super) fn new(io: T, meter: Arc<Meter>, limits: HeadLimits) -> Self {
        Self {
            io,
            meter,
            guard: AnswerGuard::new(limits),
            held: BytesMut::new(),
            cleared: 0,
        }
    }

    /// Something is about to be written.
    fn begin_write(&mut self) {
        self.meter.has_begun.store(true, Ordering::Relaxed);
        let next = self.meter.next.load(Ordering::Relaxed);
        if next != NONE {
            self.meter.next.store(NONE, Ordering::Relaxed);
            self.guard.expect_answer(next == HEAD);
            self.meter.note(&self.guard);
        }
    }

    /// Takes what came; whether hyper gets any of it now.
    fn take(&mut self, came: &[u8], cursor: &mut ReadBufCursor<'_>) -> Result<bool, Violation> {
        if !self.held.is_empty() {
            self.held.extend_from_slice(came);
            let passed = self.guard.inspect(&self.held);
            self.meter.note(&self.guard);
            self.cleared = passed?.bytes;
            return Ok(self.hand_over(cursor));
        }
        // The usual way: all of it passes, and hyper has room for it.
        let passed = self.guard.inspect(came);
        self.meter.note(&self.guard);
        let Passed { bytes, .. } = passed?;
        if let Some((passed, rest)) = came.split_at_checked(bytes) {
            cursor.put_slice(passed);
            self.held.extend_from_slice(rest);
        }
        Ok(bytes > 0)
    }

    /// Gives hyper what it has room for of what has passed; whether that is any.
    fn hand_over(&mut self, cursor: &mut ReadBufCursor<'_>) -> bool {
        let count = self.cleared.min(cursor.remaining());
        cursor.put_slice(self.held.get(..count).unwrap_or_default());
        self.held.advance(count);
        self.cleared -= count;
        if self.held.is_empty() {
            self.held = BytesMut::new();
        }
        count > 0
    }
}

impl<T: Read + Unpin> Read for Metered<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.cleared > 0 {
            this.hand_over(&mut cursor);
            return Poll::Ready(Ok(()));
        }
        let mut space = [const { MaybeUninit::uninit() }; READ_BYTES];
        let room = cursor.remaining().min(READ_BYTES);
        loop {
            if let Some(violation) = this.meter.violation() {
                return Poll::Ready(Err(broken(violation)));
            }
            let mut read = ReadBuf::uninit(space.get_mut(..room).unwrap_or_default());
            ready!(Pin::new(&mut this.io).poll_read(context, read.unfilled()))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            match this.take(read.filled(), &mut cursor) {
                Ok(true) => return Poll::Ready(Ok(())),
                Ok(false) => {}
                Err(violation) => return Poll::Ready(Err(broken(violation))),
            }
        }
    }
}

/// As hyper gets it; [`violation_in`] finds it again.
#[cold]
fn broken(violation: Violation) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, violation)
}

/// The violation that an error of hyper's is about.
pub(super) fn violation_in(error: &hyper::Error) -> Option<Violation> {
    let cause = std::error::Error::source(error)?;
    let cause = cause.downcast_ref::<io::Error>()?;
    cause.get_ref()?.downcast_ref::<Violation>().copied()
}

impl<T: Write + Unpin> Write for Metered<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.begin_write();
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.begin_write();
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
