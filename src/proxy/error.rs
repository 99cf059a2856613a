//! Why a request was not answered by MODEN: every refusal and failure of the hot path.

use http::HeaderValue;

use super::control::Paused;
use super::load::Overloaded;
use super::path::{PathError, TargetError};
use crate::body::BodyError;
use crate::credentials::CredentialUnavailable;
use crate::domain::Outcome;
use crate::limits::Denied;
use crate::routing::RouteError;
use crate::server::Malformed;
use crate::upstream::{Failure, UpstreamError};

/// A request that ends with an answer of the gateway's own; `reply.rs` gives each its face.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyError {
    /// What came is no request.
    #[error("what the client sent is no request")]
    Malformed(Malformed),
    /// `Host` is missing, there twice, or no host.
    #[error("the request names no host, several, or an invalid one")]
    HostInvalid,
    /// The target has no form, or one that does not go with the method.
    #[error("the request target is none for this method")]
    TargetMalformed,
    /// `Max-Forwards` of an OPTIONS request is no number.
    #[error("Max-Forwards is no number")]
    MaxForwardsInvalid,
    /// The target could be read in more than one way, or the query cannot be sent as it is.
    #[error("the path could be read in more than one way")]
    PathAmbiguous,
    /// The request target cannot be passed on under the base path.
    #[error("the request target is too long")]
    UriTooLong,
    /// The path names the environment that this gateway does not serve.
    #[error("the path names another environment")]
    EnvironmentMismatch,
    /// No route has this path.
    #[error("no route has this path")]
    RouteNotFound,
    /// The method is neither a usual one nor one of any route.
    #[error("the method is not known")]
    MethodUnknown,
    /// The path has routes, none of them with this method.
    #[error("the method is not allowed here")]
    MethodNotAllowed {
        /// The value of `Allow`.
        allow: HeaderValue,
    },
    /// `Expect` asks for something other than `100-continue`.
    #[error("the expectation cannot be met")]
    ExpectationFailed,
    /// The request came through this gateway before.
    #[error("the request came through this gateway before")]
    LoopDetected,
    /// A limit has no room for the request.
    #[error(transparent)]
    LimitExceeded(#[from] Denied),
    /// The client's body could not be taken.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// A long body without a length, on a method that is not sent with one.
    #[error("the request body needs a Content-Length")]
    LengthRequired,
    /// An operator has paused the gateway.
    #[error(transparent)]
    Paused(#[from] Paused),
    /// The process has no place for another request.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
    /// There is no credential to send.
    #[error("no usable credential is loaded")]
    CredentialUnavailable,
    /// MODEN answered 401: it did not accept our credential.
    #[error("the upstream rejected the gateway's credential")]
    CredentialRejected,
    /// MODEN answered 421: it is not the server that was asked for.
    #[error("the upstream says that it is not the one that was asked for")]
    Misdirected,
    /// The exchange ended without a complete answer.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}

impl ProxyError {
    /// What became of the request at MODEN.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Upstream(error) => error.outcome,
            Self::CredentialRejected | Self::Misdirected => Outcome::Answered,
            Self::Malformed(_)
            | Self::HostInvalid
            | Self::TargetMalformed
            | Self::MaxForwardsInvalid
            | Self::PathAmbiguous
            | Self::UriTooLong
            | Self::EnvironmentMismatch
            | Self::RouteNotFound
            | Self::MethodUnknown
            | Self::MethodNotAllowed { .. }
            | Self::ExpectationFailed
            | Self::LoopDetected
            | Self::LimitExceeded(_)
            | Self::Body(_)
            | Self::LengthRequired
            | Self::Paused(_)
            | Self::Overloaded(_)
            | Self::CredentialUnavailable => Outcome::NotSent,
        }
    }

    /// How long the client should wait, where that is not the same for all errors of a kind; whole
    /// seconds, at least 1.
    pub(super) fn retry_after_seconds(&self) -> Option<u64> {
        let wait = match self {
            Self::LimitExceeded(denied) => return Some(denied.retry_after_seconds()),
            Self::Upstream(UpstreamError {
                failure: Failure::BreakerOpen(wait),
                ..
            }) => *wait,
            _ => return None,
        };
        let begun = u64::from(wait.subsec_nanos() > 0);
        Some((wait.as_secs() + begun).max(1))
    }
}

impl From<PathError> for ProxyError {
    fn from(error: PathError) -> Self {
        match error {
            PathError::Ambiguous => Self::PathAmbiguous,
            PathError::EnvironmentMismatch => Self::EnvironmentMismatch,
            PathError::NotFound => Self::RouteNotFound,
        }
    }
}

impl From<RouteError<'_>> for ProxyError {
    fn from(error: RouteError<'_>) -> Self {
        match error {
            RouteError::Ambiguous => Self::PathAmbiguous,
            RouteError::NotFound => Self::RouteNotFound,
            RouteError::MethodNotAllowed { allow } => Self::MethodNotAllowed {
                allow: allow.clone(),
            },
        }
    }
}

impl From<CredentialUnavailable> for ProxyError {
    fn from(_: CredentialUnavailable) -> Self {
        Self::CredentialUnavailable
    }
}

impl From<TargetError> for ProxyError {
    /// The path and query are valid by now, so only their length can be at fault.
    fn from(_: TargetError) -> Self {
        Self::UriTooLong
    }
}
