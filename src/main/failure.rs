//! Why the program ends early, and the exit codes it then ends with.

use http::StatusCode;

use moden_gateway::admin::{ClientError, TokenError};
use moden_gateway::app::{BindError, CertificateError, OriginError};
use moden_gateway::config::ConfigFaults;

/// Exit codes beside 0, after sysexits.h.
pub(crate) const USAGE: u8 = 64;
pub(crate) const UNAVAILABLE: u8 = 69;
pub(crate) const INTERNAL: u8 = 70;
pub(crate) const CONFIGURATION: u8 = 78;

/// The same for people, below `--help`.
pub(crate) const EXIT_CODES: &str = "Exit codes: 0 (also after a clean drain), 64 usage, \
                                     69 unavailable, 70 internal, 78 configuration.";

/// Why the program ends early: a text for stderr and an exit code.
pub(crate) struct Failure {
    /// Printed or in the application log already where there is none.
    pub(crate) text: Option<String>,
    pub(crate) code: u8,
}

impl Failure {
    /// All that there is to say has been said.
    pub(crate) fn silent(code: u8) -> Self {
        Self { text: None, code }
    }

    /// The gateway could not be started with a configuration that is well-formed.
    pub(crate) fn start(error: &anyhow::Error) -> Self {
        let bind_error = error.downcast_ref::<BindError>();
        let is_configuration = bind_error.is_some_and(BindError::is_configuration)
            || error.is::<OriginError>()
            || error.is::<CertificateError>();
        let code = match is_configuration {
            true => CONFIGURATION,
            false => UNAVAILABLE,
        };
        Self::with_chain(error, code)
    }

    /// The arguments are well-formed and cannot be what was meant.
    pub(crate) fn usage(text: &str) -> Self {
        Self {
            text: Some(text.to_owned()),
            code: USAGE,
        }
    }

    /// Something outside of the program is not there or does not answer.
    pub(crate) fn unavailable(error: &anyhow::Error) -> Self {
        Self::with_chain(error, UNAVAILABLE)
    }

    /// Nothing that an operator did.
    pub(crate) fn internal(error: &anyhow::Error) -> Self {
        Self::with_chain(error, INTERNAL)
    }

    fn with_chain(error: &anyhow::Error, code: u8) -> Self {
        Self {
            text: Some(format!("{error:#}")),
            code,
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let (code, advice) = match &error {
            ClientError::Refused {
                status: StatusCode::UNAUTHORIZED,
                ..
            } => (USAGE, "; give the right token with --token-file"),
            ClientError::Refused {
                status: StatusCode::FORBIDDEN,
                ..
            } => (CONFIGURATION, ""),
            _ => (UNAVAILABLE, ""),
        };
        let error = anyhow::Error::new(error);
        Self {
            text: Some(format!("{error:#}{advice}")),
            code,
        }
    }
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        let code = match error {
            TokenError::Unreadable(_) => UNAVAILABLE,
            TokenError::Empty | TokenError::TooLong | TokenError::NotVisible => USAGE,
        };
        let error = anyhow::Error::new(error).context("failed to use --token-file");
        Self::with_chain(&error, code)
    }
}

impl From<ConfigFaults> for Failure {
    fn from(faults: ConfigFaults) -> Self {
        Self {
            text: Some(faults.to_string()),
            code: CONFIGURATION,
        }
    }
}
