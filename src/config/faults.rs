//! Faults of a configuration, collected so that all of them are told at once.

use std::collections::BTreeMap;
use std::fmt;

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The key's path, such as `listeners[1].address`; empty when a file as a whole is meant.
    pub key: String,
    /// The file, variable or flag that it stands in.
    pub origin: String,
    /// What was expected; never what the value is.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: ", self.origin)?;
        if !self.key.is_empty() {
            write!(formatter, "{}: ", self.key)?;
        }
        formatter.write_str(&self.message)
    }
}

/// Everything that is wrong with a configuration, by origin, then by key; one line a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFaults(pub Vec<Fault>);

impl fmt::Display for ConfigFaults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            let line_end = if index == 0 { "" } else { "\n" };
            write!(formatter, "{line_end}{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigFaults {}

/// Collects faults and warnings while a configuration is read.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Key path to file, variable or flag, for every key that was given.
    origins: BTreeMap<String, String>,
    /// Where a key that was not given would be expected: the last file that was read, or the
    /// place where there was none.
    usual_origin: String,
    faults: Vec<Fault>,
    warnings: Vec<String>,
}

impl Report {
    /// Tells a fault whose origin is at hand; the same key is told once an origin.
    pub(super) fn fault_in(&mut self, origin: &str, key: &str, message: impl Into<String>) {
        let is_told = |fault: &Fault| fault.origin == origin && fault.key == key;
        if key.is_empty() || !self.faults.iter().any(is_told) {
            self.faults.push(Fault {
                key: key.into(),
                origin: origin.into(),
                message: message.into(),
            });
        }
    }

    /// Tells a fault of a merged value, unless this key or one above it is at fault already: then
    /// a default stands in its place, and what is wrong with that is of no interest.
    pub(super) fn fault(&mut self, key: &str, message: impl Into<String>) {
        if !self.is_at_fault(key) {
            let origin = self.origin(key).to_owned();
            self.fault_in(&origin, key, message);
        }
    }

    /// Whether a fault of this key, or of one above it, has been told, so that a default stands in.
    pub(super) fn is_at_fault(&self, key: &str) -> bool {
        self.faults.iter().any(|fault| contains(&fault.key, key))
    }

    /// Tells something that is allowed but worth a second look.
    pub(super) fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    /// The warnings so far.
    pub(super) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Takes note of where every key came from.
    pub(super) fn know_origins(&mut self, origins: BTreeMap<String, String>, usual_origin: String) {
        self.origins = origins;
        self.usual_origin = usual_origin;
    }

    /// The warnings and the faults, in their order of display.
    pub(super) fn finish(mut self) -> (Vec<String>, ConfigFaults) {
        self.faults
            .sort_by(|a, b| (&a.origin, &a.key).cmp(&(&b.origin, &b.key)));
        (self.warnings, ConfigFaults(self.faults))
    }

    /// Where a key came from, or else the table that it would stand in.
    fn origin(&self, key: &str) -> &str {
        // A merged table has no origin of its own; it stands where its first key does.
        if let Some((_, origin)) = self.origins.iter().find(|(known, _)| contains(key, known)) {
            return origin;
        }
        let mut key = key;
        loop {
            if let Some(origin) = self.origins.get(key) {
                return origin;
            }
            match key.rsplit_once(['.', '[']) {
                Some((above, _)) => key = above,
                None => return &self.usual_origin,
            }
        }
    }
}

/// Whether the key path `outer` is `inner`, or a table or list around it.
fn contains(outer: &str, inner: &str) -> bool {
    !outer.is_empty()
        && inner
            .strip_prefix(outer)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}
