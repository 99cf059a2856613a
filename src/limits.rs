//! How much may be asked of MODEN: named policies, each with allowances of its own.
//!
//! For: [`Limits::admit`], which lets a request pass all policies or takes nothing of any, and
//! MODEN's own limit, which is honoured for all. Never does: wait, know what a client is called, or
//! lock across cores for longer than a look-up. Called by: `proxy`; `app` sweeps. Start reading at
//! [`Limits::admit`].
//!
//! ```text
//! admit -> MODEN said wait?          denied
//!       -> look at every policy      denied by the one that has no room for longest
//!       -> take of each, in order    one that was overtaken since: undo the others, denied
//!       -> Permit                    returns what counts requests at the same time when it ends
//! ```
//!
//! Two requests that look at once may both see the last room. Taking decides, so no policy ever
//! admits more than it allows; the one that comes second is denied and what it took is put back,
//! unless others have taken of it since. So a third one may be denied that would have had room: rare,
//! and counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;

use crate::config::{self, Dimension, LimitConfig, LimitMode};
use crate::telemetry::metrics::{Metrics, PolicyMetrics};

mod allowance;
mod concurrency;
mod fields;
mod key;
mod keys;
mod rate;
mod upstream;

use allowance::{Allowances, Full, Mark, Place, Taken};
use concurrency::Concurrency;
use fields::Fields;
use key::Key;
use rate::Rate;
use upstream::UpstreamLimit;

pub use key::Subject;

/// All policies of one configuration, and what was taken of them; shared by the cores.
#[derive(Debug)]
pub struct Limits {
    /// Times are nanoseconds since then, plus one, since governor's cells take zero for never.
    started: Instant,
    /// At most 32, so that a set of them is a `u32`.
    policies: Vec<Policy>,
    has_concurrency: bool,
    upstream: UpstreamLimit,
    policy_field: Option<HeaderValue>,
}

/// One policy at work.
#[derive(Debug)]
struct Policy {
    name: Arc<str>,
    per: Vec<Dimension>,
    mode: LimitMode,
    allowances: Kinds,
    metrics: PolicyMetrics,
    /// How it begins in `RateLimit`.
    field: Box<[u8]>,
}

#[derive(Debug)]
enum Kinds {
    Rate(Allowances<Rate>),
    Concurrency(Allowances<Concurrency>),
}

/// A request was admitted by every policy; dropped when it has ended.
#[derive(Debug)]
pub struct Permit {
    limits: Arc<Limits>,
    subject: Subject,
    /// Policies of which a cell was taken that several keys share.
    shared: PolicySet,
    /// Observed policies that had no room and of which nothing was taken.
    passed_over: PolicySet,
    /// `RateLimit` as of now; `None` if no enforced policy applied.
    field: Option<HeaderValue>,
}

/// A request was denied; nothing was taken of any policy.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the limit {policy} is exceeded")]
pub struct Denied {
    /// The policy that had no room for longest, or `upstream-limit`.
    pub policy: Arc<str>,
    /// When there may be room again; zero if nobody knows.
    pub wait: Duration,
    /// `RateLimit` of this policy; `None` for MODEN's limit, which nobody knows the size of.
    pub field: Option<HeaderValue>,
}

impl Denied {
    /// What `Retry-After` says: rounded up, so that nobody comes early, and at least 1.
    ///
    /// # Source
    /// RFC 9110, 10.2.3.
    pub fn retry_after_seconds(&self) -> u64 {
        fields::whole_seconds(self.wait).max(1)
    }
}

/// What `/status` tells of one policy.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PolicyStatus {
    /// The operator's name for it.
    pub name: Arc<str>,
    /// What it keeps apart.
    pub per: Vec<Dimension>,
    /// Whether it acts.
    pub mode: LimitMode,
    /// Requests admitted since the start.
    pub admitted: u64,
    /// Requests that had no room.
    pub denied: u64,
    /// Keys kept at present.
    pub keys: usize,
}

/// Some of the policies, by their place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct PolicySet(u32);

impl PolicySet {
    fn insert(&mut self, place: usize) {
        self.0 |= 1 << place;
    }

    fn contains(self, place: usize) -> bool {
        self.0 & (1 << place) != 0
    }
}

impl Limits {
    /// Makes every policy whole; `longest_hold_off` is `upstream.limit_max`.
    pub fn build(configs: &[LimitConfig], longest_hold_off: Duration, metrics: &Metrics) -> Self {
        let policies: Vec<_> = configs
            .iter()
            .map(|config| Policy::build(config, metrics))
            .collect();
        Self {
            started: Instant::now(),
            has_concurrency: policies
                .iter()
                .any(|policy| matches!(policy.allowances, Kinds::Concurrency(_))),
            policies,
            upstream: UpstreamLimit::new(longest_hold_off, metrics.upstream_limit_denied()),
            policy_field: fields::policies(configs),
        }
    }

    /// Lets a request pass all policies, or takes nothing of any; `None` where there are none.
    ///
    /// # Errors
    /// [`Denied`] by the enforced policy, or by MODEN's own limit, that has no room for longest.
    pub fn admit(
        self: &Arc<Self>,
        subject: Subject,
        now: Instant,
    ) -> Result<Option<Permit>, Denied> {
        let now_nanos = self.nanos(now);
        let held_off = self.upstream.wait(now_nanos);
        // Taking looks as well, so a single policy needs no look before.
        if held_off.is_some() || self.policies.len() > 1 {
            let fullest = self.fullest(&subject, now_nanos);
            match (held_off, fullest) {
                (Some(wait), Some((policy, full))) if full.wait > wait => {
                    return Err(policy.deny(full));
                }
                (Some(wait), _) => return Err(self.upstream.deny(wait)),
                (None, Some((policy, full))) => return Err(policy.deny(full)),
                (None, None) => {}
            }
        }
        if self.policies.is_empty() {
            return Ok(None);
        }
        self.take(subject, now_nanos).map(Some)
    }

    /// Denies while MODEN wants to be left alone; for a request that was admitted before it said so.
    ///
    /// # Errors
    /// [`Denied`] by MODEN's own limit.
    pub fn check_hold_off(&self) -> Result<(), Denied> {
        match self.hold_off_left() {
            None => Ok(()),
            Some(wait) => Err(self.upstream.deny(wait)),
        }
    }

    /// For how long MODEN wants to be left alone, if it does.
    pub fn hold_off_left(&self) -> Option<Duration> {
        // Most have never met one; those need not look at the clock.
        if self.upstream.was_never_held_off() {
            return None;
        }
        self.upstream.wait(self.nanos(Instant::now()))
    }

    /// The enforced policy that has no room for longest, if any has none.
    fn fullest(&self, subject: &Subject, now_nanos: u64) -> Option<(&Policy, Full)> {
        let enforced = self.policies.iter().filter(|policy| policy.is_enforced());
        enforced
            .filter_map(|policy| {
                let full = policy.look(&subject.key(&policy.per), now_nanos).err()?;
                Some((policy, full))
            })
            .max_by_key(|(_, full)| full.wait)
    }

    /// Takes one of each policy, in their order, or of none.
    fn take(self: &Arc<Self>, subject: Subject, now_nanos: u64) -> Result<Permit, Denied> {
        let mut admission = Admission {
            policies: &self.policies,
            subject,
            now_nanos,
            shared: PolicySet::default(),
            passed_over: PolicySet::default(),
            fields: Fields::default(),
        };
        admission.take_from(0)?;
        let Admission {
            shared,
            passed_over,
            fields,
            ..
        } = admission;
        for (place, policy) in self.policies.iter().enumerate() {
            policy.count(shared.contains(place), passed_over.contains(place));
        }
        Ok(Permit {
            limits: Arc::clone(self),
            subject,
            shared,
            passed_over,
            field: fields.finish(),
        })
    }

    /// MODEN has answered 429 and asked to wait this long: until then every request is denied.
    ///
    /// Longer than `upstream.limit_max` is not waited; a shorter wait than one that is running
    /// does not end that.
    pub fn hold_off(&self, wait: Duration, now: Instant) {
        self.upstream.hold_off(wait, self.nanos(now));
    }

    /// The value of `RateLimit-Policy`; `None` without enforced policies.
    pub fn policy_field(&self) -> Option<&HeaderValue> {
        self.policy_field.as_ref()
    }

    /// What each policy has done so far, in the order of the configuration.
    pub fn status(&self) -> Vec<PolicyStatus> {
        self.policies.iter().map(Policy::status).collect()
    }

    /// Forgets the keys whose allowances are whole again.
    ///
    /// It is done in slices and yields between them: neither a core that needs a slice nor another
    /// task of this thread waits for more than one.
    pub async fn sweep(&self) {
        for policy in &self.policies {
            for slice in 0..policy.slices() {
                policy.sweep(slice, self.nanos(Instant::now()));
                tokio::task::yield_now().await;
            }
            policy.show_keys();
        }
    }

    fn nanos(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.started).as_nanos();
        u64::try_from(elapsed).unwrap_or(u64::MAX).saturating_add(1)
    }
}

/// A request on its way through the policies.
struct Admission<'limits> {
    policies: &'limits [Policy],
    subject: Subject,
    now_nanos: u64,
    shared: PolicySet,
    passed_over: PolicySet,
    fields: Fields,
}

impl Admission<'_> {
    /// Takes one of each policy from this one on; what was taken of this one is undone if a later
    /// one has no room after all.
    fn take_from(&mut self, place: usize) -> Result<(), Denied> {
        let Some(policy) = self.policies.get(place) else {
            return Ok(());
        };
        let key = self.subject.key(&policy.per);
        let taken = match policy.take(&key, self.now_nanos) {
            Ok(taken) => taken,
            Err(_) if !policy.is_enforced() => {
                self.passed_over.insert(place);
                return self.take_from(place + 1);
            }
            Err(full) => {
                if self.policies.len() > 1 {
                    policy.metrics.lost_races.inc();
                }
                return Err(policy.deny(full));
            }
        };
        if taken.place == Place::Shared {
            self.shared.insert(place);
        }
        self.fields.add(policy, taken.standing);
        let rest = self.take_from(place + 1);
        if rest.is_err() {
            policy.undo(&key, taken);
        }
        rest
    }
}

impl Policy {
    fn build(config: &LimitConfig, metrics: &Metrics) -> Self {
        let allowances = match config.allowance {
            config::Allowance::Rate {
                requests,
                period,
                burst,
            } => Kinds::Rate(allowances(Rate::new(requests, period, burst), config)),
            config::Allowance::Concurrency(most) => {
                Kinds::Concurrency(allowances(Concurrency::new(most), config))
            }
        };
        Self {
            name: config.name.as_str().into(),
            per: config.per.clone(),
            mode: config.mode,
            allowances,
            metrics: metrics.policy(&config.name, config.mode),
            field: fields::beginning(&config.name),
        }
    }

    fn is_enforced(&self) -> bool {
        self.mode == LimitMode::Enforce
    }

    fn look(&self, key: &Key, now_nanos: u64) -> Result<(), Full> {
        match &self.allowances {
            Kinds::Rate(rates) => rates.look(key, now_nanos),
            Kinds::Concurrency(counts) => counts.look(key, now_nanos),
        }
    }

    fn take(&self, key: &Key, now_nanos: u64) -> Result<Taken, Full> {
        match &self.allowances {
            Kinds::Rate(rates) => rates.take(key, now_nanos),
            Kinds::Concurrency(counts) => counts.take(key, now_nanos),
        }
    }

    fn undo(&self, key: &Key, taken: Taken) {
        match &self.allowances {
            Kinds::Rate(rates) => rates.undo(key, taken.place, taken.mark),
            Kinds::Concurrency(counts) => counts.undo(key, taken.place, taken.mark),
        }
    }

    fn deny(&self, full: Full) -> Denied {
        self.metrics.denied.inc();
        Denied {
            policy: Arc::clone(&self.name),
            wait: full.wait,
            field: fields::exhausted(self, full.wait),
        }
    }

    /// Counts a request that all enforced policies admitted.
    fn count(&self, is_shared: bool, is_passed_over: bool) {
        if is_passed_over {
            self.metrics.denied.inc();
            return;
        }
        self.metrics.admitted.inc();
        if is_shared {
            self.metrics.overflows.inc();
        }
    }

    fn keys(&self) -> usize {
        match &self.allowances {
            Kinds::Rate(rates) => rates.keys(),
            Kinds::Concurrency(counts) => counts.keys(),
        }
    }

    fn slices(&self) -> usize {
        match &self.allowances {
            Kinds::Rate(rates) => rates.slices(),
            Kinds::Concurrency(counts) => counts.slices(),
        }
    }

    fn sweep(&self, slice: usize, now_nanos: u64) {
        match &self.allowances {
            Kinds::Rate(rates) => rates.sweep(slice, now_nanos),
            Kinds::Concurrency(counts) => counts.sweep(slice, now_nanos),
        }
    }

    fn show_keys(&self) {
        let keys = i64::try_from(self.keys()).unwrap_or(i64::MAX);
        self.metrics.keys.set(keys);
    }

    fn status(&self) -> PolicyStatus {
        PolicyStatus {
            name: Arc::clone(&self.name),
            per: self.per.clone(),
            mode: self.mode,
            admitted: self.metrics.admitted.get(),
            denied: self.metrics.denied.get(),
            keys: self.keys(),
        }
    }
}

fn allowances<K: allowance::Kind>(kind: K, config: &LimitConfig) -> Allowances<K> {
    if config.per.is_empty() {
        Allowances::of_gateway(kind)
    } else {
        Allowances::per_key(kind, config.max_keys)
    }
}

impl Permit {
    /// The value of `RateLimit` as of the admission; `None` if no enforced policy applied.
    pub fn field(&self) -> Option<&HeaderValue> {
        self.field.as_ref()
    }

    /// The observed policies that would have denied the request.
    pub fn observed(&self) -> impl Iterator<Item = &str> {
        let policies = self.limits.policies.iter().enumerate();
        policies
            .filter(|(place, _)| self.passed_over.contains(*place))
            .map(|(_, policy)| &*policy.name)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.limits.has_concurrency {
            return;
        }
        for (place, policy) in self.limits.policies.iter().enumerate() {
            if let Kinds::Concurrency(counts) = &policy.allowances
                && !self.passed_over.contains(place)
            {
                let cell = match self.shared.contains(place) {
                    true => Place::Shared,
                    false => Place::Own,
                };
                counts.undo(&self.subject.key(&policy.per), cell, Mark::default());
            }
        }
    }
}

#[cfg(test)]
mod tests;
