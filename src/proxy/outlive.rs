//! What a request survives: its client, and a fault of ours.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio_util::task::TaskTracker;

/// Runs `exchange` in place; when dropped before its end, hands it to `exchanges` instead of
/// cancelling it. `None` if it panics, which the panic hook has reported by then.
///
/// A task of its own from the start would cost a wake-up on every request; this costs one only
/// where a client has gone away.
pub(super) fn outlive<F>(exchange: F, exchanges: TaskTracker) -> Outlive<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    Outlive {
        exchange: Some(Box::pin(exchange)),
        exchanges,
    }
}

/// The future of [`outlive`].
pub(super) struct Outlive<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    /// Gone once it has ended.
    exchange: Option<Pin<Box<F>>>,
    exchanges: TaskTracker,
}

impl<F> Future for Outlive<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<F::Output>> {
        // Out of `self` while it runs, so that a panic takes it down and no drop revives it.
        let mut exchange = self
            .exchange
            .take()
            .expect("a future is not polled after its end");
        // What it held is dropped on the way, so nobody sees it half changed.
        match catch_unwind(AssertUnwindSafe(|| exchange.as_mut().poll(context))) {
            Ok(Poll::Ready(output)) => Poll::Ready(Some(output)),
            Ok(Poll::Pending) => {
                self.exchange = Some(exchange);
                Poll::Pending
            }
            Err(_panic) => Poll::Ready(None),
        }
    }
}

impl<F> Drop for Outlive<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    fn drop(&mut self) {
        // Without a runtime the process is past its drain, and nothing can run any more.
        if let Some(exchange) = self.exchange.take()
            && tokio::runtime::Handle::try_current().is_ok()
        {
            // The reply is dropped inside: a long one leaves a task of its own behind, which must be
            // tracked before this one is counted out.
            self.exchanges.spawn(async move { drop(exchange.await) });
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn ends_in_place_when_nobody_drops_it() {
        let tracker = TaskTracker::new();
        assert_eq!(outlive(async { 7 }, tracker.clone()).await, Some(7));
        assert!(tracker.is_empty());
    }

    #[tokio::test]
    async fn a_panic_is_caught_and_the_exchange_not_revived() {
        let tracker = TaskTracker::new();
        let exchange = outlive(
            async {
                tokio::task::yield_now().await;
                panic!("a fault of ours");
            },
            tracker.clone(),
        );
        assert_eq!(exchange.await, None::<()>);
        assert!(tracker.is_empty());
    }

    #[tokio::test]
    async fn goes_on_as_a_tracked_task_when_dropped() {
        let tracker = TaskTracker::new();
        let (finish, finished) = oneshot::channel::<()>();
        let (report, reported) = oneshot::channel();
        let mut exchange = outlive(
            async move {
                finished.await.expect("the sender lives");
                report.send("ended").expect("the receiver lives");
            },
            tracker.clone(),
        );
        assert!(
            std::future::poll_fn(|context| {
                Poll::Ready(Pin::new(&mut exchange).poll(context).is_pending())
            })
            .await
        );
        drop(exchange);
        assert_eq!(tracker.len(), 1);
        finish.send(()).expect("the exchange lives");
        assert_eq!(reported.await, Ok("ended"));
    }
}
