//! Loading the credential: at the start, and again until it succeeds.

use std::sync::Arc;
use std::time::Duration;

use super::chain;
use crate::config::Config;
use crate::credentials::{Credential, CredentialError, Credentials};
use crate::secret::{SecretError, Source};
use crate::telemetry::metrics::Metrics;

/// How often a credential that could not be loaded is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// Why the credential of the environment in use could not be loaded; never shows a value.
#[derive(Debug, thiserror::Error)]
#[error("{key}")]
pub(super) struct CredentialFault {
    /// The key's path, such as `environments.sandbox.app_id`.
    pub(super) key: String,
    /// What was wrong with it.
    #[source]
    pub(super) cause: CredentialFaultCause,
}

/// What can be wrong with a half of the credential.
#[derive(Debug, thiserror::Error)]
pub(super) enum CredentialFaultCause {
    /// No source is configured.
    #[error("is missing")]
    Missing,
    /// The source could not be read, or holds no secret.
    #[error(transparent)]
    Source(#[from] SecretError),
    /// It could be read and cannot be part of a credential.
    #[error(transparent)]
    Part(#[from] CredentialError),
}

/// A credential, and what the operator should know about where it came from.
#[derive(Debug)]
pub(super) struct LoadedCredential {
    /// The credential.
    pub(super) credential: Credential,
    /// Sentences for the log.
    pub(super) warnings: Vec<String>,
}

/// Reads the credential of the environment in use; blocks, up to ten seconds for each command.
///
/// # Errors
/// All that is wrong with either source, at once.
pub(super) fn load(config: &Config) -> Result<LoadedCredential, Vec<CredentialFault>> {
    let selected = config.selected();
    let fault = |part: &str, cause| CredentialFault {
        key: format!("environments.{}.{part}", config.environment),
        cause,
    };
    let load = |part, source: &Option<Source>| {
        let source = source.as_ref().ok_or(CredentialFaultCause::Missing);
        source
            .and_then(|source| Ok(source.load(config.secret_file_policy())?))
            .map_err(|cause| fault(part, cause))
    };
    let (app_id, secret) = match (
        load("app_id", &selected.app_id),
        load("secret", &selected.secret),
    ) {
        (Ok(app_id), Ok(secret)) => (app_id, secret),
        (app_id, secret) => return Err(app_id.err().into_iter().chain(secret.err()).collect()),
    };
    let credential = Credential::build(&app_id.secret, &secret.secret)
        .map_err(|error| vec![fault(error.part(), error.into())])?;
    let credential = match &selected.secret {
        Some(source) => credential.read_from(source),
        None => credential,
    };
    let warn = |part, warnings: Vec<String>| {
        let key = format!("environments.{}.{part}", config.environment);
        warnings
            .into_iter()
            .map(move |warning| format!("{key}: {warning}"))
    };
    let warnings = warn("app_id", app_id.warnings)
        .chain(warn("secret", secret.warnings))
        .collect();
    Ok(LoadedCredential {
        credential,
        warnings,
    })
}

/// The attempts to load the credential; each new reason for not having one is logged once.
#[derive(Debug)]
pub(super) struct Loading {
    config: Arc<Config>,
    credentials: Arc<Credentials>,
    metrics: Arc<Metrics>,
    /// Why there was none at the last attempt.
    reported: String,
}

impl Loading {
    pub(super) fn new(
        config: Arc<Config>,
        credentials: Arc<Credentials>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            config,
            credentials,
            metrics,
            reported: String::new(),
        }
    }

    /// Tries once; whether there is a credential now.
    pub(super) async fn attempt(&mut self) -> bool {
        let reason = load_once(&self.config, &self.credentials).await;
        if !reason.is_empty() && reason != self.reported {
            tracing::error!(
                reason,
                "the credential could not be loaded; nothing is forwarded"
            );
            self.reported = reason;
        }
        let is_available = self.credentials.is_available();
        self.metrics.credentials_available.set(is_available.into());
        is_available
    }

    /// Tries again and again until there is one.
    pub(super) async fn keep_trying(mut self) {
        loop {
            tokio::time::sleep(TRY_AGAIN).await;
            if self.attempt().await {
                return;
            }
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
        Ok(Err(faults)) => {
            let faults: Vec<_> = faults.iter().map(|fault| chain(fault)).collect();
            faults.join("; ")
        }
        Err(_) => "loading it was broken off".to_owned(),
    }
}
