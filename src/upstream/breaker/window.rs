//! How many exchanges there were lately, and how many of them failed.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Parts of the window, each forgotten as a whole.
const SLICES: u64 = 10;

/// Bits of each of the two counts of a slice; the rest is for its number.
const COUNT_BITS: u32 = 24;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
const NUMBER_MASK: u64 = (1 << (64 - 2 * COUNT_BITS)) - 1;

/// Counts over a sliding time, without a lock.
#[derive(Debug)]
pub(super) struct Window {
    slice_nanos: u64,
    /// The slice with number n stands at n modulo their count. Each is one word: its number, cut to
    /// what fits; exchanges; failures. A full count counts no further, and its other neither, so
    /// that their relation holds.
    slices: [AtomicU64; SLICES as usize],
}

impl Window {
    pub(super) fn new(length: Duration) -> Self {
        let nanos = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        Self {
            slice_nanos: (nanos / SLICES).max(1),
            slices: array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Counts an exchange that ended now.
    pub(super) fn add(&self, now_nanos: u64, is_failure: bool) {
        let number = now_nanos / self.slice_nanos;
        let fresh = (number & NUMBER_MASK) << (2 * COUNT_BITS);
        let Some(slice) = self.slice(number) else {
            return;
        };
        let one = 1 << COUNT_BITS | u64::from(is_failure);
        let count = |word: u64| match word >> (2 * COUNT_BITS) == number & NUMBER_MASK {
            true if exchanges(word) == COUNT_MASK => None,
            true => Some(word + one),
            false => Some(fresh + one),
        };
        // It fails only where the slice is full.
        let _ = slice.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count);
    }

    /// Failures and exchanges of the window that ends now.
    pub(super) fn sum(&self, now_nanos: u64) -> (u64, u64) {
        let last = now_nanos / self.slice_nanos;
        let first = last.saturating_sub(SLICES - 1);
        (first..=last)
            .filter_map(|number| {
                let word = self.slice(number)?.load(Ordering::Relaxed);
                (word >> (2 * COUNT_BITS) == number & NUMBER_MASK).then_some(word)
            })
            .fold((0, 0), |(failures, all), word| {
                (failures + (word & COUNT_MASK), all + exchanges(word))
            })
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        for slice in &self.slices {
            slice.store(0, Ordering::Relaxed);
        }
    }

    fn slice(&self, number: u64) -> Option<&AtomicU64> {
        self.slices.get(usize::try_from(number % SLICES).ok()?)
    }
}

const fn exchanges(word: u64) -> u64 {
    word >> COUNT_BITS & COUNT_MASK
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn forgets_slice_by_slice() {
        let window = Window::new(Duration::from_secs(10));
        window.add(0, true);
        window.add(SECOND, false);
        window.add(9 * SECOND, true);
        assert_eq!(window.sum(10 * SECOND - 1), (2, 3));
        assert_eq!(window.sum(10 * SECOND), (1, 2));
        assert_eq!(window.sum(11 * SECOND), (1, 1));
        window.add(19 * SECOND, false);
        assert_eq!(window.sum(19 * SECOND), (0, 1));
        window.clear();
        assert_eq!(window.sum(19 * SECOND), (0, 0));
    }

    #[test]
    fn a_full_slice_keeps_its_relation() {
        let window = Window::new(Duration::from_secs(10));
        window.slices[0].store(COUNT_MASK << COUNT_BITS | 7, Ordering::Relaxed);
        window.add(0, true);
        window.add(0, false);
        assert_eq!(window.sum(0), (7, COUNT_MASK));
    }
}
