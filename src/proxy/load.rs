//! How much is going on in the whole process, and from when on new requests are turned away.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::body::HeldBytes;
use crate::config::ServerConfig;
use crate::telemetry::metrics::{LoadMetrics, Metrics};

/// How often the application log may tell that requests are turned away: under a flood of them,
/// each has its line in the access log, and that is enough.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// The load of the process: requests in flight, and bytes that are held for them.
///
/// One for the process, read and written by every request without a lock; it outlives a generation
/// of the configuration.
#[derive(Debug)]
pub struct Load {
    /// Requests from their admission to the end of their reply.
    in_flight: AtomicU64,
    max_in_flight: u64,
    held: Arc<HeldBytes>,
    metrics: LoadMetrics,
    started: Instant,
    /// When the log was last told of requests turned away, in milliseconds since `started`, at least
    /// 1; 0 while it never was.
    told_at_millis: AtomicU64,
}

/// A request's place in the process; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Place {
    load: Arc<Load>,
    /// Room for its body.
    body_bytes: u64,
}

/// The process is full: nothing was taken, and nothing is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Overloaded {
    /// `server.max_in_flight` requests are on their way.
    #[error("as many requests as server.max_in_flight are on their way")]
    InFlight,
    /// `server.max_held_bytes` are held or promised.
    #[error("as many bytes as server.max_held_bytes are held")]
    HeldBytes,
}

impl Load {
    /// Begins with nothing, bound by the section's limits.
    pub fn build(config: &ServerConfig, metrics: &Metrics) -> Arc<Self> {
        let load = Arc::new(Self {
            in_flight: AtomicU64::new(0),
            max_in_flight: config.max_in_flight,
            held: Arc::new(HeldBytes::new(config.max_held_bytes)),
            metrics: metrics.load(),
            started: Instant::now(),
            told_at_millis: AtomicU64::new(0),
        });
        let (admitted, held) = (Arc::clone(&load), Arc::clone(&load.held));
        metrics.read_load(move || admitted.in_flight(), move || held.now());
        load
    }

    /// Requests from their admission to the end of their reply.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The most of them.
    pub fn max_in_flight(&self) -> u64 {
        self.max_in_flight
    }

    /// The bytes held, where answers are counted, too.
    pub fn held(&self) -> &Arc<HeldBytes> {
        &self.held
    }

    /// Gives a request its place and its body the room that it needs, all of it or nothing.
    ///
    /// `body_bytes` is the most that will be held of its body.
    pub(super) fn admit(self: &Arc<Self>, body_bytes: u64) -> Result<Place, Overloaded> {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let mut place = Place {
            load: Arc::clone(self),
            body_bytes: 0,
        };
        if before >= self.max_in_flight {
            return Err(self.turn_away(Overloaded::InFlight));
        }
        // Looked at for an empty body, too; nothing is written to what all cores share then.
        if self.held.is_full() || (body_bytes > 0 && !self.held.reserve(body_bytes)) {
            return Err(self.turn_away(Overloaded::HeldBytes));
        }
        place.body_bytes = body_bytes;
        Ok(place)
    }

    /// Counts a request that found no place, and tells the log now and then.
    #[cold]
    fn turn_away(&self, reason: Overloaded) -> Overloaded {
        match reason {
            Overloaded::InFlight => self.metrics.shed_in_flight.inc(),
            Overloaded::HeldBytes => self.metrics.shed_held_bytes.inc(),
        }
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let told = self.told_at_millis.load(Ordering::Relaxed);
        let is_due = told == 0 || Duration::from_millis(now.saturating_sub(told)) >= TOLD_EVERY;
        let is_ours = || {
            self.told_at_millis
                .compare_exchange(told, now.max(1), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        };
        if is_due && is_ours() {
            tracing::warn!(
                in_flight = self.in_flight(),
                held_bytes = self.held.now(),
                "requests are turned away: {reason}"
            );
        }
        reason
    }
}

impl Place {
    /// Gives back what the body turned out not to need.
    pub(super) fn keep_for_body(&mut self, bytes: u64) {
        let surplus = self.body_bytes.saturating_sub(bytes);
        if surplus > 0 {
            self.body_bytes -= surplus;
            self.load.held.release(surplus);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.keep_for_body(0);
        self.load.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Environment;

    fn load(max_in_flight: u64, max_held_bytes: u64) -> Arc<Load> {
        let config = ServerConfig {
            max_in_flight,
            max_held_bytes,
            ..ServerConfig::default()
        };
        Load::build(&config, &Metrics::build(Environment::Sandbox))
    }

    fn refusal(place: Result<Place, Overloaded>) -> Overloaded {
        place.expect_err("there is no place")
    }

    #[test]
    fn a_place_is_free_again_when_its_request_has_ended() {
        let load = load(2, 1_000);
        let (first, _second) = (load.admit(0), load.admit(0));
        assert_eq!(refusal(load.admit(0)), Overloaded::InFlight);
        assert_eq!(load.in_flight(), 2, "who is turned away takes no place");
        drop(first);
        assert!(load.admit(0).is_ok());
        assert_eq!(load.metrics.shed_in_flight.get(), 1);
    }

    #[test]
    fn without_room_for_its_body_a_request_takes_no_place_either() {
        let load = load(10, 100);
        let mut first = load.admit(80).expect("there is room");
        assert_eq!(refusal(load.admit(21)), Overloaded::HeldBytes);
        assert_eq!((load.in_flight(), load.held.now()), (1, 80));
        first.keep_for_body(30);
        let second = load
            .admit(70)
            .expect("the first needed less than it might have");
        assert_eq!(refusal(load.admit(0)), Overloaded::HeldBytes, "it is full");
        drop((first, second));
        assert_eq!((load.in_flight(), load.held.now()), (0, 0));
    }
}
