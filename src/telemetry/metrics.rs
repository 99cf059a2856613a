//! Every metric of the gateway, in one file: what exists, with which labels, and how it is shown.
//!
//! A metric is a documented field here and nowhere else. Rooms are handed their handles, resolved
//! once when the configuration is loaded; nothing on a request's way looks a label up. Label values
//! come from closed sets (routes, policies, listeners of the configuration; words of the code),
//! never from what a client sent, so the number of series is fixed when the process starts.
//!
//! All counts are shared by the cores: one relaxed addition each.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::config::{Config, LimitMode};

/// All metrics of one process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    limits_admitted: IntCounterVec,
    limits_denied: IntCounterVec,
    limits_lost_races: IntCounterVec,
    limits_overflows: IntCounterVec,
    limits_keys: IntGaugeVec,
}

/// One policy's handles.
#[derive(Clone, Debug)]
pub struct PolicyMetrics {
    /// Requests that had room in this policy and were admitted by all.
    pub admitted: IntCounter,
    /// Requests that had no room in it: denied, or with `mode = "observe"` only counted.
    pub denied: IntCounter,
    /// Of the denied, those that had room when looked at and none when taking it, because another
    /// request came between.
    pub lost_races: IntCounter,
    /// Requests whose key was new when `max_keys` were there already, and shared an allowance.
    pub overflows: IntCounter,
    /// Keys kept at present.
    pub keys: IntGauge,
}

impl Metrics {
    /// Makes all metrics, with the environment as a label of each.
    pub fn build(config: &Config) -> Self {
        let labels = [(
            "environment".to_owned(),
            config.environment.as_str().to_owned(),
        )];
        let registry =
            Registry::new_custom(None, Some(labels.into())).expect("one label with a valid name");
        let policy = &["policy", "mode"];
        Self {
            limits_admitted: counters(
                &registry,
                "gateway_limits_admitted_total",
                "Requests that had room in a policy and were admitted by all.",
                policy,
            ),
            limits_denied: counters(
                &registry,
                "gateway_limits_denied_total",
                "Requests that had no room in a policy: denied, or with mode observe only counted.",
                policy,
            ),
            limits_lost_races: counters(
                &registry,
                "gateway_limits_lost_races_total",
                "Denials of requests that had room when looked at and none when taking it.",
                policy,
            ),
            limits_overflows: counters(
                &registry,
                "gateway_limits_overflows_total",
                "Requests that shared an allowance because the policy had max_keys keys.",
                policy,
            ),
            limits_keys: gauges(
                &registry,
                "gateway_limits_keys",
                "Keys that a policy keeps at present.",
                policy,
            ),
            registry,
        }
    }

    /// The handles of one policy.
    pub fn policy(&self, name: &str, mode: LimitMode) -> PolicyMetrics {
        let labels = &[name, mode.as_str()];
        PolicyMetrics {
            admitted: self.limits_admitted.with_label_values(labels),
            denied: self.limits_denied.with_label_values(labels),
            lost_races: self.limits_lost_races.with_label_values(labels),
            overflows: self.limits_overflows.with_label_values(labels),
            keys: self.limits_keys.with_label_values(labels),
        }
    }

    /// All metrics as text.
    ///
    /// # Source
    /// Prometheus text exposition format, version 0.0.4.
    pub fn render(&self) -> String {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .expect("names and labels were checked when the metrics were made")
    }
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    let counters = IntCounterVec::new(Opts::new(name, help), labels).expect("a valid name");
    let handle = Box::new(counters.clone());
    registry.register(handle).expect("a name of its own");
    counters
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    let gauges = IntGaugeVec::new(Opts::new(name, help), labels).expect("a valid name");
    let handle = Box::new(gauges.clone());
    registry.register(handle).expect("a name of its own");
    gauges
}
