//! Is the process alive, and may it be sent requests?

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::credentials::Credentials;

/// A core that was silent for longer than this is stuck.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(5);

/// What the health endpoints know; written by the cores and by `app`.
#[derive(Debug)]
pub struct Health {
    started: Instant,
    /// Milliseconds since `started` of each core's last sign of life.
    heartbeats: Vec<AtomicU64>,
    is_serving: AtomicBool,
    is_draining: AtomicBool,
    credentials: Arc<Credentials>,
}

impl Health {
    /// Starts as alive and not ready.
    pub fn new(cores: usize, credentials: Arc<Credentials>) -> Self {
        Self {
            started: Instant::now(),
            heartbeats: (0..cores).map(|_| AtomicU64::new(0)).collect(),
            is_serving: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
            credentials,
        }
    }

    /// Notes that a core's runtime is turning.
    pub fn beat(&self, core: usize) {
        if let Some(heartbeat) = self.heartbeats.get(core) {
            let millis = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
            heartbeat.store(millis, Ordering::Relaxed);
        }
    }

    /// Notes that a core has ended in order and will give no more signs of life.
    pub fn ended(&self, core: usize) {
        if let Some(heartbeat) = self.heartbeats.get(core) {
            heartbeat.store(u64::MAX, Ordering::Relaxed);
        }
    }

    /// Notes that every listener accepts.
    pub fn serving(&self) {
        self.is_serving.store(true, Ordering::Release);
    }

    /// Notes that no new work is wanted.
    pub fn draining(&self) {
        self.is_draining.store(true, Ordering::Release);
    }

    /// Whether every core gives signs of life, or has ended in order.
    pub fn is_alive(&self) -> bool {
        self.stuck_core().is_none()
    }

    /// Whether requests may be sent here.
    pub fn is_ready(&self) -> bool {
        self.unready().is_none()
    }

    /// Whether no new work is wanted.
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    /// How long the process has been up.
    pub(super) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// The first core that is stuck, if any.
    pub(super) fn stuck_core(&self) -> Option<usize> {
        let now = self.started.elapsed();
        self.heartbeats.iter().position(|heartbeat| {
            let last = Duration::from_millis(heartbeat.load(Ordering::Relaxed));
            now.saturating_sub(last) > HEARTBEAT_TIMEOUT
        })
    }

    /// Why requests should go elsewhere, if they should.
    pub(super) fn unready(&self) -> Option<&'static str> {
        if self.is_draining() {
            Some("draining")
        } else if !self.is_serving.load(Ordering::Acquire) {
            Some("starting")
        } else if !self.credentials.is_available() {
            Some("no credential")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::credentials::Credential;
    use crate::secret::Secret;

    use super::*;

    #[test]
    fn is_ready_only_while_serving_with_a_credential() {
        let credentials = Arc::new(Credentials::default());
        let health = Health::new(1, Arc::clone(&credentials));
        assert_eq!(health.unready(), Some("starting"));
        health.serving();
        assert_eq!(health.unready(), Some("no credential"));
        let pair = (Secret::new("app"), Secret::new("top"));
        credentials.replace(Credential::build(&pair.0, &pair.1).expect("a valid pair"));
        assert_eq!(health.unready(), None);
        assert!(health.is_ready());
        health.draining();
        assert_eq!(health.unready(), Some("draining"));
        assert!(!health.is_ready());
    }

    #[test]
    fn a_core_that_has_ended_in_order_is_not_stuck() {
        let mut health = Health::new(1, Arc::default());
        health.started = Instant::now()
            .checked_sub(HEARTBEAT_TIMEOUT + Duration::from_secs(1))
            .expect("the clock runs for longer than that");
        health.ended(0);
        assert!(health.is_alive());
    }

    #[test]
    fn notices_a_core_that_stopped_turning() {
        let mut health = Health::new(2, Arc::default());
        health.started = Instant::now()
            .checked_sub(HEARTBEAT_TIMEOUT + Duration::from_secs(1))
            .expect("the clock runs for longer than that");
        assert_eq!(health.stuck_core(), Some(0));
        health.beat(0);
        assert_eq!(health.stuck_core(), Some(1));
        assert!(!health.is_alive());
        health.beat(1);
        assert_eq!(health.stuck_core(), None);
        assert!(health.is_alive());
    }
}
