//! The nouns that several rooms share.
//!
//! For: names and small values that travel between rooms. Never does: I/O, or anything that can
//! fail at run time beyond parsing. Called by: everybody. Start reading at [`Outcome`].

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use network::Network;
pub use path::{CanonicalPath, PathCharacters};

mod network;
mod path;

/// Which of MODEN's two environments this process serves.
///
/// Both live on one host and differ only in a path prefix, so the choice is made once, in the
/// configuration, and has no default.
///
/// # Source
/// MODEN help pages "Quick start" and "Create payment", 2021-03-23.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// Test money.
    Sandbox,
    /// Real money; the configuration must also say `armed = true`.
    Production,
}

impl Environment {
    /// The name used in configuration, headers, log lines and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Production => "production",
        }
    }

    /// Reads the name used in configuration; letter case counts.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "sandbox" => Some(Self::Sandbox),
            "production" => Some(Self::Production),
            _ => None,
        }
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What became of one request at MODEN: the verdict that every reply and log line carries.
///
/// It comes from counting bytes, never from the type of an error, and speaks of this request
/// only, not of the order that the request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// This request added nothing at MODEN: not one byte of it left.
    NotSent,
    /// MODEN's answer is complete.
    Answered,
    /// Bytes left and no complete answer came back; MODEN may or may not have acted.
    Unknown,
}

impl Outcome {
    /// The value of `Gateway-Outcome` and of the log field `outcome`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotSent => "not-sent",
            Self::Answered => "answered",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// The name of a route as the configuration gives it; cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct RouteName(Arc<str>);

impl RouteName {
    /// Takes the name as it stands in the configuration.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RouteName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
