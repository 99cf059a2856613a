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

/// What is counted of one answer; dropping it counts it out.
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

    /// Makes room for a new request's body; whether there was enough, else nothing is taken.
    ///
    /// Who has it gives it back with [`Self::release`].
    #[must_use]
    pub fn reserve(&self, bytes: u64) -> bool {
        let with_these = |held: u64| held.checked_add(bytes).filter(|sum| *sum <= self.max_bytes);
        self.bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, with_these)
            .is_ok()
    }

    /// Gives back what was reserved, or a part of it.
    pub fn release(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
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
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_takes_nothing() {
        let held = HeldBytes::new(10);
        assert!(held.reserve(6));
        assert!(!held.reserve(5), "6 and 5 are more than 10");
        assert_eq!(held.now(), 6);
        held.release(4);
        assert!(held.reserve(8));
        assert!(held.is_full());
        held.release(10);
        assert_eq!(held.now(), 0);
    }

    #[test]
    fn an_answer_is_counted_above_the_most_and_keeps_requests_out() {
        let held = Arc::new(HeldBytes::new(10));
        let mut answer = held.count();
        answer.grow(8);
        answer.grow(8);
        assert!(held.is_full());
        assert!(!held.reserve(0), "not even an empty one");
        drop(answer);
        assert!(held.reserve(10));
    }

    #[test]
    fn cores_that_reserve_at_once_never_pass_the_most() {
        let held = HeldBytes::new(100);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let has_room = held.reserve(40);
                        assert!(held.now() <= 100);
                        held.release(if has_room { 40 } else { 0 });
                    }
                });
            }
        });
        assert_eq!(held.now(), 0);
    }
}
