//! `[[limits]]`: how much may be asked of MODEN, by whom; without any, nothing is limited.

use std::num::NonZeroU32;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::faults::Report;
use super::{Expected, name, units};

/// The longest name of a policy, in bytes; it is a label of metrics.
/// The policies that one request is held against, at most.
const MOST_POLICIES: usize = 32;

/// What MODEN's own limit is called in logs and metrics; no policy may have this name.
pub const UPSTREAM_LIMIT: &str = "upstream-limit";

/// What a policy does not say.
const DEFAULT_PERIOD: Duration = Duration::from_secs(1);
const DEFAULT_MAX_KEYS: usize = 100_000;
const MOST_KEYS: usize = 10_000_000;

/// An allowance that takes longer than this to come back is a slip of a number.
const LONGEST_REFILL: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// One named limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitConfig {
    /// `[a-z0-9-]{1,64}`, unique.
    pub name: String,
    /// What has an allowance of its own; empty for one allowance of the whole gateway.
    pub per: Vec<Dimension>,
    /// How much is allowed.
    pub allowance: Allowance,
    /// What happens when it is exceeded.
    pub mode: LimitMode,
    /// How many allowances are kept apart; beyond it new keys share one.
    pub max_keys: usize,
}

/// How much a policy allows each of its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// Requests over time.
    Rate {
        /// How many in one `period`, evenly.
        requests: NonZeroU32,
        /// The time they are for.
        period: Duration,
        /// How many at once after a rest.
        burst: NonZeroU32,
    },
    /// Requests at the same time.
    Concurrency(NonZeroU32),
}

/// A property of a request that allowances are kept apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(extend("x-expected" = "\"route\" or \"client_ip\" (\"client\" is not built yet)"))]
pub enum Dimension {
    /// The route that matched.
    Route,
    /// The peer's address, of IPv6 the /64; all peers of a Unix socket are one.
    ClientIp,
}

/// Whether a policy acts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LimitMode {
    /// Requests beyond the allowance are answered 429.
    #[default]
    Enforce,
    /// They are counted and marked in the access log, and pass.
    Observe,
}

impl LimitMode {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
        }
    }
}

/// An element of the list as it is written.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LimitFile {
    /// Lower-case letters, digits and hyphens, at most 64, unique; it stands in logs, metrics and
    /// replies.
    #[schemars(required)]
    name: Option<String>,
    /// What has an allowance of its own: `route`, `client_ip` (/64 for IPv6), or both; empty, the
    /// default, means one allowance for the whole gateway.
    per: Vec<Dimension>,
    /// How many requests in a period.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1))]
    requests: Option<u32>,
    /// The time that `requests` are for; default 1 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "units::DurationText")]
    period: Option<Period>,
    /// How many at once after a rest; default `requests`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1))]
    burst: Option<u32>,
    /// How many at the same time, instead of `requests` and `period`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1))]
    concurrency: Option<u32>,
    /// `enforce`, the default, or `observe`.
    mode: LimitMode,
    /// How many keys are kept apart, beyond which new ones share an allowance; default 100000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "usize", range(min = 1, max = 10_000_000))]
    max_keys: Option<usize>,
}

/// A period as it is written.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct Period(#[serde(with = "units::positive_duration")] Duration);

/// Parses the policies, and checks that each has a name of its own.
pub(super) fn build(files: Vec<LimitFile>, report: &mut Report) -> Vec<LimitConfig> {
    if files.len() > MOST_POLICIES {
        report.fault("limits", "expected at most 32 policies, found more");
    }
    let limits: Vec<(usize, LimitConfig)> = files
        .into_iter()
        .enumerate()
        .filter_map(|(index, file)| Some((index, file.build(index, report)?)))
        .collect();
    for (position, (index, limit)) in limits.iter().enumerate() {
        let mut earlier = limits.iter().take(position);
        if let Some((first, _)) = earlier.find(|(_, other)| other.name == limit.name) {
            let message = format!("is the same as limits[{first}].name");
            report.fault(&format!("limits[{index}].name"), message);
        }
    }
    limits.into_iter().map(|(_, limit)| limit).collect()
}

impl LimitFile {
    fn build(self, index: usize, report: &mut Report) -> Option<LimitConfig> {
        let key = |name: &str| format!("limits[{index}].{name}");
        let name = self
            .name
            .clone()
            .ok_or(Expected("a value, found none: the key is missing"))
            .and_then(parse_name)
            .map_err(|expected| report.fault(&key("name"), expected.to_string()));
        let is_twice = |(at, dimension)| self.per.iter().take(at).any(|other| other == dimension);
        let repeated = self.per.iter().enumerate().find(|entry| is_twice(*entry));
        if let Some((at, _)) = repeated {
            report.fault(
                &format!("{}[{at}]", key("per")),
                "expected each word once, found it a second time",
            );
        }
        if self.per.is_empty() && self.max_keys.is_some() {
            report.fault(
                &key("max_keys"),
                "is of no use without per: the whole gateway has one allowance",
            );
        }
        let allowance = self.allowance(&key, report);
        Some(LimitConfig {
            name: name.ok()?,
            per: self.per,
            allowance: allowance?,
            mode: self.mode,
            max_keys: self
                .max_keys
                .unwrap_or(DEFAULT_MAX_KEYS)
                .clamp(1, MOST_KEYS),
        })
    }

    fn allowance(&self, key: &dyn Fn(&str) -> String, report: &mut Report) -> Option<Allowance> {
        if let Some(concurrency) = self.concurrency {
            for (name, is_there) in [
                ("requests", self.requests.is_some()),
                ("period", self.period.is_some()),
                ("burst", self.burst.is_some()),
            ] {
                if is_there {
                    report.fault(
                        &key(name),
                        "is not for a policy with concurrency; a policy has one of the two, write \
                         another one for this",
                    );
                }
            }
            return NonZeroU32::new(concurrency).map(Allowance::Concurrency);
        }
        let Some(requests) = self.requests else {
            // A concurrency that is at fault was left out already.
            if !report.is_at_fault(&key("concurrency")) {
                report.fault(
                    &key("requests"),
                    "expected a number, found none: a policy needs requests or concurrency",
                );
            }
            return None;
        };
        let period = self.period.map_or(DEFAULT_PERIOD, |period| period.0);
        let requests = NonZeroU32::new(requests)?;
        let burst = NonZeroU32::new(self.burst.unwrap_or(requests.get()))?;
        let one = period / requests.get();
        // Intervals are whole nanoseconds: below this, rounding would be felt.
        if one < Duration::from_micros(1) {
            report.fault(
                &key("requests"),
                "expected at most one request a microsecond, found more",
            );
            return None;
        }
        if one
            .checked_mul(burst.get())
            .is_none_or(|refill| refill > LONGEST_REFILL)
        {
            report.fault(
                &key(if self.burst.is_some() {
                    "burst"
                } else {
                    "period"
                }),
                "expected an allowance that is whole again within 30 days, found a larger one",
            );
            return None;
        }
        Some(Allowance::Rate {
            requests,
            period,
            burst,
        })
    }
}

fn parse_name(text: String) -> Result<String, Expected> {
    let is_reserved =
        Expected("another name than upstream-limit, which stands for MODEN's own limit");
    name::parse(text, UPSTREAM_LIMIT, is_reserved)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(name: &str, requests: u32) -> LimitFile {
        LimitFile {
            name: Some(name.into()),
            requests: Some(requests),
            ..LimitFile::default()
        }
    }

    /// Keys of the faults that these policies have.
    fn faults(files: Vec<LimitFile>) -> Vec<String> {
        let mut report = Report::default();
        build(files, &mut report);
        let faults = report.finish().1.0;
        faults.into_iter().map(|fault| fault.key).collect()
    }

    #[test]
    fn fills_in_what_a_policy_does_not_say() {
        let limits = build(vec![rate("all", 50)], &mut Report::default());
        let fifty = NonZeroU32::new(50).expect("not zero");
        assert_eq!(
            limits,
            [LimitConfig {
                name: "all".into(),
                per: Vec::new(),
                allowance: Allowance::Rate {
                    requests: fifty,
                    period: Duration::from_secs(1),
                    burst: fifty,
                },
                mode: LimitMode::Enforce,
                max_keys: 100_000,
            }]
        );
    }

    #[test]
    fn wants_either_a_rate_or_a_concurrency() {
        let neither = LimitFile {
            requests: None,
            ..rate("a", 1)
        };
        assert_eq!(faults(vec![neither]), ["limits[0].requests"]);
        let both = LimitFile {
            concurrency: Some(3),
            burst: Some(1),
            period: Some(Period(DEFAULT_PERIOD)),
            ..rate("a", 1)
        };
        assert_eq!(
            faults(vec![both]),
            ["limits[0].burst", "limits[0].period", "limits[0].requests"]
        );
    }

    #[test]
    fn wants_a_name_of_its_own_for_each_policy() {
        assert_eq!(
            faults(vec![LimitFile {
                name: None,
                ..rate("", 1)
            }]),
            ["limits[0].name"]
        );
        for name in ["", "Upper", "a b", UPSTREAM_LIMIT, &"x".repeat(65)] {
            assert_eq!(faults(vec![rate(name, 1)]), ["limits[0].name"], "{name}");
        }
        assert_eq!(faults(vec![rate("a", 1), rate("a", 1)]), ["limits[1].name"]);
    }

    #[test]
    fn refuses_allowances_that_no_clock_can_count() {
        let endless = LimitFile {
            period: Some(Period(Duration::from_secs(86_400))),
            burst: Some(u32::MAX),
            ..rate("a", 1)
        };
        assert_eq!(faults(vec![endless]), ["limits[0].burst"]);
        let instant = LimitFile {
            period: Some(Period(Duration::from_millis(1))),
            ..rate("a", u32::MAX)
        };
        assert_eq!(faults(vec![instant]), ["limits[0].requests"]);
    }

    #[test]
    fn refuses_a_dimension_twice() {
        let twice = LimitFile {
            per: vec![Dimension::Route, Dimension::ClientIp, Dimension::Route],
            ..rate("a", 1)
        };
        assert_eq!(faults(vec![twice]), ["limits[0].per[2]"]);
    }

    #[test]
    fn refuses_a_bound_on_keys_that_are_not_there() {
        let keyless = LimitFile {
            max_keys: Some(10),
            ..rate("a", 1)
        };
        assert_eq!(faults(vec![keyless]), ["limits[0].max_keys"]);
    }
}
