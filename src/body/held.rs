//! How many bytes of bodies are held in memory, by the whole process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The bytes of bodies that are held in memory, and how many new requests may bring them to.
///
/// One for the process, shared by all cores without a lock. It counts what is promised to be held,
/// too: a body that is still to come has its room before its first byte.
#[derive(Debug)]
pub struct HeldBytes {
    bytes: AtomicU64,
    max_bytes: u64,
}

/// Some of the [`HeldBytes`]; dropping it gives them back.
#[derive(Debug)]
pub struct Held {
    of: Arc<HeldBytes>,
    bytes: u64,
}

impl HeldBytes {
    /// None are held yet; `max_bytes` binds [`Self::reserve`] only.
    pub const fn new(max_bytes: u64) -> Self {
        Self {
            bytes: AtomicU64::new(0),
            max_bytes,
        }
    }

    /// How many are held at present.
    pub fn now(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// How many new requests may bring them to.
    pub const fn max(&self) -> u64 {
        self.max_bytes
    }

    /// Whether there is no room for another byte of a new request.
    pub fn is_full(&self) -> bool {
        self.now() >= self.max_bytes
    }

    /// Makes room for a new request's body; `None` where there is not enough, and then nothing is
    /// taken.
    pub fn reserve(self: &Arc<Self>, bytes: u64) -> Option<Held> {
        let with_these = |held: u64| held.checked_add(bytes).filter(|sum| *sum <= self.max_bytes);
        self.bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, with_these)
            .ok()?;
        Some(Held {
            of: Arc::clone(self),
            bytes,
        })
    }

    /// Begins to count what has to be held in any case, such as an answer: it makes new requests
    /// wait their turn and is never itself refused.
    pub fn count(self: &Arc<Self>) -> Held {
        Held {
            of: Arc::clone(self),
            bytes: 0,
        }
    }
}

impl Held {
    /// Counts more bytes, whether there is room for them or not.
    pub fn grow(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.of.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives back what is more than this.
    pub fn shrink_to(&mut self, bytes: u64) {
        let surplus = self.bytes.saturating_sub(bytes);
        self.bytes -= surplus;
        self.of.bytes.fetch_sub(surplus, Ordering::Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_given_back() {
        let held = Arc::new(HeldBytes::new(10));
        let mut body = held.reserve(6).expect("there is room");
        assert!(held.reserve(5).is_none(), "6 and 5 are more than 10");
        assert_eq!(held.now(), 6, "a refusal takes nothing");
        body.shrink_to(2);
        let rest = held.reserve(8).expect("there is room again");
        assert!(held.is_full());
        drop((body, rest));
        assert_eq!(held.now(), 0);
    }

    #[test]
    fn an_answer_is_counted_above_the_most_and_keeps_requests_out() {
        let held = Arc::new(HeldBytes::new(10));
        let mut answer = held.count();
        answer.grow(8);
        answer.grow(8);
        assert!(held.is_full());
        assert!(held.reserve(0).is_none(), "not even an empty one");
        drop(answer);
        assert!(held.reserve(10).is_some());
    }

    #[test]
    fn cores_that_reserve_at_once_never_pass_the_most() {
        let held = Arc::new(HeldBytes::new(100));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let body = held.reserve(40);
                        assert!(held.now() <= 100);
                        drop(body);
                    }
                });
            }
        });
        assert_eq!(held.now(), 0);
    }
}
