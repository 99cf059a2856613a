//! The merged configuration, from which sections are taken one by one.
//!
//! serde stops at the first fault. So a faulty value is told, taken out of its section, and the
//! section is read again with the default in its place, until the whole of it has been judged.

use std::collections::BTreeMap;

use config::{ConfigError, Map, Value, ValueKind};
use serde::de::DeserializeOwned;

use super::faults::Report;

/// All layers merged; its keys and types fit the schema.
#[derive(Debug)]
pub(super) struct Tree(Map<String, Value>);

impl Tree {
    /// Takes over the merged table.
    pub(super) fn new(root: Value) -> Self {
        match root.kind {
            ValueKind::Table(table) => Self(table),
            _ => Self(Map::new()),
        }
    }

    /// Takes a section out and reads it; a section that is not there is all defaults.
    pub(super) fn section<T>(&mut self, name: &str, report: &mut Report) -> T
    where
        T: DeserializeOwned + Default,
    {
        self.0
            .remove(name)
            .and_then(|value| read(value, name, report))
            .unwrap_or_default()
    }

    /// Takes a list of tables out and reads its elements one by one; `None` if it is not there.
    ///
    /// An element that cannot be read is left out, and told.
    pub(super) fn list<T: DeserializeOwned>(
        &mut self,
        name: &str,
        report: &mut Report,
    ) -> Option<Vec<T>> {
        let ValueKind::Array(elements) = self.0.remove(name)?.kind else {
            return None;
        };
        if elements.is_empty() {
            report.fault(name, "is empty; leave it out to have the default");
        }
        let numbered = elements.into_iter().enumerate();
        Some(
            numbered
                .filter_map(|(index, element)| read(element, &format!("{name}[{index}]"), report))
                .collect(),
        )
    }
}

/// Where every key below `value` came from.
pub(super) fn origins(value: &Value) -> BTreeMap<String, String> {
    let mut origins = BTreeMap::new();
    note_origins("", value, &mut origins);
    origins
}

fn note_origins(key: &str, value: &Value, origins: &mut BTreeMap<String, String>) {
    if let Some(origin) = value.origin() {
        origins.insert(key.into(), origin.into());
    }
    match &value.kind {
        ValueKind::Table(table) => {
            for (name, value) in table {
                note_origins(&join(key, name), value, origins);
            }
        }
        ValueKind::Array(elements) => {
            for (index, value) in elements.iter().enumerate() {
                note_origins(&format!("{key}[{index}]"), value, origins);
            }
        }
        _ => {}
    }
}

/// The path of a key inside a table.
pub(super) fn join(table: &str, key: &str) -> String {
    if table.is_empty() {
        key.into()
    } else {
        format!("{table}.{key}")
    }
}

/// Reads one table; each faulty value in it is told under its key, and its default stands in.
fn read<T: DeserializeOwned>(mut table: Value, path: &str, report: &mut Report) -> Option<T> {
    loop {
        let error = match table.clone().try_deserialize() {
            Ok(section) => return Some(section),
            Err(error) => error,
        };
        let (key, message) = explain(error);
        report.fault(&join(path, &key), message);
        if !remove(&mut table, &key) {
            return None;
        }
    }
}

/// The key inside the section, and what was expected there.
///
/// Messages of serde and of `config` quote the value. Only those of this room are passed on; they
/// all begin with "expected".
fn explain(error: ConfigError) -> (String, String) {
    let (key, message) = match error {
        ConfigError::At { error, key, .. } => (key, error.to_string()),
        ConfigError::Type { key, expected, .. } => (key, format!("expected {expected}")),
        other => (None, other.to_string()),
    };
    let message = if message.starts_with("expected ") {
        message
    } else {
        "could not be read".into()
    };
    (key.unwrap_or_default(), message)
}

/// Takes the value at a path of table keys out; whether it was there.
fn remove(value: &mut Value, key: &str) -> bool {
    let ValueKind::Table(table) = &mut value.kind else {
        return false;
    };
    match key.split_once('.') {
        None => table.remove(key).is_some(),
        Some((first, rest)) => table
            .get_mut(first)
            .is_some_and(|inner| remove(inner, rest)),
    }
}
