//! How an exchange can fail, and what the bytes written say about it.

use std::time::Duration;

use crate::body::BodyError;
use crate::domain::Outcome;
use crate::framing::Violation;

/// An exchange that ended without a complete answer.
#[derive(Debug, thiserror::Error)]
#[error("{failure}")]
pub struct UpstreamError {
    /// The step that failed.
    pub failure: Failure,
    /// `not-sent` or `unknown`, from byte accounting and never from `failure`.
    pub outcome: Outcome,
}

impl UpstreamError {
    /// A failure before anything was handed to a connection.
    pub(super) fn not_sent(failure: Failure) -> Self {
        Self {
            failure,
            outcome: Outcome::NotSent,
        }
    }
}

/// The step at which an exchange failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// All connections were busy for `upstream.queue_timeout`.
    #[error("no connection to the upstream became free in time")]
    QueueTimeout,
    /// The circuit breaker is open; for how long still.
    #[error("the circuit breaker is open")]
    BreakerOpen(Duration),
    /// The name did not resolve.
    #[error("the upstream's name could not be resolved: {0}")]
    Dns(String),
    /// Every address refused.
    #[error("the upstream refused the connection")]
    Refused,
    /// DNS, TCP, or TLS took longer than its deadline.
    #[error("connecting to the upstream took too long")]
    ConnectTimeout,
    /// No address could be reached, for another reason.
    #[error("the upstream could not be reached: {0}")]
    Unreachable(std::io::Error),
    /// The egress proxy did not open a tunnel.
    #[error("the egress proxy opened no tunnel: {0}")]
    Tunnel(String),
    /// The upstream's certificate was not accepted.
    #[error("the upstream's certificate was not accepted: {0}")]
    Certificate(rustls::Error),
    /// The TLS handshake failed for another reason.
    #[error("the TLS handshake with the upstream failed: {0}")]
    Tls(String),
    /// No final head of an answer within `upstream.response_timeout`.
    #[error("the upstream did not answer in time")]
    ResponseTimeout,
    /// The answer stalled for `upstream.body_idle_timeout`, or the exchange took longer than
    /// `upstream.exchange_timeout`.
    #[error("the upstream's answer stalled")]
    AnswerTimeout,
    /// The connection ended before the answer was complete.
    #[error("the upstream closed the connection before its answer was complete")]
    Reset,
    /// What came back is no answer in HTTP/1.1.
    #[error("the upstream's answer is not valid HTTP: {0}")]
    Invalid(InvalidAnswer),
    /// The client's streamed body broke off on its way.
    #[error("the client's request broke off: {0}")]
    RequestBody(BodyError),
}

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum InvalidAnswer {
    /// Where it ends is doubtful, or it goes on behind its end.
    #[error("{0}")]
    Framing(Violation),
    /// hyper cannot read its head or its framing.
    #[error("it is malformed")]
    Malformed,
    /// hyper reads another length out of it than the framing guard.
    #[error("its length is read in two ways")]
    Disputed,
}
