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
    shedding: Shedding,
}

/// What the log is told of requests that are turned away: when it begins, now and then, and when it
/// has ended. Times are milliseconds since `Load::started`.
#[derive(Debug, Default)]
struct Shedding {
    /// When the log was last told, at least 1; 0 while nothing is going on.
    told_at: AtomicU64,
    /// When the last request was turned away, at least 1; 0 while nothing is going on.
    last_at: AtomicU64,
    /// How many were turned away since it began.
    refused: AtomicU64,
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
            shedding: Shedding::default(),
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
            drop(place);
            return Err(self.turn_away(Overloaded::InFlight));
        }
        // Looked at for an empty body, too; nothing is written to what all cores share then.
        if self.held.is_full() || (body_bytes > 0 && !self.held.reserve(body_bytes)) {
            drop(place);
            return Err(self.turn_away(Overloaded::HeldBytes));
        }
        place.body_bytes = body_bytes;
        if self.shedding.is_going_on() {
            self.tell_end();
        }
        Ok(place)
    }

    /// Counts a request that found no place, and tells the log now and then.
    #[cold]
    fn turn_away(&self, reason: Overloaded) -> Overloaded {
        match reason {
            Overloaded::InFlight => self.metrics.shed_in_flight.inc(),
            Overloaded::HeldBytes => self.metrics.shed_held_bytes.inc(),
        }
        if let Some(refused) = self.shedding.turn_away(self.now_millis()) {
            tracing::warn!(
                in_flight = self.in_flight().min(self.max_in_flight),
                held_bytes = self.held.now(),
                refused,
                "requests are turned away: {reason}"
            );
        }
        reason
    }

    /// Tells the log of the end, once requests have found a place for long enough.
    #[cold]
    fn tell_end(&self) {
        if let Some(refused) = self.shedding.end(self.now_millis()) {
            tracing::info!(refused, "requests are no longer turned away");
        }
    }

    fn now_millis(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Shedding {
    /// Whether requests were turned away and the log does not know that it has ended.
    fn is_going_on(&self) -> bool {
        self.last_at.load(Ordering::Relaxed) != 0
    }

    /// Notes a request that was turned away; how many there were so far, if the log is to be told.
    fn turn_away(&self, now: u64) -> Option<u64> {
        let refused = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
        self.last_at.store(now.max(1), Ordering::Relaxed);
        let told = self.told_at.load(Ordering::Relaxed);
        let is_due = told == 0 || is_past(told, now);
        let is_ours = || {
            self.told_at
                .compare_exchange(told, now.max(1), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        };
        (is_due && is_ours()).then_some(refused)
    }

    /// Notes a request that has found its place; how many had not, if none has been turned away for
    /// [`TOLD_EVERY`]: a place that is free now and then is no end.
    fn end(&self, now: u64) -> Option<u64> {
        let last = self.last_at.load(Ordering::Relaxed);
        let is_over = last != 0 && is_past(last, now);
        let is_ours = || {
            self.last_at
                .compare_exchange(last, 0, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        };
        (is_over && is_ours()).then(|| {
            self.told_at.store(0, Ordering::Relaxed);
            self.refused.swap(0, Ordering::Relaxed)
        })
    }
}

/// Whether [`TOLD_EVERY`] has passed between the two.
fn is_past(then: u64, now: u64) -> bool {
    Duration::from_millis(now.saturating_sub(then)) >= TOLD_EVERY
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
    fn the_log_is_told_of_the_beginning_and_the_end_and_how_many_there_were() {
        let shedding = Shedding::default();
        assert_eq!(shedding.end(5), None, "nothing has begun");
        assert_eq!(shedding.turn_away(0), Some(1));
        assert_eq!(shedding.turn_away(9_999), None);
        assert_eq!(shedding.turn_away(10_001), Some(3), "it lasts");
        assert_eq!(shedding.end(20_000), None, "it was only just now");
        assert!(shedding.is_going_on());
        assert_eq!(shedding.end(20_001), Some(3));
        assert!(!shedding.is_going_on());
        assert_eq!(shedding.end(40_000), None, "it is told once");
        assert_eq!(shedding.turn_away(40_001), Some(1), "it begins anew");
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
