//! The time before a connection's first byte, in which it costs next to nothing.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::connection::DRAIN_LINGER;

/// Waits until a client has sent something or has left; false if it was silent for too long.
///
/// That is `idle_timeout`, as between two requests, or after `draining` the same moment that an
/// idle connection is left. Nothing is read: `poll_readable` only asks.
///
/// # Cancel safety
/// Dropped before it ends, the connection is counted in `dropped_idle`.
pub(super) async fn ends_in_time(
    poll_readable: impl Fn(&mut Context<'_>) -> Poll<io::Result<()>>,
    idle_timeout: Duration,
    draining: &CancellationToken,
    dropped_idle: &AtomicUsize,
) -> bool {
    let mut silence = Silence(Some(dropped_idle));
    let deadline = Instant::now() + idle_timeout;
    let mut timer = pin!(tokio::time::sleep_until(deadline));
    let mut is_draining = false;
    let is_served = loop {
        tokio::select! {
            biased;
            // An error is found again by whoever reads, and told there.
            _readable = poll_fn(&poll_readable) => break true,
            () = draining.cancelled(), if !is_draining => {
                is_draining = true;
                timer.as_mut().reset(deadline.min(Instant::now() + DRAIN_LINGER));
            }
            () = timer.as_mut() => break false,
        }
    };
    silence.0 = None;
    is_served
}

/// Counts a connection that is dropped before it has ended.
struct Silence<'c>(Option<&'c AtomicUsize>);

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        if let Some(dropped_idle) = self.0 {
            dropped_idle.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn ends_at_its_deadline() {
        let began = Instant::now();
        let (draining, dropped_idle) = (CancellationToken::new(), AtomicUsize::new(0));
        let never = |_: &mut Context<'_>| Poll::Pending;
        assert!(!ends_in_time(never, 60 * SECOND, &draining, &dropped_idle).await);
        assert_eq!(began.elapsed().as_secs(), 60);
        assert_eq!(dropped_idle.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_shortens_it() {
        let began = Instant::now();
        let (draining, dropped_idle) = (CancellationToken::new(), AtomicUsize::new(0));
        let never = |_: &mut Context<'_>| Poll::Pending;
        let drain = async {
            tokio::time::sleep(30 * SECOND).await;
            draining.cancel();
        };
        let silence = ends_in_time(never, 60 * SECOND, &draining, &dropped_idle);
        assert!(!tokio::join!(silence, drain).0);
        assert_eq!(began.elapsed(), 30 * SECOND + DRAIN_LINGER);
    }

    #[tokio::test]
    async fn dropped_it_counts_an_idle_connection() {
        let (draining, dropped_idle) = (CancellationToken::new(), AtomicUsize::new(0));
        let never = |_: &mut Context<'_>| Poll::Pending;
        let silence = ends_in_time(never, SECOND, &draining, &dropped_idle);
        drop(silence);
        assert_eq!(dropped_idle.load(Ordering::Relaxed), 0, "it had not begun");
        let silence = ends_in_time(never, SECOND, &draining, &dropped_idle);
        assert!(tokio::time::timeout(Duration::ZERO, silence).await.is_err());
        assert_eq!(dropped_idle.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn ends_with_the_first_byte() {
        let (draining, dropped_idle) = (CancellationToken::new(), AtomicUsize::new(0));
        let at_once = |_: &mut Context<'_>| Poll::Ready(Ok(()));
        assert!(ends_in_time(at_once, SECOND, &draining, &dropped_idle).await);
    }
}
