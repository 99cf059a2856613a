//! Idle connections of one core, youngest first.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::exchange::Connection;
use crate::telemetry::metrics::UpstreamMetrics;

/// Connections that completed a request less than `reuse_within` ago.
///
/// A stack: the connection used last is the most recently proven one, and the rest are left to
/// age. The lock is never contended, because only one core's tasks ever take it.
#[derive(Debug)]
pub(super) struct Pool {
    reuse_within: Duration,
    pub(super) metrics: Arc<UpstreamMetrics>,
    idle: Mutex<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    proven: Instant,
}

impl Pool {
    pub(super) fn new(reuse_within: Duration, metrics: Arc<UpstreamMetrics>) -> Self {
        Self {
            reuse_within,
            metrics,
            idle: Mutex::new(Vec::new()),
        }
    }

    /// The most recently proven connection that still looks alive, if there is one.
    ///
    /// A connection whose peer has closed, or has said anything unasked, is dropped here.
    pub(super) fn take(&self) -> Option<Connection> {
        loop {
            let Idle {
                mut connection,
                proven,
            } = self.idle().pop()?;
            if proven.elapsed() >= self.reuse_within {
                // Those below are older still; they go first, so that the one that is opened
                // instead is not one too many.
                let aged = std::mem::take(&mut *self.idle());
                self.metrics.aged.inc_by(1 + aged.len() as u64);
                drop(aged);
                return None;
            }
            if connection.is_quiet() {
                connection.set_busy();
                self.metrics.reused.inc();
                return Some(connection);
            }
            self.metrics.ended.inc();
        }
    }

    /// Keeps a connection that has completed a request at this moment.
    pub(super) fn give_back(&self, mut connection: Connection, proven: Instant) {
        if connection.is_ready() {
            connection.set_idle();
            self.idle().push(Idle { connection, proven });
        }
    }

    /// Closes what has aged beyond reuse.
    pub(super) fn sweep(&self) {
        let aged = |idle: &Idle| idle.proven.elapsed() >= self.reuse_within;
        // Taken out first: closing a connection must not happen under the lock.
        let closed: Vec<Idle> = self.idle().extract_if(.., |idle| aged(idle)).collect();
        self.metrics.aged.inc_by(closed.len() as u64);
        drop(closed);
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
