//! The layers of a configuration, lowest first: files, then variables, then the flag.
//!
//! Every layer is checked on its own, so that faults are told where they stand, and what is at
//! fault is left out of the merge. Merging is the `config` crate's: tables key by key, all else as
//! a whole. Its conversions are not used: a text never becomes a number by its looks.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use config::{ConfigError, FileFormat, Format, Map, Source, Value, ValueKind};

use super::faults::Report;
use super::schema::KnownKeys;
use super::tree::{self, Tree};
use super::{LOOSE_VARIABLE_PREFIX, LoadOptions, VARIABLE_PREFIX};
use crate::domain::Environment;

/// The folder that is read when it is there and none is named.
const NEAR_FOLDER: &str = "./config";

/// The folder that is read otherwise.
const SYSTEM_FOLDER: &str = "/etc/moden-gateway";

/// The file of a folder that is read first.
const BASE_FILE: &str = "base.toml";

/// The origin of a value that the flag gives.
const FLAG: &str = "--environment";

/// What is wrong with a variable of the gateway's that has a lower-case letter.
const NOT_UPPER_CASE: &str = "names of variables are upper case";

/// The longest configuration file: 1 MiB.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// What was read.
#[derive(Debug)]
pub(super) struct Layers {
    /// The environment, if one is named and all agree.
    pub(super) environment: Option<Environment>,
    /// The files that were read, in order.
    pub(super) files: Vec<PathBuf>,
    layers: Vec<Layer>,
    /// They go over all files.
    variables: Layer,
    flag: Option<Layer>,
    /// Where a key that was not given would be expected.
    usual_origin: String,
    /// Whether a file could not be read, so that nobody knows what it holds.
    has_gap: bool,
}

/// One file, or all variables, or the flag.
#[derive(Clone, Debug)]
struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

impl Layer {
    /// The text at a top-level key.
    fn text(&self, key: &str) -> Option<&str> {
        match &self.0.get(key)?.kind {
            ValueKind::String(text) => Some(text),
            _ => None,
        }
    }
}

/// A path of `--config` and the first file that it stands for.
struct Place {
    /// Set for a folder, which has a second file.
    folder: Option<PathBuf>,
    /// The file itself, or the folder's base file if it is there.
    first: Option<(PathBuf, Layer)>,
}

/// Reads all layers; the environment is found first, since it names files to read.
pub(super) fn read(options: &LoadOptions, known_keys: &KnownKeys, report: &mut Report) -> Layers {
    let mut reader = Reader {
        known_keys,
        report,
        has_gap: false,
    };
    let flag = options.environment.as_deref().map(|name| reader.flag(name));
    let variables = reader.variables(&options.variables);
    let paths = paths(options);
    let nowhere = match options.embedded_only {
        true => "no configuration file".to_owned(),
        false => format!("neither {NEAR_FOLDER} nor {SYSTEM_FOLDER} is there"),
    };
    let usual_place = paths
        .last()
        .map_or(nowhere, |path| path.display().to_string());
    let places: Vec<Place> = paths.into_iter().map(|path| reader.place(path)).collect();

    let first_files = places.iter().filter_map(|place| place.first.as_ref());
    let environment = flag
        .iter()
        .chain([&variables])
        .chain(first_files.rev().map(|(_, layer)| layer))
        .find_map(|layer| layer.text("environment"))
        .and_then(Environment::parse);

    let mut files = Vec::new();
    let mut layers = Vec::new();
    for place in places {
        let second = place
            .folder
            .as_deref()
            .zip(environment)
            .and_then(|(folder, environment)| {
                reader.environment_file(folder, environment, place.first.is_some())
            });
        for (path, layer) in place.first.into_iter().chain(second) {
            files.push(path);
            layers.push(layer);
        }
    }
    let last_file = files
        .last()
        .map(|file: &PathBuf| file.display().to_string());
    Layers {
        environment,
        usual_origin: last_file.unwrap_or(usual_place),
        has_gap: reader.has_gap,
        files,
        layers,
        variables,
        flag,
    }
}

impl Layers {
    /// Merges the layers, the later wins, and tells if no environment is named.
    pub(super) fn merge(&self, known_keys: &KnownKeys, report: &mut Report) -> Tree {
        let mut root = Value::new(None, Map::<String, Value>::new());
        for layer in &self.layers {
            put_over(&mut root, layer, known_keys);
        }
        let mut variables = self.variables.clone();
        keep_words(&root, "", &mut variables.0, report);
        for layer in [&variables].into_iter().chain(&self.flag) {
            put_over(&mut root, layer, known_keys);
        }
        report.know_origins(tree::origins(&root), self.usual_origin.clone());
        if self.environment.is_none() && !self.has_gap {
            report.fault(
                "environment",
                "is missing and has no default: write environment = \"sandbox\" or environment = \
                 \"production\" into the file, set MODEN_GATEWAY__ENVIRONMENT, or give \
                 --environment",
            );
        }
        Tree::new(root)
    }
}

/// Merges one more layer, which wins.
fn put_over(root: &mut Value, layer: &Layer, known_keys: &KnownKeys) {
    known_keys.forget_choices(root, &layer.0);
    layer
        .collect_to(root)
        .expect("a layer only hands out what it holds");
}

/// Takes out of variables what would stand below a word, and tells it: to set one key of the
/// breaker must not turn on what was turned off as a whole.
fn keep_words(under: &Value, path: &str, variables: &mut Map<String, Value>, report: &mut Report) {
    let ValueKind::Table(under) = &under.kind else {
        return;
    };
    variables.retain(|key, value| {
        let path = tree::join(path, key);
        let (Some(under), ValueKind::Table(keys)) = (under.get(key), &mut value.kind) else {
            return true;
        };
        if matches!(under.kind, ValueKind::Table(_)) {
            keep_words(under, &path, keys, report);
            return true;
        }
        let other = under.origin().unwrap_or_default();
        for (key, value) in keys {
            let message = format!(
                "contradicts {other}, where {path} is one word for the whole table; take out one \
                 of the two"
            );
            let variable = value.origin().unwrap_or_default();
            report.fault_in(variable, &tree::join(&path, key), message);
        }
        false
    });
}

/// The paths that are named, or those that stand in for none.
fn paths(options: &LoadOptions) -> Vec<PathBuf> {
    if options.embedded_only {
        return Vec::new();
    }
    if !options.paths.is_empty() {
        return options.paths.clone();
    }
    [NEAR_FOLDER, SYSTEM_FOLDER]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
        .into_iter()
        .collect()
}

/// Reads and checks layer after layer.
struct Reader<'a> {
    known_keys: &'a KnownKeys,
    report: &'a mut Report,
    /// Whether a file could not be read.
    has_gap: bool,
}

impl Reader<'_> {
    fn flag(&mut self, name: &str) -> Layer {
        let value = Value::new(Some(&FLAG.to_owned()), name);
        let mut table = Map::from_iter([("environment".to_owned(), value)]);
        self.known_keys.check(&mut table, self.report);
        Layer(table)
    }

    /// Makes one layer of all variables. Each is checked alone first: merged, one could hide
    /// what is wrong with another.
    fn variables(&mut self, variables: &[(String, String)]) -> Layer {
        for (name, _) in variables {
            self.misspelt_prefix(name);
        }
        let mut variables: Vec<_> = variables
            .iter()
            .filter_map(|(name, text)| Some((name, name.strip_prefix(VARIABLE_PREFIX)?, text)))
            .collect();
        variables.sort();
        let mut root = Value::new(None, Map::<String, Value>::new());
        for (name, path, text) in variables {
            if path != path.to_ascii_uppercase() {
                self.report.fault_in(name, "", NOT_UPPER_CASE);
                continue;
            }
            let path: Vec<String> = path.to_lowercase().split("__").map(Into::into).collect();
            let leaf = Value::new(Some(name), self.known_keys.typed(&path, text));
            let mut table = path.into_iter().rfold(leaf, |inner, key| {
                Value::new(Some(name), Map::from_iter([(key, inner)]))
            });
            if let ValueKind::Table(table) = &mut table.kind {
                self.known_keys.check_variables(table, self.report);
                // The name of the whole table is sorted before those of its keys.
                keep_words(&root, "", table, self.report);
                Layer(table.clone())
                    .collect_to(&mut root)
                    .expect("a layer only hands out what it holds");
            }
        }
        let mut table = root.into_table().expect("it was made as a table");
        self.known_keys.check_variables(&mut table, self.report);
        Layer(table)
    }

    /// Tells a variable that was meant for the gateway, as its section shows, and would be ignored.
    ///
    /// Kubernetes makes variables with one underscore for a service of the gateway's name, and for
    /// `moden-gateway-admin` and the like, but none with two of them behind the section.
    fn misspelt_prefix(&mut self, name: &str) {
        let upper = name.to_ascii_uppercase();
        if name.starts_with(VARIABLE_PREFIX) {
            return;
        }
        if upper.starts_with(VARIABLE_PREFIX) {
            self.report.fault_in(name, "", NOT_UPPER_CASE);
            return;
        }
        let Some(path) = upper.strip_prefix(LOOSE_VARIABLE_PREFIX) else {
            return;
        };
        let key = path.to_lowercase().replace("__", ".");
        let section = key.split('.').next().unwrap_or_default();
        if self.known_keys.has_section(section) {
            let message = format!(
                "would be ignored: there are two underscores behind MODEN_GATEWAY, as in \
                 {VARIABLE_PREFIX}{path}"
            );
            self.report.fault_in(name, &key, message);
        }
    }

    /// Reads a file, or a folder's base file.
    fn place(&mut self, path: PathBuf) -> Place {
        if path.is_dir() {
            let base = path.join(BASE_FILE);
            let first = base.exists().then(|| self.file(base)).flatten();
            return Place {
                folder: Some(path),
                first,
            };
        }
        Place {
            folder: None,
            first: self.file(path),
        }
    }

    /// Reads a folder's second file. A folder may lack one of its two files, not both.
    fn environment_file(
        &mut self,
        folder: &Path,
        environment: Environment,
        has_base: bool,
    ) -> Option<(PathBuf, Layer)> {
        let path = folder.join(format!("{environment}.toml"));
        if path.exists() {
            let (path, layer) = self.file(path)?;
            let named = layer.text("environment").and_then(Environment::parse);
            if named.is_some_and(|named| named != environment) {
                self.report.fault_in(
                    &path.display().to_string(),
                    "environment",
                    "is not the environment that this file is for",
                );
            }
            return Some((path, layer));
        }
        if has_base {
            self.report.warn(format!(
                "{} is not there; of this folder only {BASE_FILE} is in use",
                path.display()
            ));
        } else if !folder.join(BASE_FILE).exists() {
            self.report.fault_in(
                &folder.display().to_string(),
                "",
                format!("holds neither {BASE_FILE} nor {environment}.toml"),
            );
        }
        None
    }

    fn file(&mut self, path: PathBuf) -> Option<(PathBuf, Layer)> {
        let origin = path.display().to_string();
        let parsed = read_text(&path)
            .map_err(|cause| format!("could not be read: {cause}"))
            .and_then(|text| parse(&origin, &text));
        match parsed {
            Ok(mut table) => {
                self.known_keys.check(&mut table, self.report);
                Some((path, Layer(table)))
            }
            Err(message) => {
                self.has_gap = true;
                self.report.fault_in(&origin, "", message);
                None
            }
        }
    }
}

fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?
        .take(MAX_FILE_BYTES + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(text)
}

/// Parses TOML. The parser's message quotes the line that it stumbled over, and that may hold
/// what must not be shown; only where it stands is passed on.
fn parse(origin: &str, text: &str) -> Result<Map<String, Value>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    FileFormat::Toml
        .parse(Some(&origin.to_owned()), text)
        .map_err(|error| {
            let message = error.to_string();
            let position = message
                .lines()
                .next()
                .and_then(|line| line.strip_prefix("TOML parse error at "));
            match position {
                Some(position) => format!("is no valid TOML at {position}"),
                None => "is no valid TOML: it holds a number out of range".into(),
            }
        })
}
