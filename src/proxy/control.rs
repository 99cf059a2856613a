//! The kill switch: whether requests are admitted at all.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What operators can switch while the gateway runs; it starts with requests admitted.
///
/// One for the process, read by every request without a lock. It is not kept anywhere: a restart
/// admits requests again.
#[derive(Debug, Default)]
pub struct Control {
    /// When the pause began, in milliseconds since 1970, at least 1; 0 while there is none.
    paused_at_millis: AtomicU64,
}

/// Requests are not admitted, because an operator wants it so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the gateway is paused")]
pub(super) struct Paused;

impl Control {
    /// Admits no request from now on; returns whether that is new.
    ///
    /// Exchanges that have begun are left to end; none that still waits for a connection begins.
    pub fn pause(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let millis = now.map_or(1, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        });
        self.paused_at_millis
            .compare_exchange(0, millis.max(1), Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Admits requests again; returns whether that is new.
    pub fn resume(&self) -> bool {
        self.paused_at_millis.swap(0, Ordering::AcqRel) != 0
    }

    /// When the pause began; `None` while requests are admitted.
    pub fn paused_since(&self) -> Option<SystemTime> {
        match self.paused_at_millis.load(Ordering::Acquire) {
            0 => None,
            millis => Some(UNIX_EPOCH + Duration::from_millis(millis)),
        }
    }

    /// Whether a request may go on.
    pub(super) fn admit(&self) -> Result<(), Paused> {
        match self.paused_at_millis.load(Ordering::Acquire) {
            0 => Ok(()),
            _ => Err(Paused),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_pause_changes_nothing_about_the_first() {
        let control = Control::default();
        assert_eq!((control.admit(), control.paused_since()), (Ok(()), None));
        assert!(control.pause());
        let since = control.paused_since();
        assert!(since.is_some());
        assert!(!control.pause());
        assert_eq!(
            (control.admit(), control.paused_since()),
            (Err(Paused), since)
        );
        assert!(control.resume());
        assert!(!control.resume());
        assert_eq!(control.admit(), Ok(()));
    }
}
