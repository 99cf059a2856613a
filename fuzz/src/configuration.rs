//! The operator's file, and variables over it.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::path::Path;

use moden_gateway::config::{
    self, Allowance, Config, ConfigFaults, Dimension, EnvironmentConfig, LimitConfig, LoadOptions,
    Loaded, RouteConfig, RoutePath, VARIABLE_PREFIX,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// What is planted into values; in no message may it show.
const MARKER: &str = "marker4SECRET9value";

/// The same for numbers.
const NUMBER: &str = "7355608133";

/// No text makes the program panic; every fault has a key and none shows a value; and what is
/// accepted, printed and read again is the same configuration.
///
/// The input is a file. Lines at its top that begin with [`VARIABLE_PREFIX`] are taken out of it as
/// environment variables, `NAME=value`.
pub fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        // Not a text at all: that much must be said, of the file as a whole.
        assert!(load(data, &[]).is_err(), "bytes that are no text were read");
        return;
    };
    let (variables, file) = split(text);
    match load(file.as_bytes(), &variables) {
        Ok(loaded) => check_printed(&loaded.config),
        Err(faults) => check_faults(&faults),
    }
    let planted: Vec<_> = variables
        .iter()
        .map(|(name, value)| (name.clone(), format!("{MARKER}{value}")))
        .collect();
    let messages = match load(plant(file).as_bytes(), &planted) {
        Ok(loaded) => loaded.warnings.join("\n"),
        Err(faults) => {
            check_faults(&faults);
            let messages = faults.0.into_iter().map(|fault| fault.message);
            messages.collect::<Vec<_>>().join("\n")
        }
    };
    for secret in [MARKER, NUMBER] {
        assert!(!messages.contains(secret), "a value was told:\n{messages}");
    }
}

/// Takes the variables off the top.
fn split(text: &str) -> (Vec<(String, String)>, &str) {
    let mut variables = Vec::new();
    let mut file = text;
    while let Some((line, rest)) = file.split_once('\n') {
        let Some((name, value)) = line.split_once('=') else {
            break;
        };
        if !name.starts_with(VARIABLE_PREFIX) {
            break;
        }
        variables.push((name.to_owned(), value.to_owned()));
        file = rest;
    }
    (variables, file)
}

/// Puts the marker into whatever looks like a text or a number after an equals sign or in a list.
fn plant(file: &str) -> String {
    let mut planted = file.to_owned();
    for opening in ["= \"", "= '", "[\"", ", \""] {
        planted = planted.replace(opening, &format!("{opening}{MARKER}"));
    }
    for digit in '0'..='9' {
        planted = planted.replace(&format!("= {digit}"), &format!("= {NUMBER}{digit}"));
    }
    planted
}

fn check_faults(faults: &ConfigFaults) {
    assert!(!faults.0.is_empty(), "it failed without a fault");
    for fault in &faults.0 {
        // Of what cannot be read at all there is no key to tell, and one key is the empty text.
        let is_whole = [
            "is no valid TOML",
            "could not be read: ",
            "names of variables",
            "is an unknown key",
        ];
        assert!(
            !fault.key.is_empty() || is_whole.iter().any(|text| fault.message.starts_with(text)),
            "a fault without a key: {fault}"
        );
        assert!(!fault.origin.is_empty(), "a fault from nowhere: {fault}");
        assert!(!fault.message.is_empty(), "a fault without a word: {fault}");
    }
}

/// Prints what was understood, and wants the same to be understood of it.
fn check_printed(config: &Config) {
    // Of a token only the digest's own type knows how to look at it.
    let mut config = config.clone();
    config.admin.token_sha256 = None;
    let printed = print(&config);
    let again = load(printed.as_bytes(), &[])
        .unwrap_or_else(|faults| panic!("printed and refused: {faults}\n{printed}"))
        .config;
    assert_eq!(again.environment, config.environment, "{printed}");
    assert_eq!(again.server, config.server, "{printed}");
    assert_eq!(again.listeners, config.listeners, "{printed}");
    assert_eq!(again.admin, config.admin, "{printed}");
    assert_eq!(again.upstream, config.upstream, "{printed}");
    assert_eq!(again.headers, config.headers, "{printed}");
    assert_eq!(again.routes, config.routes, "{printed}");
    assert_eq!(again.limits, config.limits, "{printed}");
    assert_eq!(again.access_log, config.access_log, "{printed}");
    assert_eq!(again.log, config.log, "{printed}");
    let pairs = [
        (&again.environments.sandbox, &config.environments.sandbox),
        (
            &again.environments.production,
            &config.environments.production,
        ),
    ];
    for (again, before) in pairs {
        assert_eq!(again.base_url, before.base_url, "{printed}");
        assert_eq!(again.armed, before.armed, "{printed}");
        assert_eq!(again.app_id, before.app_id, "{printed}");
        assert_eq!(again.secret, before.secret, "{printed}");
    }
}

/// A file that says all of a configuration.
fn print(config: &Config) -> String {
    let texts = |names: &mut dyn Iterator<Item = String>| names.collect::<Vec<_>>();
    let mut production = environment(&config.environments.production);
    production["armed"] = json!(config.environments.production.armed);
    let mut whole = json!({
        "environment": config.environment.as_str(),
        "server": config.server,
        "listeners": config.listeners,
        "admin": {
            "address": config.admin.address.to_string(),
            "hosts": config.admin.hosts,
        },
        "environments": {
            "sandbox": environment(&config.environments.sandbox),
            "production": production,
        },
        "upstream": config.upstream,
        "headers": {
            "remove": texts(&mut config.headers.remove.iter().map(ToString::to_string)),
        },
        "routes": config.routes.iter().map(route).collect::<Vec<_>>(),
        "access_log": config.access_log,
        "log": config.log,
    });
    if !config.limits.is_empty() {
        whole["limits"] = config.limits.iter().map(limit).collect();
    }
    let mut file = String::new();
    for (key, value) in whole.as_object().expect("it was made as one") {
        let _ = writeln!(file, "{key} = {}", inline(value));
    }
    file
}

fn environment(config: &EnvironmentConfig) -> Value {
    let mut table = json!({ "base_url": config.base_url });
    for (name, source) in [("app_id", &config.app_id), ("secret", &config.secret)] {
        if let Some(source) = source {
            table[name] = json!(source);
        }
    }
    table
}

fn route(config: &RouteConfig) -> Value {
    let methods: Vec<_> = config
        .methods
        .iter()
        .map(|method| method.as_str())
        .collect();
    let path = match &config.path {
        RoutePath::Literal(path) => path.clone(),
        RoutePath::Prefix(path) => format!("{path}*"),
    };
    json!({
        "name": config.name,
        "path": path,
        "methods": methods,
        "path_extra": config.path_extra,
    })
}

fn limit(config: &LimitConfig) -> Value {
    let mut table = json!({
        "name": config.name,
        "per": config.per,
        "mode": config.mode,
    });
    if config.per != [] as [Dimension; 0] {
        table["max_keys"] = json!(config.max_keys);
    }
    match config.allowance {
        Allowance::Rate {
            requests,
            period,
            burst,
        } => {
            table["requests"] = json!(requests);
            table["period"] = json!(format!("{}ns", period.as_nanos()));
            table["burst"] = json!(burst);
        }
        Allowance::Concurrency(most) => table["concurrency"] = json!(most),
    }
    table
}

/// A value as TOML writes it inside a line.
fn inline(value: &Value) -> String {
    match value {
        Value::Object(table) => {
            let pairs: Vec<_> = table
                .iter()
                .map(|(key, value)| format!("{key} = {}", inline(value)))
                .collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        Value::Array(values) => {
            let values: Vec<_> = values.iter().map(inline).collect();
            format!("[{}]", values.join(", "))
        }
        // A JSON string is a TOML one, save that TOML escapes one control more.
        Value::String(_) => value.to_string().replace('\u{7f}', "\\u007f"),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Null => unreachable!("the configuration knows no nothing"),
    }
}

thread_local! {
    /// Where files are written; one for each thread, so that tests do not meet.
    static FOLDER: RefCell<Option<TempDir>> = const { RefCell::new(None) };
}

fn load(file: &[u8], variables: &[(String, String)]) -> Result<Loaded, ConfigFaults> {
    FOLDER.with_borrow_mut(|folder| {
        let folder = folder.get_or_insert_with(make_folder);
        let path = folder.path().join("gateway.toml");
        std::fs::write(&path, file).expect("the folder can be written");
        config::load(&LoadOptions {
            paths: vec![path],
            variables: variables.to_vec(),
            ..LoadOptions::default()
        })
    })
}

/// In memory, if the system has such a place: this is written thousands of times.
fn make_folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    tempfile::tempdir_in(memory)
        .or_else(|_| tempfile::tempdir())
        .expect("a temporary folder")
}
