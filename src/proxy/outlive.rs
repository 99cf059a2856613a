//! An exchange outlives its client: a future that, dropped unfinished, ends as a task.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio_util::task::TaskTracker;

/// Runs `exchange` in place; when dropped before its end, hands it to `exchanges` instead of
/// cancelling it.
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
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let exchange = self
            .exchange
            .as_mut()
            .expect("a future is not polled after its end");
        let polled = exchange.as_mut().poll(context);
        if polled.is_ready() {
            self.exchange = None;
        }
        polled
    }
}

impl<F> Drop for Outlive<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    fn drop(&mut self) {
        // Without a runtime the process is past its drain, and nothing can run any more. After a
        // panic the exchange must not be polled again.
        if let Some(exchange) = self.exchange.take()
            && !std::thread::panicking()
            && tokio::runtime::Handle::try_current().is_ok()
        {
            self.exchanges.spawn(exchange);
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
        assert_eq!(outlive(async { 7 }, tracker.clone()).await, 7);
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
