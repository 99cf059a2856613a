//! Requests at the same time.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::allowance::{Full, Kind, Mark, Standing};

/// How many requests may be on their way at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Concurrency(u32);

/// Nobody knows when the next one ends.
const FULL: Full = Full {
    wait: Duration::ZERO,
};

impl Concurrency {
    pub(super) fn new(most: NonZeroU32) -> Self {
        Self(most.get())
    }
}

impl Kind for Concurrency {
    type Cell = AtomicU32;

    fn look(&self, running: &AtomicU32, _now_nanos: u64) -> Result<(), Full> {
        if running.load(Ordering::Relaxed) < self.0 {
            Ok(())
        } else {
            Err(FULL)
        }
    }

    fn take(&self, running: &AtomicU32, _now_nanos: u64) -> Result<(Standing, Mark), Full> {
        let one_more = |running| (running < self.0).then(|| running + 1);
        let before = running
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .map_err(|_| FULL)?;
        let standing = Standing {
            remaining: u64::from(self.0 - before - 1),
            wait: None,
        };
        Ok((standing, Mark::default()))
    }

    fn undo(&self, running: &AtomicU32, _mark: Mark) {
        let before = running.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "only what was taken is given back");
    }

    /// Nothing runs in it yet. What the key has running in the shared cell ends there, so for as
    /// long as that lasts it may have up to twice as many.
    fn fresh(&self, _shared: &AtomicU32) -> AtomicU32 {
        AtomicU32::default()
    }

    fn is_whole(&self, running: &AtomicU32, _now_nanos: u64) -> bool {
        running.load(Ordering::Relaxed) == 0
    }
}
