//! `[server]`: the process as a whole.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units;

/// How the process runs and how it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Worker threads; 0, the default, means one per core. Restart-only.
    #[schemars(range(max = 1024))]
    pub threads: usize,
    /// How long everything is still accepted after SIGTERM, while readiness fails already; default
    /// zero, 5 s on Kubernetes.
    ///
    /// As long as those who choose where connections go need to notice.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub drain_delay: Duration,
    /// How long running exchanges may take to end after `drain_delay`; default 30 s, zero does not
    /// wait.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub drain_timeout: Duration,
    /// Requests at once in the whole process, from their admission to the end of their reply;
    /// default 10 000, at least 1. One more is answered 503 `overloaded`. Restart-only.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_in_flight: u64,
    /// Bytes of request bodies and answers that are held in memory, by the whole process; default
    /// 256 MiB, at least `upstream.hold_body`. Restart-only.
    ///
    /// Each request takes, before its body comes, room for what may be held of it: its announced
    /// length, or `upstream.hold_body` if it announces none. Without that room it is answered 503
    /// `overloaded`. Answers are counted as they come and never cut for it: they are held in any case,
    /// and while they fill the room new requests are turned away.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub max_held_bytes: u64,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            threads: 0,
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(30),
            max_in_flight: 10_000,
            max_held_bytes: 256 * 1024 * 1024,
        }
    }
}
