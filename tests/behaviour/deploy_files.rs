//! Every file that is shipped to be used, read as those read it who use it, and held against the
//! program: its commands, its configuration, its ports, the time it takes to end.
//!
//! Nothing here starts a container or a service manager; docs/operations.md says how the files are
//! tried with the real ones.

mod compose;
mod image;
mod kubernetes;
mod systemd;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use moden_gateway::config::{self, Config, LoadOptions};
use moden_gateway::domain::Environment;
use serde_json::Value as Json;

use crate::support::program::start;

/// All files of `config/` and `deploy/`. Whoever adds one names it here and reads it in a test.
const SHIPPED: [&str; 13] = [
    // In config_files.rs, and beside the configuration's own code.
    "config/base.toml",
    "config/production.toml",
    "config/sandbox.toml",
    "deploy/Dockerfile",
    "deploy/compose.yaml",
    "deploy/compose/gateway.toml",
    "deploy/compose/moden-app-id",
    "deploy/compose/moden-secret",
    "deploy/kubernetes/shared.yaml",
    "deploy/kubernetes/sidecar.yaml",
    "deploy/systemd/gateway.toml",
    "deploy/systemd/moden-gateway.service",
    "deploy/systemd/moden-gateway.socket",
];

/// What every image is called, its registry aside.
const IMAGE: &str = concat!("moden-gateway:", env!("CARGO_PKG_VERSION"));

/// Where a configuration is mounted or installed, so that the program finds it without being told.
const CONFIG_FOLDER: &str = "/etc/moden-gateway";

/// What the program may take beyond both times of the drain, to end what it gave up and to write logs.
const GIVE_UP: Duration = Duration::from_secs(3);

#[test]
fn no_shipped_file_is_unknown_here() {
    let mut found = BTreeSet::new();
    for folder in ["config", "deploy"] {
        collect(&root().join(folder), &mut found);
    }
    let known: BTreeSet<_> = SHIPPED.iter().map(|path| root().join(path)).collect();
    assert_eq!(found, known);
}

fn collect(folder: &Path, files: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.insert(path);
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The documents of a YAML file.
fn yaml(path: &str) -> Vec<Json> {
    serde_saphyr::from_multiple(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What stands at a JSON pointer.
#[track_caller]
fn at<'a>(value: &'a Json, pointer: &str) -> &'a Json {
    let found = value.pointer(pointer);
    found.unwrap_or_else(|| panic!("there is no {pointer} in {value:#}"))
}

/// The text at a JSON pointer.
#[track_caller]
fn text<'a>(value: &'a Json, pointer: &str) -> &'a str {
    let found = at(value, pointer);
    found
        .as_str()
        .unwrap_or_else(|| panic!("{pointer} is no text: {found}"))
}

/// The elements of the list at a JSON pointer.
#[track_caller]
fn list<'a>(value: &'a Json, pointer: &str) -> &'a [Json] {
    let found = at(value, pointer);
    found
        .as_array()
        .unwrap_or_else(|| panic!("{pointer} is no list: {found}"))
}

/// The texts of the list at a JSON pointer.
#[track_caller]
fn texts<'a>(value: &'a Json, pointer: &str) -> Vec<&'a str> {
    let elements = list(value, pointer).iter();
    elements
        .map(|element| element.as_str().expect("a text"))
        .collect()
}

/// What a gateway makes of `base.toml` in its folder. The sandbox always: nothing that is shipped
/// moves real money before somebody has written so.
#[track_caller]
fn configuration(base: &str) -> Config {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("base.toml"), base).expect("it can be written");
    let options = LoadOptions {
        paths: vec![folder.path().to_owned()],
        ..LoadOptions::default()
    };
    let loaded = config::load(&options).unwrap_or_else(|faults| panic!("{faults}\n{base}"));
    assert_eq!(loaded.config.environment, Environment::Sandbox);
    assert!(!loaded.config.environments.production.armed);
    loaded.config
}

/// How long a gateway still accepts after it was told to end; read from the file as written.
fn drain_delay(base: &str) -> Duration {
    let file: Json = ::config::Config::builder()
        .add_source(::config::File::from_str(base, ::config::FileFormat::Toml))
        .build()
        .and_then(::config::Config::try_deserialize)
        .expect("it is TOML");
    file.pointer("/server/drain_delay")
        .map_or(Duration::ZERO, |delay| {
            let delay = delay.as_str().expect("a duration is a text");
            humantime::parse_duration(delay).expect("a duration")
        })
}

/// How long a gateway with this `base.toml` takes to end at most. Exchanges always have the time
/// that they may take, so that a stop leaves no order in doubt.
#[track_caller]
fn longest_end(base: &str) -> Duration {
    let config = configuration(base);
    let longest_body = config
        .listeners
        .iter()
        .map(|listener| listener.body_timeout);
    let longest_request =
        config.upstream.exchange_timeout + longest_body.max().expect("there is a listener");
    assert!(config.server.drain_timeout >= longest_request);
    drain_delay(base) + config.server.drain_timeout + GIVE_UP
}

/// Whether the program takes these arguments.
fn is_understood(arguments: &[&str]) -> bool {
    let arguments: Vec<_> = arguments.iter().chain(&["--help"]).copied().collect();
    start(&arguments, &[]).end().code == 0
}

#[track_caller]
fn assert_understood(arguments: &[&str]) {
    assert!(is_understood(arguments), "{arguments:?}");
    let misspelt: Vec<_> = arguments
        .iter()
        .chain(&["--no-such-flag"])
        .copied()
        .collect();
    assert!(!is_understood(&misspelt), "{misspelt:?}");
}
