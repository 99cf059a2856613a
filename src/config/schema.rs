//! The JSON Schema of the file, and the check of keys and types against it.
//!
//! The schema is made from the sections' types, so that it cannot be behind them. It serves
//! editors and the `schema` command, and it is this room's list of known keys: every layer is
//! walked along it before the layers are merged, so that one walk tells all unknown keys and wrong
//! types of a file, and what remains fits the types.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use config::{Map, Value, ValueKind};
use schemars::generate::SchemaSettings;
use serde_json::Value as Json;

use super::ConfigFile;
use super::faults::Report;
use super::tree::join;

/// The keyword that says what a value should be, for messages; JSON Schema lets `x-` words be.
const EXPECTED: &str = "x-expected";

/// The JSON Schema (2020-12) of the operator's file.
pub fn schema() -> Json {
    SchemaSettings::draft2020_12()
        .with(|settings| settings.inline_subschemas = true)
        .into_generator()
        .into_root_schema_for::<ConfigFile>()
        .to_value()
}

/// All keys that exist, and their types.
#[derive(Debug)]
pub(super) struct KnownKeys(Json);

impl KnownKeys {
    /// The list, made from the types of all sections the first time that it is asked for: to make
    /// it takes longer than to read a file by it.
    pub(super) fn all() -> &'static Self {
        static ALL: LazyLock<KnownKeys> = LazyLock::new(|| KnownKeys(schema()));
        &ALL
    }

    /// Takes everything out of a layer that the schema does not know, and tells it.
    pub(super) fn check(&self, layer: &mut Map<String, Value>, report: &mut Report) {
        Walk {
            report,
            lists_allowed: true,
        }
        .table(&self.0, "", layer);
    }

    /// As [`Self::check`], for a layer of environment variables, which must not reach into lists.
    pub(super) fn check_variables(&self, layer: &mut Map<String, Value>, report: &mut Report) {
        Walk {
            report,
            lists_allowed: false,
        }
        .table(&self.0, "", layer);
    }

    /// The value that a variable's text stands for: a number or boolean where the key wants one
    /// and the text is one, else the text. The key's type decides, never the look of the text.
    pub(super) fn typed(&self, path: &[String], text: &str) -> ValueKind {
        let node = path
            .iter()
            .try_fold(&self.0, |node, key| node.get("properties")?.get(key));
        let kind = node
            .and_then(|node| node.get("type"))
            .and_then(Json::as_str);
        let typed = match kind {
            Some("boolean") => text.parse().ok().map(ValueKind::Boolean),
            Some("integer") => text.parse().ok().map(ValueKind::I64),
            _ => None,
        };
        typed.unwrap_or_else(|| ValueKind::String(text.into()))
    }

    /// Takes out of `under` every choice (a table of exactly one key, such as a secret's source)
    /// that `over` makes anew; merged key by key, both would be left.
    pub(super) fn forget_choices(&self, under: &mut Value, over: &Map<String, Value>) {
        forget_choices(&self.0, under, over);
    }
}

fn forget_choices(node: &Json, under: &mut Value, over: &Map<String, Value>) {
    let ValueKind::Table(under) = &mut under.kind else {
        return;
    };
    for (key, value) in over {
        let (Some(node), ValueKind::Table(over)) = (property(node, key), &value.kind) else {
            continue;
        };
        if is_choice(node) {
            under.remove(key);
        } else if let Some(under) = under.get_mut(key) {
            forget_choices(node, under, over);
        }
    }
}

/// One walk through one layer. Each step returns whether the value may stay.
struct Walk<'a> {
    report: &'a mut Report,
    lists_allowed: bool,
}

impl Walk<'_> {
    fn table(&mut self, node: &Json, path: &str, table: &mut Map<String, Value>) {
        table.retain(|key, value| match property(node, key) {
            Some(node) => self.value(node, &join(path, key), value),
            None => {
                let origin = origin(value).to_owned();
                let path = join(path, &printable(key));
                self.report.fault_in(&origin, &path, unknown_key(node, key));
                false
            }
        });
    }

    fn value(&mut self, node: &Json, path: &str, value: &mut Value) -> bool {
        let origin = origin(value).to_owned();
        let wanted = match value.kind {
            // A table, or one of some words.
            ValueKind::Table(_) if node.get("properties").is_some() => Some("object"),
            _ => node.get("type").and_then(Json::as_str),
        };
        if wanted == Some("array") && !self.lists_allowed {
            let message = "is a list, or in one; lists are set in files only";
            self.report.fault_in(&origin, path, message);
            return false;
        }
        let fault = match (wanted, &mut value.kind) {
            (Some("object"), ValueKind::Table(table)) => {
                if is_choice(node) && table.len() != 1 {
                    let expected = expected(node);
                    Some(format!("expected {expected}, found {} keys", table.len()))
                } else {
                    let keys_before = table.len();
                    self.table(node, path, table);
                    // What is left of a choice without its key would be no choice.
                    return !is_choice(node) || table.len() == keys_before;
                }
            }
            (Some("array"), ValueKind::Array(elements)) => {
                let node = node.get("items").unwrap_or(&Json::Null);
                let mut all_fit = true;
                for (index, element) in elements.iter_mut().enumerate() {
                    all_fit &= self.value(node, &format!("{path}[{index}]"), element);
                }
                return all_fit;
            }
            (Some("integer"), ValueKind::I64(number)) => range_fault(node, *number),
            (Some("boolean"), ValueKind::Boolean(_)) => None,
            (Some("string"), ValueKind::String(_)) => None,
            (None, ValueKind::String(text)) if words(node).any(|word| word == text) => None,
            (None, ValueKind::String(_)) => {
                Some(format!("expected {}, found another string", expected(node)))
            }
            (_, kind) => Some(format!("expected {}, found {}", expected(node), name(kind))),
        };
        match fault {
            Some(message) => {
                self.report.fault_in(&origin, path, message);
                false
            }
            None => true,
        }
    }
}

fn property<'a>(node: &'a Json, key: &str) -> Option<&'a Json> {
    node.get("properties")?.get(key)
}

/// Whether a table must have exactly one key.
fn is_choice(node: &Json) -> bool {
    node.get("maxProperties").and_then(Json::as_u64) == Some(1)
}

/// The words that a value is chosen from, if it is: enumerations come as constants, one by one.
fn words(node: &Json) -> impl Iterator<Item = &str> {
    let constants = node.get("oneOf").and_then(Json::as_array);
    constants
        .into_iter()
        .flatten()
        .filter_map(|constant| constant.get("const")?.as_str())
}

fn range_fault(node: &Json, number: i64) -> Option<String> {
    let bound = |name| node.get(name).and_then(Json::as_i64);
    let (least, most) = (bound("minimum"), bound("maximum"));
    if least.is_some_and(|least| number < least) {
        return Some(format!(
            "expected an integer of at least {}, found a smaller one",
            least?
        ));
    }
    if most.is_some_and(|most| number > most) {
        return Some(format!(
            "expected an integer of at most {}, found a larger one",
            most?
        ));
    }
    None
}

/// What a value should be, in words.
fn expected(node: &Json) -> String {
    if let Some(text) = node.get(EXPECTED).and_then(Json::as_str) {
        return text.into();
    }
    match node.get("type").and_then(Json::as_str) {
        Some("object") => "a table".into(),
        Some("array") => "a list".into(),
        Some("integer") => "an integer".into(),
        Some("boolean") => "true or false".into(),
        Some("string") => "a string".into(),
        _ => {
            let words: Vec<_> = words(node).map(|word| format!("\"{word}\"")).collect();
            words.join(" or ")
        }
    }
}

/// What a value is, in words that do not show it.
fn name(kind: &ValueKind) -> &'static str {
    match kind {
        ValueKind::Nil => "nothing",
        ValueKind::Boolean(_) => "a boolean",
        ValueKind::I64(_) | ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) => {
            "an integer"
        }
        ValueKind::Float(_) => "a float",
        ValueKind::String(_) => "a string",
        ValueKind::Table(_) => "a table",
        ValueKind::Array(_) => "a list",
    }
}

/// Names the nearest known key, or all of them when none is near.
fn unknown_key(node: &Json, key: &str) -> String {
    let properties = node.get("properties").and_then(Json::as_object);
    let known: BTreeSet<&str> = properties
        .into_iter()
        .flat_map(|properties| properties.keys().map(String::as_str))
        .collect();
    let key = key.to_lowercase();
    let nearest = known
        .iter()
        .map(|known| (strsim::normalized_damerau_levenshtein(known, &key), known))
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    match nearest {
        Some((similarity, nearest)) if similarity >= 0.5 => {
            format!("is an unknown key; did you mean {nearest}?")
        }
        _ => {
            let known: Vec<_> = known.into_iter().collect();
            format!("is an unknown key; known here: {}", known.join(", "))
        }
    }
}

/// A key as it can stand in one line: escaped, and cut where it gets absurd.
fn printable(key: &str) -> String {
    key.chars().take(64).flat_map(char::escape_debug).collect()
}

/// Where a value came from; a merged table has no origin of its own, so that its first entry's
/// stands in.
fn origin(value: &Value) -> &str {
    if let Some(origin) = value.origin() {
        return origin;
    }
    match &value.kind {
        ValueKind::Table(table) => table
            .iter()
            .min_by_key(|(key, _)| *key)
            .map_or("", |(_, value)| origin(value)),
        _ => "",
    }
}
