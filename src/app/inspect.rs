//! Looking at a configuration and at everything that it names, without running it.

use super::{chain, credential};
use crate::config::{self, ConfigFaults, Examined, LoadOptions, Loaded};
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
    Inspection {
        examined,
        credential,
        origin,
    }
}

/// As [`inspect`], for who wants to know only whether it is in order.
///
/// # Errors
/// All faults of the configuration and of what it names, at once.
pub fn check(options: &LoadOptions) -> Result<Loaded, ConfigFaults> {
    inspect(options).examined.finish()
}
