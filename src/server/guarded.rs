//! A client's stream with the framing guard between it and hyper.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use tokio::time::timeout;

use super::watch::Watch;
use crate::framing::{HeadLimits, RequestGuard, Violation};

/// What one read takes at most; hyper's own buffer begins with half of it.
const SCRATCH_BYTES: usize = 16 * 1024;

/// How long closing may take; above TLS a last record has to fit into the socket.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

thread_local! {
    /// Where bytes lie while the guard looks at them: one place for all connections of a core,
    /// since none keeps anything in it between two polls.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into());
}

/// A client's stream as hyper sees it.
///
/// hyper gets whole heads that the guard has passed, never the beginning of one; and nothing of a
/// message before the reply to the one before it is written. What hyper wants to say of its own
/// accord, while no request is being answered, does not leave: such a refusal is the service's to
/// write. After a reply that broke off the stream ends by `abort`, which resets the connection: to
/// a client of HTTP/1.0 an orderly end would say that the reply is complete.
pub(super) struct GuardedIo<T> {
    io: T,
    watch: Arc<Watch>,
    abort: fn(&T),
    guard: RequestGuard,
    /// Heads that have passed the guard and that the watch knows of.
    messages: u64,
    /// What came and hyper has not got; empty, and without memory, unless a head is incomplete or
    /// a client sends faster than it is answered.
    held: BytesMut,
    /// How much of `held` the guard has passed already, for which hyper had no room.
    cleared: usize,
    /// Whether `held` has bytes that the guard shall be shown without waiting for more.
    has_unseen: bool,
    /// Whether hyper was sent to sleep because the next message had to wait.
    is_parked: bool,
    /// Why the next message is none.
    refusal: Option<Violation>,
    /// Whether hyper has refused a head by itself.
    is_mute: bool,
    /// Whether the client has closed its side.
    is_at_end: bool,
    /// Whether somebody has begun to close ours.
    is_shutting_down: bool,
}

impl<T> GuardedIo<T> {
    pub(super) fn new(io: T, watch: Arc<Watch>, abort: fn(&T), limits: HeadLimits) -> Self {
        Self {
            io,
            watch,
            abort,
            guard: RequestGuard::new(limits),
            messages: 0,
            held: BytesMut::new(),
            cleared: 0,
            has_unseen: false,
            is_parked: false,
            refusal: None,
            is_mute: false,
            is_at_end: false,
            is_shutting_down: false,
        }
    }

    /// Why what came last is no request, and nobody has answered it yet.
    pub(super) fn refusal(&self) -> Option<Violation> {
        self.refusal
    }

    /// Whether the last that came asks for a head only.
    pub(super) fn is_head(&self) -> bool {
        self.guard.is_head()
    }

    /// Whether the client has closed its side, so that nothing can come any more.
    pub(super) fn is_at_end(&self) -> bool {
        self.is_at_end
    }

    /// Whether somebody has begun to close our side.
    pub(super) fn is_shutting_down(&self) -> bool {
        self.is_shutting_down
    }

    /// Shows the guard what is held; whether anything of it may be handed over.
    fn inspect_held(&mut self) -> Result<bool, Violation> {
        let passed = self.guard.inspect(&self.held)?;
        self.note_progress();
        self.cleared = passed.bytes;
        self.has_unseen = passed.bytes > 0 && passed.bytes < self.held.len();
        Ok(self.cleared > 0)
    }

    /// Gives hyper what it has room for of what is cleared.
    fn hand_over(&mut self, cursor: &mut ReadBufCursor<'_>) {
        let count = self.cleared.min(cursor.remaining());
        cursor.put_slice(self.held.get(..count).unwrap_or_default());
        self.held.advance(count);
        self.cleared -= count;
        if self.held.is_empty() {
            self.held = BytesMut::new();
        }
    }

    /// Tells the watch of a head that has begun, and of one that has passed.
    fn note_progress(&mut self) {
        let messages = self.guard.messages();
        if messages != self.messages {
            self.messages = messages;
            // A head that comes whole is a request at once, and needs no clock of its own.
            self.watch.passed_head(messages, self.guard.framing());
        } else if self.guard.is_within_head() {
            self.watch.received();
        }
    }

    /// To hyper the client has closed where a head is broken, which ends the connection without a
    /// word; where a body is, its request has to know that it broke.
    fn fail(&mut self, violation: Violation) -> io::Result<()> {
        if self.guard.is_broken_in_head() {
            self.refusal = Some(violation);
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, violation))
    }
}

impl<T: Read + Unpin> GuardedIo<T> {
    /// Reads once, and lets the guard look; whether there is an end of waiting for hyper.
    fn read_on(
        &mut self,
        context: &mut Context<'_>,
        cursor: &mut ReadBufCursor<'_>,
    ) -> Poll<io::Result<bool>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let room = cursor.remaining().min(SCRATCH_BYTES);
            let mut read = ReadBuf::new(scratch.get_mut(..room).unwrap_or_default());
            ready!(Pin::new(&mut self.io).poll_read(context, read.unfilled()))?;
            let came = read.filled();
            if came.is_empty() {
                self.is_at_end = true;
                return Poll::Ready(Ok(true));
            }
            if !self.held.is_empty() {
                self.held.extend_from_slice(came);
                return Poll::Ready(match self.inspect_held() {
                    Ok(has_cleared) => {
                        self.hand_over(cursor);
                        Ok(has_cleared)
                    }
                    Err(violation) => self.fail(violation).map(|()| true),
                });
            }
            // The usual way: what came is one message or a part of it, and nothing is held.
            let passed = match self.guard.inspect(came) {
                Ok(passed) => passed,
                Err(violation) => return Poll::Ready(self.fail(violation).map(|()| true)),
            };
            self.note_progress();
            if let Some((passed, rest)) = came.split_at_checked(passed.bytes) {
                cursor.put_slice(passed);
                self.held.extend_from_slice(rest);
                self.has_unseen = !passed.is_empty() && !rest.is_empty();
            }
            Poll::Ready(Ok(passed.bytes > 0))
        })
    }

    /// Waits for the next bytes, and keeps them for hyper; whether there are any, or the client has
    /// closed its side.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub(super) async fn await_bytes(&mut self) -> io::Result<bool> {
        poll_fn(|context| {
            SCRATCH.with_borrow_mut(|scratch| {
                let mut read = ReadBuf::new(scratch);
                ready!(Pin::new(&mut self.io).poll_read(context, read.unfilled()))?;
                self.held.extend_from_slice(read.filled());
                self.has_unseen = true;
                self.is_at_end = read.filled().is_empty();
                Poll::Ready(Ok(!self.is_at_end))
            })
        })
        .await
    }

    /// Reads what the client still sends and throws it away, until it has closed its side or this
    /// many bytes have come.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub(super) async fn discard(&mut self, most_bytes: usize) -> io::Result<()> {
        let mut left = most_bytes;
        while left > 0 {
            let came = poll_fn(|context| {
                SCRATCH.with_borrow_mut(|scratch| {
                    let mut read = ReadBuf::new(scratch);
                    ready!(Pin::new(&mut self.io).poll_read(context, read.unfilled()))?;
                    Poll::Ready(io::Result::Ok(read.filled().len()))
                })
            });
            match came.await? {
                0 => return Ok(()),
                came => left = left.saturating_sub(came),
            }
        }
        Ok(())
    }
}

impl<T: Write + Unpin> GuardedIo<T> {
    /// Closes our side, if that takes no time.
    pub(super) async fn shut_down(&mut self) {
        let shutdown = poll_fn(|context| Pin::new(&mut self.io).poll_shutdown(context));
        let _ = timeout(SHUTDOWN_TIMEOUT, shutdown).await;
    }

    /// Writes a last reply past hyper, which has ended, and closes the sending side.
    pub(super) async fn write_last(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let rest = bytes;
            let written = poll_fn(|context| Pin::new(&mut self.io).poll_write(context, rest));
            bytes = match written.await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => bytes.get(count..).unwrap_or_default(),
            };
        }
        poll_fn(|context| Pin::new(&mut self.io).poll_flush(context)).await?;
        poll_fn(|context| Pin::new(&mut self.io).poll_shutdown(context)).await
    }
}

impl<T> Drop for GuardedIo<T> {
    fn drop(&mut self) {
        if self.watch.is_cut() {
            (self.abort)(&self.io);
        }
    }
}

impl<T: Read + Unpin> Read for GuardedIo<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.refusal.is_some() {
            return Poll::Ready(Ok(()));
        }
        if this.cleared == 0 && this.guard.is_complete() {
            if !this.watch.has_answered_all() {
                this.is_parked = true;
                return Poll::Pending;
            }
            this.guard.begin_next();
        }
        if this.cleared == 0
            && std::mem::take(&mut this.has_unseen)
            && let Err(violation) = this.inspect_held()
        {
            return Poll::Ready(this.fail(violation));
        }
        if this.cleared > 0 {
            this.hand_over(&mut cursor);
            return Poll::Ready(Ok(()));
        }
        // hyper would take a read of nothing for the end.
        while !ready!(this.read_on(context, &mut cursor))? {}
        Poll::Ready(Ok(()))
    }
}

impl<T: Write + Unpin> Write for GuardedIo<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if !this.watch.owes_reply() {
            this.is_mute = true;
            return Poll::Ready(Ok(bytes.len()));
        }
        let polled = Pin::new(&mut this.io).poll_write(context, bytes);
        this.watch.wrote(polled.is_pending());
        polled
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // hyper gathers by itself (`writev(false)`).
        let first = slices.iter().find(|slice| !slice.is_empty());
        self.poll_write(context, first.map_or(&[], |slice| slice))
    }

    /// hyper flushes when it has written all that it had.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_flush(context);
        // TLS takes bytes before the client does; what counts is that they leave.
        this.watch.wrote(polled.is_pending());
        if polled.is_ready() && this.watch.flushed() && std::mem::take(&mut this.is_parked) {
            context.waker().wake_by_ref();
        }
        polled
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // The last word is not spoken yet, or must not sound like one.
        if this.refusal.is_some() || this.is_mute || this.watch.is_cut() {
            return Poll::Ready(Ok(()));
        }
        this.is_shutting_down = true;
        Pin::new(&mut this.io).poll_shutdown(context)
    }
}
