//! The configuration, and the secrets that it names the places of.

use std::path::PathBuf;

use super::report::{Check, Finding, Status};
use crate::config::{Config, Fault};
use crate::domain::Environment;
use crate::secret::{FilePolicy, Source};

/// The two halves of a credential, as their keys end.
const SECRET_PARTS: [&str; 2] = ["app_id", "secret"];

/// Everything that is wrong with a configuration.
#[derive(Debug, Default)]
pub(super) struct Faults(pub(super) Vec<Fault>);

impl Faults {
    /// Whether a default may stand where the way to MODEN is configured.
    pub(super) fn concern_the_way(&self) -> bool {
        let concerns_a_secret = |key| {
            [Environment::Sandbox, Environment::Production]
                .into_iter()
                .any(|environment| is_of_a_secret(environment, key))
        };
        self.0.iter().any(|Fault { key, .. }| {
            let sections = ["environment", "environments", "upstream"];
            let concerns_way = sections.iter().any(|section| begins_with(key, section));
            key.is_empty() || (concerns_way && !concerns_a_secret(key))
        })
    }
}

/// What `check` would tell, the secrets apart.
pub(super) fn examine(
    environment: Option<Environment>,
    files: &[PathBuf],
    warnings: &[String],
    faults: &Faults,
) -> Vec<Finding> {
    let is_of_a_secret = |text| environment.is_some_and(|name| is_of_a_secret(name, text));
    let mut findings: Vec<_> = faults
        .0
        .iter()
        .filter(|fault| !is_of_a_secret(&fault.key))
        .map(|fault| Finding::bad(Check::Configuration, Status::Fail, fault.to_string(), None))
        .collect();
    let warnings = warnings.iter().filter(|warning| !is_of_a_secret(warning));
    findings.extend(
        warnings.map(|warning| Finding::bad(Check::Configuration, Status::Warn, warning, None)),
    );
    if findings.is_empty() {
        let files: Vec<_> = files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        let seen = match (files.as_slice(), faults.0.as_slice()) {
            (_, [_, ..]) => "valid, but for the secrets".to_owned(),
            ([], []) => "valid; no file was read".to_owned(),
            (files, []) => format!("valid; read {}", files.join(", ")),
        };
        findings.push(Finding::ok(Check::Configuration, seen));
    }
    findings
}

/// Whether both halves of the credential can be read, and who else can get at them.
pub(super) fn examine_secrets(
    config: &Config,
    warnings: &[String],
    faults: &Faults,
) -> Vec<Finding> {
    let selected = config.selected();
    let sources = [&selected.app_id, &selected.secret];
    SECRET_PARTS
        .into_iter()
        .zip(sources)
        .flat_map(|(part, source)| {
            let key = key(config.environment, part);
            let faults = faults
                .0
                .iter()
                .filter(|fault| begins_with(&fault.key, &key));
            let warnings = warnings.iter().filter(|text| begins_with(text, &key));
            let open_folder = source.as_ref().and_then(|source| {
                // A place that cannot be looked at is among the faults.
                source.open_folder_mode().ok().flatten()
            });
            let mut findings: Vec<_> = faults
                .map(|fault| Finding::bad(Check::Secrets, Status::Fail, fault.to_string(), None))
                .collect();
            findings.extend(
                warnings.map(|warning| Finding::bad(Check::Secrets, Status::Warn, warning, None)),
            );
            findings.extend(open_folder.map(|mode| {
                let status = match config.secret_file_policy() {
                    FilePolicy::Warn => Status::Warn,
                    FilePolicy::Refuse => Status::Fail,
                };
                let seen = format!(
                    "{key}: others can put a file of theirs in this one's place (its folder has \
                     mode {mode:04o})"
                );
                let advice = "take that away, for example with chmod go-w";
                Finding::bad(Check::Secrets, status, seen, advice)
            }));
            if let (Some(source), true) = (source, findings.is_empty()) {
                let seen = format!("{key}: {}", well_kept(source));
                findings.push(Finding::ok(Check::Secrets, seen));
            }
            findings
        })
        .collect()
}

/// What is well about a source, without naming the place.
fn well_kept(source: &Source) -> &'static str {
    match source {
        Source::File(_) => "read from a file that others can neither read nor replace",
        Source::Env(_) => "read from an environment variable",
        Source::Credential(_) => "read from a systemd credential",
        Source::Command(_) => "printed by a command",
    }
}

/// Whether a key, or a warning that begins with one, is about half of this credential.
fn is_of_a_secret(environment: Environment, text: &str) -> bool {
    SECRET_PARTS
        .into_iter()
        .any(|part| begins_with(text, &key(environment, part)))
}

fn key(environment: Environment, part: &str) -> String {
    format!("environments.{environment}.{part}")
}

/// Whether a text begins with this key, and not just with a part of a longer word.
fn begins_with(text: &str, key: &str) -> bool {
    text.strip_prefix(key)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[', ':']))
}
