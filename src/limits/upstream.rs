//! MODEN's own limit: after its 429 nobody asks again before it wants to be asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::IntCounter;

use super::Denied;
use crate::config::UPSTREAM_LIMIT;

/// Until when MODEN wants no requests.
#[derive(Debug)]
pub(super) struct UpstreamLimit {
    name: Arc<str>,
    until_nanos: AtomicU64,
    longest: Duration,
    denied: IntCounter,
}

impl UpstreamLimit {
    pub(super) fn new(longest: Duration, denied: IntCounter) -> Self {
        Self {
            name: UPSTREAM_LIMIT.into(),
            until_nanos: AtomicU64::new(0),
            longest,
            denied,
        }
    }

    /// Whether MODEN has never asked for anything.
    pub(super) fn was_never_held_off(&self) -> bool {
        self.until_nanos.load(Ordering::Relaxed) == 0
    }

    /// How long MODEN wants to be left alone, if it does.
    pub(super) fn wait(&self, now_nanos: u64) -> Option<Duration> {
        let until_nanos = self.until_nanos.load(Ordering::Relaxed);
        let wait_nanos = until_nanos
            .checked_sub(now_nanos)
            .filter(|wait| *wait > 0)?;
        Some(Duration::from_nanos(wait_nanos))
    }

    /// Denies a request because of it.
    pub(super) fn deny(&self, wait: Duration) -> Denied {
        self.denied.inc();
        Denied {
            policy: Arc::clone(&self.name),
            wait,
            field: None,
        }
    }

    /// Takes note of what MODEN asks for.
    pub(super) fn hold_off(&self, wait: Duration, now_nanos: u64) {
        let wait = wait.min(self.longest);
        let wait_nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        let until_nanos = now_nanos.saturating_add(wait_nanos);
        let before_nanos = self.until_nanos.fetch_max(until_nanos, Ordering::Relaxed);
        if wait.is_zero() || before_nanos > now_nanos {
            return;
        }
        tracing::warn!(
            limit = UPSTREAM_LIMIT,
            wait = %humantime::format_duration(wait),
            "MODEN asked to wait; requests are denied until then"
        );
    }
}
