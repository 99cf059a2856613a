//! `RateLimit` and `RateLimit-Policy`: what a client can read of the enforced policies.
//!
//! # Source
//! draft-ietf-httpapi-ratelimit-headers-10, lists of Structured Field strings (RFC 9651) with
//! parameters: `q` quota, `w` window in seconds, `qu` unit; `r` remaining, `t` seconds.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;

use super::Policy;
use super::allowance::Standing;
use crate::config::{Allowance, LimitConfig, LimitMode};

/// The value of `RateLimit-Policy`, the same on every reply: the enforced policies; `None` if there
/// are none.
pub(super) fn policies(configs: &[LimitConfig]) -> Option<HeaderValue> {
    let items: Vec<_> = configs
        .iter()
        .filter(|config| config.mode == LimitMode::Enforce)
        .map(policy_item)
        .collect();
    let value = HeaderValue::try_from(items.join(", ")).expect("names are plain");
    (!items.is_empty()).then_some(value)
}

/// `w` is a whole number of seconds, so a period that is none is rounded up and `q` grows with it.
fn policy_item(config: &LimitConfig) -> String {
    match config.allowance {
        Allowance::Rate {
            requests, period, ..
        } => {
            let window = whole_seconds(period);
            let quota = u128::from(requests.get()) * u128::from(window) * 1_000_000_000
                / period.as_nanos().max(1);
            format!("\"{}\";q={quota};w={window}", config.name)
        }
        Allowance::Concurrency(most) => {
            format!("\"{}\";q={most};qu=\"concurrent-requests\"", config.name)
        }
    }
}

/// How a policy begins in `RateLimit`: up to its first number.
pub(super) fn beginning(name: &str) -> Box<[u8]> {
    format!("\"{name}\";r=").into_bytes().into()
}

/// The value of `RateLimit`, while it is put together.
#[derive(Default)]
pub(super) struct Fields(Vec<u8>);

impl Fields {
    /// Adds what is left of a policy; of an observed one nothing is told.
    pub(super) fn add(&mut self, policy: &Policy, standing: Standing) {
        if !policy.is_enforced() {
            return;
        }
        let Self(text) = self;
        if text.is_empty() {
            text.reserve(128);
        } else {
            text.extend_from_slice(b", ");
        }
        text.extend_from_slice(&policy.field);
        let mut digits = itoa::Buffer::new();
        text.extend_from_slice(digits.format(standing.remaining).as_bytes());
        if let Some(wait) = standing.wait {
            text.extend_from_slice(b";t=");
            text.extend_from_slice(digits.format(whole_seconds(wait)).as_bytes());
        }
    }

    pub(super) fn finish(self) -> Option<HeaderValue> {
        let Self(text) = self;
        if text.is_empty() {
            return None;
        }
        Some(HeaderValue::from_maybe_shared(Bytes::from(text)).expect("names and digits"))
    }
}

/// The value of `RateLimit` on a denial; `t` is what `Retry-After` says, which must not be earlier.
pub(super) fn exhausted(policy: &Policy, wait: Duration) -> Option<HeaderValue> {
    let mut fields = Fields::default();
    fields.add(
        policy,
        Standing {
            remaining: 0,
            wait: (!wait.is_zero()).then_some(wait),
        },
    );
    fields.finish()
}

/// Seconds, rounded up: a client that waits so long does not come early.
pub(super) fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
