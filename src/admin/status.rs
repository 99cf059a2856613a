//! What is the gateway doing? One value that `/status` shows to programs and `/` to people.

use std::time::SystemTime;

use humantime::format_rfc3339_seconds;
use serde::Serialize;

use super::Parts;
use crate::credentials::CredentialFacts;
use crate::domain::Environment;
use crate::limits::{Limits, PolicyStatus};
use crate::proxy::Load;

/// The version of this program, and the commit that it was built from.
const VERSION: &str = env!("CARGO_PKG_VERSION");
const COMMIT: &str = env!("MODEN_GATEWAY_COMMIT");

/// The gateway at one moment; `null` stands for what is not there.
///
/// A new part is a field here and one line in [`Status::of`]; the page shows it by itself.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    environment: Environment,
    /// Counts configurations since the start, from 1.
    generation: u64,
    uptime_seconds: u64,
    version: &'static str,
    commit: &'static str,
    ready: bool,
    /// Why requests should go elsewhere.
    not_ready_because: Option<&'static str>,
    draining: bool,
    #[serde(flatten)]
    pause: PauseStatus,
    /// Where clients are served, as bound.
    listeners: Vec<String>,
    credential: Option<CredentialStatus>,
    /// In the order of the configuration.
    limits: Vec<PolicyStatus>,
    load: LoadStatus,
    upstream: UpstreamStatus,
}

/// Whether an operator has stopped the forwarding.
#[derive(Debug, Serialize)]
pub(super) struct PauseStatus {
    paused: bool,
    /// UTC, RFC 3339.
    paused_since: Option<String>,
}

/// The credential in use; nothing of its value.
#[derive(Debug, Serialize)]
struct CredentialStatus {
    slot: &'static str,
    age_seconds: u64,
    /// The kind of place that the secret came from.
    source: Option<&'static str>,
}

/// How much is going on, and the most of it.
#[derive(Debug, Serialize)]
struct LoadStatus {
    /// Requests from their admission to the end of their reply.
    in_flight: u64,
    max_in_flight: u64,
    /// Of request bodies and answers.
    held_bytes: u64,
    max_held_bytes: u64,
}

/// The way to MODEN.
#[derive(Debug, Serialize)]
struct UpstreamStatus {
    connections: ConnectionsStatus,
    /// For how long MODEN's own limit is still honoured.
    held_off_seconds: Option<u64>,
    /// `closed`, `open`, `half-open` or `off`.
    breaker: &'static str,
}

/// Open connections to MODEN.
#[derive(Debug, Serialize)]
struct ConnectionsStatus {
    busy: i64,
    idle: i64,
}

impl Status {
    /// Looks at all parts.
    pub(super) fn of(parts: &Parts) -> Self {
        let snapshot = parts.snapshot.load();
        let not_ready_because = parts.health.unready();
        Self {
            environment: snapshot.environment(),
            generation: snapshot.generation(),
            uptime_seconds: parts.health.uptime().as_secs(),
            version: VERSION,
            commit: COMMIT,
            ready: not_ready_because.is_none(),
            not_ready_because,
            draining: parts.health.is_draining(),
            pause: PauseStatus::new(parts.control.paused_since()),
            listeners: parts.listeners.clone(),
            credential: parts.credentials.facts().map(CredentialStatus::new),
            limits: snapshot.limits().status(),
            load: LoadStatus::of(snapshot.load()),
            upstream: UpstreamStatus::of(parts, snapshot.limits()),
        }
    }
}

impl PauseStatus {
    /// Takes the beginning of the pause, if there is one.
    pub(super) fn new(since: Option<SystemTime>) -> Self {
        Self {
            paused: since.is_some(),
            paused_since: since.map(|since| format_rfc3339_seconds(since).to_string()),
        }
    }
}

impl LoadStatus {
    fn of(load: &Load) -> Self {
        Self {
            in_flight: load.in_flight(),
            max_in_flight: load.max_in_flight(),
            held_bytes: load.held().now(),
            max_held_bytes: load.held().max(),
        }
    }
}

impl UpstreamStatus {
    fn of(parts: &Parts, limits: &Limits) -> Self {
        let metrics = parts.metrics.upstream();
        Self {
            connections: ConnectionsStatus {
                busy: metrics.busy.get(),
                idle: metrics.idle.get(),
            },
            held_off_seconds: limits.hold_off_left().map(|left| left.as_secs()),
            breaker: parts.breaker.state().as_str(),
        }
    }
}

impl CredentialStatus {
    fn new(facts: CredentialFacts) -> Self {
        Self {
            slot: facts.slot.as_str(),
            age_seconds: facts.age.as_secs(),
            source: facts.source,
        }
    }
}
