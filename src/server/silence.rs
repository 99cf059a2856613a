//! The time before a connection's first request, which may end for want of one.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::connection::DRAIN_LINGER;

/// Waits for what comes before a request: the first byte, or a handshake; `None` if that took too
/// long.
///
/// Too long is `limit`, or after `draining` the same moment that an idle connection is left.
///
/// # Cancel safety
/// Dropped before it ends, the connection is counted in `dropped_idle`.
pub(super) async fn ends_in_time<F: Future>(
    awaited: F,
    limit: Duration,
    draining: &CancellationToken,
    dropped_idle: &AtomicUsize,
) -> Option<F::Output> {
    let mut silence = Silence(Some(dropped_idle));
    let mut awaited = pin!(awaited);
    let deadline = Instant::now() + limit;
    let mut timer = pin!(tokio::time::sleep_until(deadline));
    let mut is_draining = false;
    let output = loop {
        tokio::select! {
            biased;
            output = awaited.as_mut() => break Some(output),
            () = draining.cancelled(), if !is_draining => {
                is_draining = true;
                timer.as_mut().reset(deadline.min(Instant::now() + DRAIN_LINGER));
            }
            () = timer.as_mut() => break None,
        }
    };
    silence.0 = None;
    output
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
    use std::future::{pending, ready};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn ends_at_its_deadline() {
        let began = Instant::now();
        let (draining, dropped_idle) = (CancellationToken::new(), AtomicUsize::new(0));
        let never = pending::<()>();
        let output = ends_in_time(never, 60 * SECOND, &draining, &dropped_idle).await;
        assert_eq!(output, None);
        assert_eq!(began.elapsed().as_secs(), 60);
        assert_eq!(dropped_idle.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_shortens_it() {
        let began = Instant::now();
        let (draining, dropped_idle) = (CancellationToken::new(), AtomicUsize::new(0));
        let never = pending::<()>();
        let drain = async {
            tokio::time::sleep(30 * SECOND).await;
            draining.cancel();
        };
        let silence = ends_in_time(never, 60 * SECOND, &draining, &dropped_idle);
        assert_eq!(tokio::join!(silence, drain).0, None);
        assert_eq!(began.elapsed(), 30 * SECOND + DRAIN_LINGER);
    }

    #[tokio::test]
    async fn dropped_it_counts_an_idle_connection() {
        let (draining, dropped_idle) = (CancellationToken::new(), AtomicUsize::new(0));
        let never = pending::<()>();
        drop(ends_in_time(
            pending::<()>(),
            SECOND,
            &draining,
            &dropped_idle,
        ));
        assert_eq!(dropped_idle.load(Ordering::Relaxed), 0, "it had not begun");
        let silence = ends_in_time(never, SECOND, &draining, &dropped_idle);
        assert!(tokio::time::timeout(Duration::ZERO, silence).await.is_err());
        assert_eq!(dropped_idle.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn ends_with_the_first_byte() {
        let (draining, dropped_idle) = (CancellationToken::new(), AtomicUsize::new(0));
        let at_once = ready(());
        let output = ends_in_time(at_once, SECOND, &draining, &dropped_idle).await;
        assert_eq!(output, Some(()));
    }
}
