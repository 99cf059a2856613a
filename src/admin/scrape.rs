//! Metrics as text, made away from the control thread and seldom, however many ask.
//!
//! Everybody may ask for them, off loopback too, and a rendering takes milliseconds: on the control
//! thread a flood of scrapes would hold up the accepting of payments. Still nobody gets a text that
//! is older than the question: who asks meanwhile waits for the next rendering, which is for all.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::telemetry::metrics::Metrics;

/// From the begin of one rendering to that of the next, at least.
const RENDER_EVERY: Duration = Duration::from_millis(100);

/// Where to ask for the text.
#[derive(Clone, Debug)]
pub(super) struct Scrapes(mpsc::Sender<oneshot::Sender<Bytes>>);

/// Those who have asked.
pub(super) type Waiting = mpsc::Receiver<oneshot::Sender<Bytes>>;

impl Scrapes {
    /// A way to ask, and its other end for [`render_for`]; as many as `most` wait there.
    pub(super) fn channel(most: usize) -> (Self, Waiting) {
        let (ask, waiting) = mpsc::channel(most);
        (Self(ask), waiting)
    }

    /// All metrics as they are from now on; `None` when the gateway ends.
    pub(super) async fn text(&self) -> Option<Bytes> {
        let (answer, text) = oneshot::channel();
        self.0.send(answer).await.ok()?;
        text.await.ok()
    }
}

/// Renders for those who wait, one text for all of them; ends when nobody can ask any more.
pub(super) async fn render_for(mut waiting: Waiting, metrics: Arc<Metrics>) {
    let mut next = Instant::now();
    while let Some(first) = waiting.recv().await {
        tokio::time::sleep_until(next).await;
        next = Instant::now() + RENDER_EVERY;
        let mut asked = vec![first];
        while let Ok(another) = waiting.try_recv() {
            asked.push(another);
        }
        let metrics = Arc::clone(&metrics);
        let rendering = tokio::task::spawn_blocking(move || Bytes::from(metrics.render()));
        // A rendering that panicked leaves its askers without an answer; the next may succeed.
        let Ok(text) = rendering.await else {
            continue;
        };
        for answer in asked {
            // Who is gone does not mind.
            let _ = answer.send(text.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Environment;

    /// What the text says of the credential, which stands for everything that changes.
    fn availability(text: &Bytes) -> char {
        let text = str::from_utf8(text).expect("a text");
        let line = text
            .lines()
            .find(|line| line.starts_with("gateway_credentials_available{"));
        let value = line.and_then(|line| line.chars().last());
        value.expect("a metric with a value")
    }

    #[tokio::test]
    async fn nobody_gets_a_text_older_than_the_question_and_many_share_one() {
        let metrics = Arc::new(Metrics::build(Environment::Sandbox));
        let (scrapes, waiting) = Scrapes::channel(128);
        let rendering = render_for(waiting, Arc::clone(&metrics));
        let asking = async move {
            let before = scrapes.text().await.expect("a text");
            assert_eq!(availability(&before), '0');
            metrics.credentials_available.set(1);
            let (one, other) = tokio::join!(scrapes.text(), scrapes.text());
            let (one, other) = (one.expect("a text"), other.expect("a text"));
            assert_eq!(availability(&one), '1');
            assert_eq!(one.as_ptr(), other.as_ptr(), "rendered once");
        };
        tokio::join!(rendering, asking);
    }

    #[tokio::test]
    async fn renderings_keep_their_distance() {
        let metrics = Arc::new(Metrics::build(Environment::Sandbox));
        let (scrapes, waiting) = Scrapes::channel(1);
        let rendering = render_for(waiting, metrics);
        let asking = async move {
            let began = Instant::now();
            for _ in 0..3 {
                scrapes.text().await.expect("a text");
            }
            assert!(began.elapsed() >= RENDER_EVERY * 2);
        };
        tokio::join!(rendering, asking);
    }
}
