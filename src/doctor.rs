//! Is everything there that a payment needs? Each thing is looked at and told on a line.
//!
//! For: [`examine`], which goes from the configuration over this machine to MODEN. Never does: stop
//! at the first fault, change anything, send anything but a question for the balance, or show a
//! secret. Called by: `main`. Start reading at [`examine`].
//!
//! ```text
//! configuration, secrets -> open files, addresses -> DNS -> TCP -> TLS, certificates -> balance
//!                                                    each only where the one before it succeeded
//! ```
//!
//! The way to MODEN is walked with the product's own resolver, connector, roots of trust and
//! credential, inside the deadlines of `[upstream]`; there is no second HTTP client.

mod balance;
mod configuration;
mod machine;
mod report;
mod way;

use std::sync::Arc;

use crate::app::{self, Inspection};
use crate::config::LoadOptions;
use crate::domain::Environment;
use crate::telemetry::metrics::Metrics;

pub use report::{Check, Finding, Report, Status};

use configuration::Faults;

/// Looks at everything; ends within the sum of the deadlines of secret commands (ten seconds each)
/// and twice `upstream.exchange_timeout`. Wants a tokio runtime of its own, as it blocks.
///
/// The balance of production is asked for only if `asks_production`, though that changes nothing
/// there: an operator should decide when the production credential is used.
pub async fn examine(options: &LoadOptions, asks_production: bool) -> Report {
    let Inspection {
        examined,
        credential,
        origin,
    } = app::inspect(options);
    let draft = examined.draft().cloned();
    let warnings = examined.warnings().to_vec();
    let (files, faults) = match examined.finish() {
        Ok(loaded) => (loaded.files, Faults::default()),
        Err(faults) => (Vec::new(), Faults(faults.0)),
    };

    let mut report = Report::new(draft.as_ref().map(|config| config.environment));
    report.is_configuration_faulty = !faults.0.is_empty();
    let Some(config) = draft else {
        report.extend(configuration::examine(None, &files, &warnings, &faults));
        report.skip_rest("no environment is named");
        return report;
    };
    report.extend(configuration::examine(
        Some(config.environment),
        &files,
        &warnings,
        &faults,
    ));
    report.extend(configuration::examine_secrets(&config, &warnings, &faults));
    report.extend([machine::examine_open_files(&config)]);
    report.extend(machine::examine_addresses(&config));

    let Some(origin) = origin.filter(|_| !faults.concern_the_way()) else {
        report.skip_rest("the configuration of the way to MODEN is at fault");
        return report;
    };
    let origin = Arc::new(origin);
    // The connections of payments count themselves; nobody will look at these counts.
    let metrics = Metrics::build(config.environment).upstream();
    let is_reachable = way::examine(&origin, &metrics, &mut report).await;

    let asks = asks_production || config.environment == Environment::Sandbox;
    match credential {
        _ if report.is_configuration_faulty => report.skip_rest(
            "the configuration is at fault, and the credential should go only where it is meant to",
        ),
        Some(credential) if is_reachable && asks => {
            report.extend(balance::examine(&config, &origin, &metrics, credential).await);
        }
        Some(_) if is_reachable => report.skip_rest(
            "give --production to ask MODEN for the balance with the production credential; that \
             changes nothing there",
        ),
        _ => report.skip_rest("MODEN cannot be reached"),
    }
    report
}
