//! What goes wrong, and how often?

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytesize::ByteSize;
use http::HeaderValue;
use serde::{Deserialize, Serialize};

/// The request field that asks for a fault for this one request; it goes before any rule.
pub const FAULT_HEADER: &str = "simulator-fault";

/// How many rules are kept; beyond it the oldest gives way.
const RULES_MAX: usize = 64;

/// Where every simulator's dice begin, so that a failing test fails again.
const SEED: u64 = 0x6d6f_6465_6e00_0001;

/// One way to misbehave; as text `delay=250ms`, `429=5`, `lost-after-commit`, …
///
/// Those down to `reset-before` stand before the API: the request is read (for `reset-before` only its head) and
/// nothing is looked at or committed. The others act on whatever the API answers, refusals
/// included, after the order was committed and the request recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Fault {
    /// `401`: the answer to a wrong credential, however right it is.
    Unauthorized,
    /// `429` or `429=<seconds>`: too many requests.
    TooManyRequests {
        /// The value of `Retry-After` in seconds; without it the field is missing.
        retry_after: Option<u32>,
    },
    /// `500`: the simulator says that it failed.
    ServerError,
    /// `502`: as from a proxy in front of MODEN that got no valid answer.
    BadGateway,
    /// `503`: as from a MODEN that is not there for anybody, without a `Retry-After`.
    ServiceUnavailable,
    /// `504`: as from a proxy in front of MODEN that got no answer in time.
    GatewayTimeout,
    /// `reset-before`: TCP reset as soon as the head is read.
    ResetBefore,
    /// `delay=<duration>`: the answer waits.
    Delay(Duration),
    /// `lost-after-commit`: the connection closes without a byte of the answer.
    LostAfterCommit,
    /// `reset-during`: the answer's head and half of its content, then TCP reset.
    ResetDuring,
    /// `reset-after`: the whole answer, as if the connection lived on, then TCP reset.
    ResetAfter,
    /// `drip=<duration>`: the head at once, then this pause before each byte of the content.
    Drip(Duration),
    /// `large=<size>`: a 200 has this many bytes of filler for content.
    Large(u64),
}

/// Why a text names no fault.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// There is no fault of this name, or it lacks or does not take a value.
    #[error(
        "unknown fault; known are 401, 429[=<seconds>], 500, 502, 503, 504, reset-before, \
         delay=<duration>, lost-after-commit, reset-during, reset-after, drip=<duration> and large=<size>"
    )]
    Unknown,
    /// The value behind the fault's name cannot be read.
    #[error("the value of the fault {name} cannot be read")]
    Value {
        /// The fault's name.
        name: &'static str,
    },
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        Ok(match (name, value) {
            ("401", None) => Self::Unauthorized,
            ("429", None) => Self::TooManyRequests { retry_after: None },
            ("429", Some(value)) => Self::TooManyRequests {
                retry_after: Some(value.parse().map_err(|_| unreadable("429"))?),
            },
            ("500", None) => Self::ServerError,
            ("502", None) => Self::BadGateway,
            ("503", None) => Self::ServiceUnavailable,
            ("504", None) => Self::GatewayTimeout,
            ("reset-before", None) => Self::ResetBefore,
            ("delay", Some(value)) => Self::Delay(parse_duration("delay", value)?),
            ("lost-after-commit", None) => Self::LostAfterCommit,
            ("reset-during", None) => Self::ResetDuring,
            ("reset-after", None) => Self::ResetAfter,
            ("drip", Some(value)) => Self::Drip(parse_duration("drip", value)?),
            ("large", Some(value)) => {
                let size: ByteSize = value.parse().map_err(|_| unreadable("large"))?;
                Self::Large(size.as_u64())
            }
            _ => return Err(FaultError::Unknown),
        })
    }
}

fn parse_duration(name: &'static str, value: &str) -> Result<Duration, FaultError> {
    humantime::parse_duration(value).map_err(|_| unreadable(name))
}

fn unreadable(name: &'static str) -> FaultError {
    FaultError::Value { name }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unauthorized => formatter.write_str("401"),
            Self::TooManyRequests { retry_after: None } => formatter.write_str("429"),
            Self::TooManyRequests {
                retry_after: Some(seconds),
            } => write!(formatter, "429={seconds}"),
            Self::ServerError => formatter.write_str("500"),
            Self::BadGateway => formatter.write_str("502"),
            Self::ServiceUnavailable => formatter.write_str("503"),
            Self::GatewayTimeout => formatter.write_str("504"),
            Self::ResetBefore => formatter.write_str("reset-before"),
            Self::Delay(duration) => {
                write!(formatter, "delay={}", humantime::format_duration(*duration))
            }
            Self::LostAfterCommit => formatter.write_str("lost-after-commit"),
            Self::ResetDuring => formatter.write_str("reset-during"),
            Self::ResetAfter => formatter.write_str("reset-after"),
            Self::Drip(pace) => write!(formatter, "drip={}", humantime::format_duration(*pace)),
            Self::Large(length) => write!(formatter, "large={length}"),
        }
    }
}

impl TryFrom<String> for Fault {
    type Error = FaultError;

    fn try_from(text: String) -> Result<Self, FaultError> {
        text.parse()
    }
}

impl From<Fault> for String {
    fn from(fault: Fault) -> Self {
        fault.to_string()
    }
}

/// How often a fault strikes; as JSON `{"next":3}`, `{"share":0.1}` or `"always"`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Times {
    /// At this many requests from now on, then never.
    Next(u32),
    /// At this share of requests: 0 is none, 1 is all. The dice have a fixed seed.
    Share(f64),
    /// At every request.
    Always,
}

/// The rules in force, in the order in which they were set; the first that strikes wins.
pub(super) struct Faults {
    rules: Mutex<Rules>,
}

struct Rules {
    list: VecDeque<(Fault, Times)>,
    dice: Dice,
}

impl Faults {
    pub(super) fn new() -> Self {
        Self {
            rules: Mutex::new(Rules::new()),
        }
    }

    /// Adds a rule behind those that are there.
    pub(super) fn set(&self, fault: Fault, times: Times) {
        let mut rules = self.lock();
        if rules.list.len() == RULES_MAX {
            rules.list.pop_front();
        }
        rules.list.push_back((fault, times));
    }

    /// Forgets all rules and puts the dice back to their beginning.
    pub(super) fn clear(&self) {
        *self.lock() = Rules::new();
    }

    /// The fault for one request: the one it asks for itself, else that of the first rule that
    /// strikes.
    ///
    /// # Errors
    /// The request asks for a fault that does not exist; no rule is used up.
    pub(super) fn choose(&self, asked: Option<&HeaderValue>) -> Result<Option<Fault>, FaultError> {
        match asked {
            Some(asked) => {
                let text = asked.to_str().map_err(|_| FaultError::Unknown)?;
                text.parse().map(Some)
            }
            None => Ok(self.lock().strike()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rules {
    fn new() -> Self {
        Self {
            list: VecDeque::new(),
            dice: Dice(SEED),
        }
    }

    fn strike(&mut self) -> Option<Fault> {
        let dice = &mut self.dice;
        let struck = self.list.iter_mut().find_map(|(fault, times)| {
            let strikes = match times {
                Times::Next(0) => false,
                Times::Next(left) => {
                    *left -= 1;
                    true
                }
                Times::Share(share) => dice.roll() < *share,
                Times::Always => true,
            };
            strikes.then(|| fault.clone())
        });
        self.list.retain(|(_, times)| *times != Times::Next(0));
        struck
    }
}

/// A small generator of numbers that look random and are always the same.
///
/// # Source
/// SplitMix64, Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
struct Dice(u64);

impl Dice {
    /// The next number, from 0 up to but not including 1.
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        // The upper 53 bits are as many as a double holds exactly.
        (mixed >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_every_fault_that_it_writes() {
        let texts = [
            "401",
            "429",
            "429=5",
            "500",
            "502",
            "503",
            "504",
            "reset-before",
            "delay=250ms",
            "lost-after-commit",
            "reset-during",
            "reset-after",
            "drip=10ms",
            "large=3145728",
        ];
        for text in texts {
            let fault: Fault = text.parse().expect(text);
            assert_eq!(fault.to_string(), text);
        }
        assert_eq!(
            "large=3MiB".parse::<Fault>().ok(),
            Some(Fault::Large(3 << 20))
        );
    }

    #[test]
    fn refuses_faults_without_their_value_or_with_a_senseless_one() {
        for text in [
            "",
            "delay",
            "delay=5",
            "429=soon",
            "large=much",
            "500=1",
            "LOST",
        ] {
            assert!(text.parse::<Fault>().is_err(), "{text}");
        }
    }

    #[test]
    fn strikes_the_next_requests_and_then_no_more() {
        let faults = Faults::new();
        faults.set(Fault::ServerError, Times::Next(2));
        faults.set(Fault::ResetAfter, Times::Next(1));
        let struck = || faults.choose(None).expect("no header is always fine");
        assert_eq!(struck(), Some(Fault::ServerError));
        assert_eq!(struck(), Some(Fault::ServerError));
        assert_eq!(struck(), Some(Fault::ResetAfter));
        assert_eq!(struck(), None);
    }

    #[test]
    fn strikes_the_same_share_of_requests_every_time() {
        let series = || {
            let faults = Faults::new();
            faults.set(Fault::ServerError, Times::Share(0.25));
            let roll = |_| matches!(faults.choose(None), Ok(Some(_)));
            (0..4000).map(roll).collect::<Vec<bool>>()
        };
        let first = series();
        let struck = first.iter().filter(|struck| **struck).count();
        assert!((900..1100).contains(&struck), "{struck} of 4000");
        assert_eq!(first, series());
    }

    #[test]
    fn lets_the_oldest_rule_go_when_there_are_too_many() {
        let faults = Faults::new();
        faults.set(Fault::ServerError, Times::Always);
        for _ in 0..RULES_MAX {
            faults.set(Fault::Unauthorized, Times::Always);
        }
        assert_eq!(
            faults.choose(None).ok().flatten(),
            Some(Fault::Unauthorized)
        );
        assert_eq!(faults.lock().list.len(), RULES_MAX);
    }
}
