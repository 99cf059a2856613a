//! The kill switch by HTTP: `POST /control/pause` and `/control/resume`.
//!
//! Both may be repeated: asking for what is so already changes nothing and is no error.

use std::net::SocketAddr;

use serde::Serialize;

use super::status::PauseStatus;
use crate::proxy::Control;

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

/// Does it; what it changes stands in the log, with who wanted it.
pub(super) fn apply(turn: Turn, control: &Control, peer: SocketAddr) -> Effect {
    let changed = match turn {
        Turn::Pause => control.pause(),
        Turn::Resume => control.resume(),
    };
    match turn {
        _ if !changed => {}
        Turn::Pause => tracing::warn!(%peer, "paused: no request is forwarded until resumed"),
        Turn::Resume => tracing::warn!(%peer, "resumed: requests are forwarded again"),
    }
    Effect {
        pause: PauseStatus::new(control.paused_since()),
        changed,
    }
}
