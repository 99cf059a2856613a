//! The certificates of TLS listeners: loaded at the start, and taken up again when they change.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::time::MissedTickBehavior;

use super::chain;
use crate::config::{Config, ListenerConfig};
use crate::server::{LoadedCertificate, Renewal, Tls};
use crate::telemetry::metrics::Metrics;

/// How often the files are looked at: two small files for each listener, and their digest.
///
/// Looking at what they hold, and not when they were changed, sees every way of replacing them: a
/// write, a rename, and the symlinks of a Kubernetes mount.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How one listener speaks TLS; `None` for one that speaks none.
type ListenerTls = Option<Arc<Tls>>;

/// What TLS listeners need, by the position of the listener; blocks.
///
/// # Errors
/// The first certificate that cannot be used, with its key; [`super::check`] tells all.
pub(super) fn load(
    config: &Config,
    metrics: &Metrics,
) -> anyhow::Result<(Vec<ListenerTls>, Vec<Renewal>)> {
    let policy = config.secret_file_policy();
    let mut renewals = Vec::new();
    let mut load = |(index, listener): (usize, &ListenerConfig)| {
        let Some(files) = &listener.tls else {
            return Ok(None);
        };
        let name = format!("listeners[{index}]");
        let loaded = match LoadedCertificate::load(files, policy) {
            Ok(loaded) => loaded,
            Err(errors) => {
                let error = errors.into_iter().next().context("no error was told")?;
                let key = error.key();
                return Err(
                    anyhow::Error::new(error).context(format!("failed to use {name}.{key}"))
                );
            }
        };
        for (key, warning) in &loaded.warnings {
            tracing::warn!("{name}.{key}: {warning}");
        }
        let tls = Tls::new(&loaded, listener.tls_timeout, metrics.listener_tls(index));
        let files = files.clone();
        renewals.push(Renewal::new(name, Arc::clone(&tls), files, policy, &loaded));
        Ok(Some(tls))
    };
    let listeners = config.listeners.iter().enumerate();
    let tls = listeners.map(&mut load).collect::<anyhow::Result<_>>()?;
    Ok((tls, renewals))
}

/// Takes up what changes on disk, for ever; ends at once where nobody speaks TLS.
pub(super) async fn renew(mut renewals: Vec<Renewal>) {
    if renewals.is_empty() {
        return;
    }
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let look = tokio::task::spawn_blocking(move || {
            renewals.iter_mut().for_each(Renewal::look);
            renewals
        });
        renewals = match look.await {
            Ok(renewals) => renewals,
            Err(error) => {
                tracing::error!(%error, "certificates are not looked at any more");
                return;
            }
        };
    }
}

/// Faults and warnings of all certificates, each with its key; blocks.
pub(super) fn examine(config: &Config) -> Examination {
    let policy = config.secret_file_policy();
    let mut examination = Examination::default();
    for (index, listener) in config.listeners.iter().enumerate() {
        let Some(files) = &listener.tls else {
            continue;
        };
        match LoadedCertificate::load(files, policy) {
            Ok(loaded) => {
                let told = loaded.warnings.into_iter();
                let told =
                    told.map(|(key, warning)| format!("listeners[{index}].{key}: {warning}"));
                examination.warnings.extend(told);
            }
            Err(errors) => {
                let told = errors.iter();
                let told = told.map(|e| (format!("listeners[{index}].{}", e.key()), chain(e)));
                examination.faults.extend(told);
            }
        }
    }
    examination
}

/// What is wrong with the certificates of a configuration.
#[derive(Debug, Default)]
pub(super) struct Examination {
    /// Keys and messages.
    pub(super) faults: Vec<(String, String)>,
    /// Sentences that begin with the key.
    pub(super) warnings: Vec<String>,
}
