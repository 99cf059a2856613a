//! MODEN's own limit: after its 429 nobody asks again before it wants to be asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::config::UPSTREAM_LIMIT;
use crate::telemetry::metrics::PolicyMetrics;

/// Until when MODEN wants no requests.
#[derive(Debug)]
pub(super) struct UpstreamLimit {
    name: Arc<str>,
    until_nanos: AtomicU64,
    longest: Duration,
    metrics: PolicyMetrics,
}

impl UpstreamLimit {
    pub(super) fn new(longest: Duration, metrics: PolicyMetrics) -> Self {
        Self {
            name: UPSTREAM_LIMIT.into(),
            until_nanos: AtomicU64::new(0),
            longest,
            metrics,
        }
    }

    /// What stands in logs and replies.
    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// How long MODEN wants to be left alone, if it does; counts the denial.
    pub(super) fn wait(&self, now_nanos: u64) -> Option<Duration> {
        let until_nanos = self.until_nanos.load(Ordering::Relaxed);
        let wait_nanos = until_nanos
            .checked_sub(now_nanos)
            .filter(|wait| *wait > 0)?;
        self.metrics.denied.inc();
        Some(Duration::from_nanos(wait_nanos))
    }

    /// Takes note of what MODEN asks for.
    pub(super) fn hold_off(&self, wait: Duration, now_nanos: u64) {
        let wait = wait.min(self.longest);
        let wait_nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        let until_nanos = now_nanos.saturating_add(wait_nanos);
        self.until_nanos.fetch_max(until_nanos, Ordering::Relaxed);
        tracing::warn!(
            limit = UPSTREAM_LIMIT,
            wait = %humantime::format_duration(wait),
            "MODEN asked to wait; requests are denied until then"
        );
    }
}
