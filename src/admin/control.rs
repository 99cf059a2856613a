//! The kill switch by HTTP: `POST /control/pause` and `/control/resume`.
//!
//! Both may be repeated: asking for what is so already changes nothing and is no error.

use std::net::SocketAddr;

use serde::Serialize;

use super::Parts;
use super::status::PauseStatus;

/// Which way to turn it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Admit no more requests.
    Pause,
    /// Admit them again.
    Resume,
}

/// What is so now.
#[derive(Debug, Serialize)]
pub(super) struct Effect {
    #[serde(flatten)]
    pause: PauseStatus,
    /// Whether it was otherwise before.
    changed: bool,
}

/// Does it; what it changes stands in the log, with who wanted it, and in a metric.
pub(super) fn apply(turn: Turn, parts: &Parts, peer: SocketAddr) -> Effect {
    let control = &parts.control;
    let changed = match turn {
        Turn::Pause => control.pause(),
        Turn::Resume => control.resume(),
    };
    match turn {
        _ if !changed => {}
        Turn::Pause => tracing::warn!(%peer, "paused: no request is forwarded until resumed"),
        Turn::Resume => tracing::warn!(%peer, "resumed: requests are forwarded again"),
    }
    let since = control.paused_since();
    parts.metrics.paused.set(since.is_some().into());
    Effect {
        pause: PauseStatus::new(since),
        changed,
    }
}
