//! The service manager's watchdog: told that the process is alive, as long as it is.

use std::sync::Arc;

use crate::admin::Health;
use crate::systemd;

/// Reports as often as the service manager wants, but only while no core is stuck; ends at once if
/// it wants nothing.
///
/// It runs on the control thread: if that is stuck, nothing is reported either.
pub(super) async fn keep_alive(health: Arc<Health>) {
    let Some(interval) = systemd::watchdog_interval() else {
        return;
    };
    let mut beats = tokio::time::interval(interval);
    loop {
        beats.tick().await;
        if health.is_alive() {
            systemd::alive();
        }
    }
}
