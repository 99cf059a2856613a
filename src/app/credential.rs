//! Loading the credential: at the start, and again until it succeeds.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::credentials::{Credential, CredentialError, Credentials};
use crate::secret::{LoadedSecret, SecretError, Source};

/// How often a credential that could not be loaded is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// Why the credential of the environment in use could not be loaded; never shows a value.
#[derive(Debug, thiserror::Error)]
pub enum CredentialLoadError {
    /// One source could not be read.
    #[error("environments.{environment}.{key}: {source}", source = chain(source))]
    Source {
        /// The environment in use.
        environment: &'static str,
        /// `app_id` or `secret`.
        key: &'static str,
        /// What was wrong with it.
        #[source]
        source: SecretError,
    },
    /// One source is not configured at all.
    #[error("environments.{environment}.{key} is not configured")]
    Missing {
        /// The environment in use.
        environment: &'static str,
        /// `app_id` or `secret`.
        key: &'static str,
    },
    /// Both could be read and do not make a credential.
    #[error("environments.{environment}: {source}")]
    Pair {
        /// The environment in use.
        environment: &'static str,
        /// What was wrong with them.
        #[source]
        source: CredentialError,
    },
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// A credential, and what the operator should know about where it came from.
#[derive(Debug)]
pub struct LoadedCredential {
    /// The credential.
    pub credential: Credential,
    /// Sentences for the log.
    pub warnings: Vec<String>,
}

/// Reads the credential of the environment in use; blocks, up to ten seconds for each command.
///
/// # Errors
/// All that is wrong with either source, at once.
pub fn load(config: &Config) -> Result<LoadedCredential, Vec<CredentialLoadError>> {
    let selected = config.selected();
    let environment = config.environment.as_str();
    let load =
        |key, source: &Option<Source>| match source {
            None => Err(CredentialLoadError::Missing { environment, key }),
            Some(source) => source.load(config.secret_file_policy()).map_err(|source| {
                CredentialLoadError::Source {
                    environment,
                    key,
                    source,
                }
            }),
        };
    match (
        load("app_id", &selected.app_id),
        load("secret", &selected.secret),
    ) {
        (Ok(app_id), Ok(secret)) => pair(environment, app_id, secret).map_err(|error| vec![error]),
        (app_id, secret) => Err(app_id.err().into_iter().chain(secret.err()).collect()),
    }
}

fn pair(
    environment: &'static str,
    app_id: LoadedSecret,
    secret: LoadedSecret,
) -> Result<LoadedCredential, CredentialLoadError> {
    let credential = Credential::build(&app_id.secret, &secret.secret).map_err(|source| {
        CredentialLoadError::Pair {
            environment,
            source,
        }
    })?;
    let warnings = app_id.warnings.into_iter().chain(secret.warnings).collect();
    Ok(LoadedCredential {
        credential,
        warnings,
    })
}

/// Tries until there is a credential; each new reason for not having one is logged once.
pub(super) async fn keep_loading(config: Arc<Config>, credentials: Arc<Credentials>) {
    let mut reported = String::new();
    while !credentials.is_available() {
        let reason = load_once(&config, &credentials).await;
        if !reason.is_empty() && reason != reported {
            tracing::error!(
                reason,
                "the credential could not be loaded; nothing is forwarded"
            );
            reported = reason;
        }
        if !credentials.is_available() {
            tokio::time::sleep(TRY_AGAIN).await;
        }
    }
}

/// Tries once; the reason why there is no credential, or nothing.
async fn load_once(config: &Arc<Config>, credentials: &Credentials) -> String {
    let config = Arc::clone(config);
    match tokio::task::spawn_blocking(move || load(&config)).await {
        Ok(Ok(loaded)) => {
            for warning in loaded.warnings {
                tracing::warn!("{warning}");
            }
            credentials.replace(loaded.credential);
            tracing::info!("the credential is loaded");
            String::new()
        }
        Ok(Err(faults)) => faults
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; "),
        Err(_) => "loading it was broken off".to_owned(),
    }
}
