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
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            threads: 0,
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(30),
        }
    }
}
