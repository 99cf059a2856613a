//! What holds for every key that the schema knows: shipped, defaulted, never shown.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use ::config::{FileFormat, Format, Map, Value, ValueKind};
use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;

/// The keys of all leaves of the schema, lists of tables as `name[]`, secret sources as leaves.
fn schema_leaves(node: &Json, path: &str, leaves: &mut BTreeSet<String>) {
    let is_choice = node.get("maxProperties").is_some();
    if let Some(properties) = node.get("properties").filter(|_| !is_choice) {
        for (key, node) in properties.as_object().expect("properties are an object") {
            schema_leaves(node, &tree::join(path, key), leaves);
        }
    } else if let Some(items) = node
        .get("items")
        .filter(|items| items.get("properties").is_some())
    {
        schema_leaves(items, &format!("{path}[]"), leaves);
    } else {
        leaves.insert(path.into());
    }
}

fn all_leaves() -> BTreeSet<String> {
    let mut leaves = BTreeSet::new();
    schema_leaves(&schema(), "", &mut leaves);
    leaves
}

/// As [`schema_leaves`], of a file.
fn file_leaves(table: &Map<String, Value>, path: &str, leaves: &mut BTreeSet<String>) {
    for (key, value) in table {
        let path = tree::join(path, key);
        match &value.kind {
            ValueKind::Table(_) if path.ends_with("app_id") || path.ends_with("secret") => {
                leaves.insert(path);
            }
            ValueKind::Table(table) => file_leaves(table, &path, leaves),
            ValueKind::Array(elements) => {
                let tables = elements.iter().filter_map(|element| match &element.kind {
                    ValueKind::Table(table) => Some(table),
                    _ => None,
                });
                let mut is_list_of_tables = false;
                for table in tables {
                    is_list_of_tables = true;
                    file_leaves(table, &format!("{path}[]"), leaves);
                }
                if !is_list_of_tables {
                    leaves.insert(path);
                }
            }
            _ => {
                leaves.insert(path);
            }
        }
    }
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("config")
        .join(name)
}

#[test]
fn ships_a_base_file_that_names_every_key_and_no_other() {
    let text = fs::read_to_string(shipped("base.toml")).expect("it is shipped");
    // What has no default is there as comments of the form `# key = …` or `# [[list]]`.
    let uncommented: Vec<_> = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.starts_with("[[") => rest,
            Some(rest)
                if rest
                    .split_once(" = ")
                    .is_some_and(|(key, _)| !key.contains(' ')) =>
            {
                rest
            }
            _ => line,
        })
        .collect();
    let table = FileFormat::Toml
        .parse(None, &uncommented.join("\n"))
        .expect("it is TOML");
    let mut leaves = BTreeSet::new();
    file_leaves(&table, "", &mut leaves);
    assert_eq!(leaves, all_leaves());
}

#[test]
fn ships_a_base_file_whose_values_are_the_defaults() {
    let options = |paths| LoadOptions {
        paths,
        environment: Some("sandbox".into()),
        ..LoadOptions::default()
    };
    let written = load(&options(vec![shipped("base.toml")]))
        .expect("clean")
        .config;
    let sources = [
        ("SANDBOX__APP_ID", "/run/secrets/moden-app-id"),
        ("SANDBOX__SECRET", "/run/secrets/moden-secret"),
        ("PRODUCTION__APP_ID", "/run/secrets/moden-production-app-id"),
        ("PRODUCTION__SECRET", "/run/secrets/moden-production-secret"),
    ];
    let embedded = LoadOptions {
        embedded_only: true,
        variables: sources
            .map(|(key, path)| {
                (
                    format!("MODEN_GATEWAY__ENVIRONMENTS__{key}__FILE"),
                    path.into(),
                )
            })
            .into(),
        ..options(Vec::new())
    };
    let embedded = load(&embedded).expect("clean").config;
    assert_eq!(format!("{written:#?}"), format!("{embedded:#?}"));
}

#[test]
fn ships_files_that_are_clean_in_the_sandbox_and_unarmed_in_production() {
    let options = |environment: &str| LoadOptions {
        paths: vec![shipped("")],
        environment: Some(environment.into()),
        ..LoadOptions::default()
    };
    let loaded = load(&options("sandbox")).expect("clean");
    assert!(loaded.warnings.is_empty());
    assert_eq!(loaded.files.len(), 2);
    message(
        load(&options("production")),
        "environments.production.armed",
    );
}

#[test]
fn shows_defaults_in_the_schema_as_they_are_written() {
    let schema = schema();
    let default = |path: &str| {
        schema
            .pointer(&format!("/properties/{path}/default"))
            .cloned()
    };
    assert_eq!(
        default("upstream/properties/connect_timeout"),
        Some("3s".into())
    );
    assert_eq!(
        default("upstream/properties/hold_body"),
        Some("64KiB".into())
    );
    assert_eq!(
        default("listeners/items/properties/max_body_bytes"),
        Some("4MiB".into())
    );
    assert_eq!(
        default("admin/properties/address"),
        Some("127.0.0.1:9090".into())
    );
    assert_eq!(default("environment"), None);
    assert_eq!(default("upstream/properties/proxy"), None);
}

/// A file whose key at `path` has this value.
fn file_with(path: &str, value: &str) -> String {
    let path = path
        .replace("listeners[].", "[[listeners]]\n")
        .replace("routes[].", "[[routes]]\n")
        .replace("limits[].", "[[limits]]\n");
    match path.rsplit_once('.') {
        Some((table, key)) => format!("[{table}]\n{key} = {value}\n"),
        None => format!("{path} = {value}\n"),
    }
}

#[test]
fn shows_the_value_of_no_key_in_no_message() {
    let values = [
        format!("\"{MARKER}\""),
        format!("[\"{MARKER}\"]"),
        format!("{{ file = \"{MARKER}\" }}"),
        format!("{{ env = \"{MARKER}\" }}"),
        format!("{{ a = \"{MARKER}\" }}"),
        MARKER.into(),
        "424242424242".into(),
        "-424242424242".into(),
        "4242.4242".into(),
        "[424242424242]".into(),
        "\"424242424242s\"".into(),
        "\"424242424242KiB\"".into(),
    ];
    let mut told = 0;
    for key in all_leaves() {
        for value in &values {
            let Err(faults) = load_text(&file_with(&key, value)) else {
                continue;
            };
            let text = faults.to_string();
            assert!(
                !text.contains(MARKER) && !text.contains("4242"),
                "{key} = {value}: {text}"
            );
            told += faults.0.len();
        }
        let name = key.to_uppercase().replace("[]", "__0").replace('.', "__");
        let Err(faults) = load_variables(&[(&format!("MODEN_GATEWAY__{name}"), MARKER)]) else {
            continue;
        };
        let text = faults.to_string();
        assert!(!text.contains(MARKER), "{name}: {text}");
    }
    assert!(told > 100, "only {told} faults were told");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn shows_no_part_of_a_text_value_whatever_it_is(
        key in proptest::sample::select(all_leaves().into_iter().collect::<Vec<_>>()),
        before in "[ -~]{0,8}",
        after in "[ -~]{0,8}",
    ) {
        let text = format!("{before}qZ7qZ7{after}").replace('\'', "");
        if let Err(faults) = load_text(&file_with(&key, &format!("'{text}'"))) {
            prop_assert!(!faults.to_string().contains("qZ7qZ7"), "{faults}");
        }
    }
}
