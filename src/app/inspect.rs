//! Looking at a configuration and at everything that it names, without running it.

use super::{OpenFiles, certificates, chain, credential};
use crate::config::{
    self, ConfigFaults, Examined, ListenAddress, ListenerConfig, LoadOptions, Loaded,
};
use crate::credentials::Credential;
use crate::upstream::Origin;

/// A configuration, and what could be made of the things that it names.
#[derive(Debug)]
pub struct Inspection {
    /// The configuration with all faults and warnings, those of secrets and certificate files
    /// among them.
    pub examined: Examined,
    /// The credential; `None` with a fault that says why.
    pub credential: Option<Credential>,
    /// The way to MODEN; `None` with a fault that says why.
    pub origin: Option<Origin>,
}

/// Reads the configuration and everything that it names: the credential, loaded from its sources,
/// and certificate files. Nothing is bound or connected to. Blocks, up to ten seconds for each
/// command that is a source.
pub fn inspect(options: &LoadOptions) -> Inspection {
    let mut examined = config::examine(options);
    let Some(draft) = examined.draft() else {
        return Inspection {
            examined,
            credential: None,
            origin: None,
        };
    };
    let credential = credential::load(draft);
    let origin = Origin::build(&draft.selected().base_url, &draft.upstream);
    let mut warnings = passed_socket_warnings(&draft.listeners);
    let certificates = certificates::examine(draft);
    warnings.extend(certificates.warnings);
    let credential = match credential {
        Ok(loaded) => {
            for warning in loaded.warnings {
                examined.warn(warning);
            }
            Some(loaded.credential)
        }
        Err(faults) => {
            for fault in faults {
                examined.fault(&fault.key, chain(&fault.cause));
            }
            None
        }
    };
    let origin = origin
        .map_err(|error| examined.fault(error.key(), chain(&error)))
        .ok();
    for (key, message) in certificates.faults {
        examined.fault(&key, message);
    }
    for warning in warnings {
        examined.warn(warning);
    }
    Inspection {
        examined,
        credential,
        origin,
    }
}

/// What only a start can know of sockets that systemd passes.
fn passed_socket_warnings(listeners: &[ListenerConfig]) -> Vec<String> {
    let is_unknown = |listener: &ListenerConfig| {
        matches!(listener.address, ListenAddress::Systemd(_)) && !listener.allow_anonymous
    };
    let listeners = listeners.iter().enumerate();
    listeners
        .filter(|(_, listener)| is_unknown(listener))
        .map(|(index, listener)| {
            format!(
                "listeners[{index}].address {} is looked at when systemd passes it: the start is \
                 refused if other machines can reach it, unless allow_anonymous = true",
                listener.address
            )
        })
        .collect()
}

/// As [`inspect`], for who wants to know only whether it is in order.
///
/// # Errors
/// All faults of the configuration and of what it names, at once.
pub fn check(options: &LoadOptions) -> Result<Loaded, ConfigFaults> {
    let mut loaded = inspect(options).examined.finish()?;
    loaded
        .warnings
        .extend(OpenFiles::foresee(&loaded.config).warning());
    Ok(loaded)
}
