//! The service manager's watchdog: told that the process is alive, as long as it is.

use std::sync::Arc;

use tokio::time::MissedTickBehavior;

use crate::admin::Health;
use crate::systemd::{self, Notifier};

/// Reports as often as the service manager wants, but only while no core is stuck; ends at once if
/// it wants nothing.
///
/// It runs on the control thread: if that is stuck, nothing is reported either.
pub(super) async fn keep_alive(health: Arc<Health>, notifier: Arc<Notifier>) {
    let Some(interval) = systemd::watchdog_interval() else {
        return;
    };
    let mut beats = tokio::time::interval(interval);
    // After standing still: beats that are told at once would come before the cores' signs of life.
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        if health.is_alive() {
            notifier.alive();
        }
    }
}
