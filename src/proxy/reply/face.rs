//! How each error looks from outside: code, status, words, and whose move it is.
//!
//! One match without a wildcard, so that a new error cannot be forgotten. README.md shows the same
//! table for callers.

use http::StatusCode;

use crate::body::BodyError;
use crate::config::UPSTREAM_LIMIT;
use crate::framing::Meaning;
use crate::proxy::code::Code;
use crate::proxy::error::ProxyError;
use crate::server::Malformed;
use crate::upstream::Failure;

/// How long a client is asked to wait when the gateway itself is short of room, in seconds.
const OVERLOADED_RETRY_AFTER: &str = "1";

/// How long a client is asked to wait while the gateway is paused, in seconds: people take their
/// time, and a client that asks every second only fills the log.
const PAUSED_RETRY_AFTER: &str = "30";

/// The whole value of `Proxy-Status` for an error type of RFC 9209 section 2.3.
macro_rules! proxy_status {
    ($error:literal) => {
        concat!("moden-gateway; error=", $error)
    };
}

/// How one kind of error looks from outside.
pub(super) struct Face {
    pub(super) code: Code,
    pub(super) status: StatusCode,
    pub(super) title: &'static str,
    pub(super) detail: &'static str,
    /// The whole value of `Proxy-Status` (RFC 9209 section 2).
    pub(super) proxy_status: &'static str,
    pub(super) retry_after: Option<&'static str>,
    /// Whose move it is; decides how loud the application log is.
    pub(super) fault: Fault,
}

/// The side at fault.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The one who called.
    Client,
    /// This process, or who runs it.
    Gateway,
    /// MODEN, or the way to it.
    Upstream,
    /// Nobody at present: the log told when it began, and does not again for each request.
    Nobody,
}

impl Face {
    const fn new(
        fault: Fault,
        code: Code,
        status: StatusCode,
        proxy_status: &'static str,
        title: &'static str,
        detail: &'static str,
    ) -> Self {
        Self {
            code,
            status,
            title,
            detail,
            proxy_status,
            retry_after: None,
            fault,
        }
    }
}

/// A fault of ours, after which nobody knows whether bytes left.
pub(super) const INTERNAL: Face = Face::new(
    Fault::Gateway,
    Code::Internal,
    StatusCode::INTERNAL_SERVER_ERROR,
    proxy_status!("proxy_internal_error"),
    "Internal error",
    "the gateway failed; whether MODEN received the request is not known",
);

/// What a client sees of an error.
pub(super) fn face(error: &ProxyError) -> Face {
    match error {
        ProxyError::Malformed(why) => malformed_face(*why),
        ProxyError::HostInvalid => Face::new(
            Fault::Client,
            Code::RequestMalformed,
            StatusCode::BAD_REQUEST,
            proxy_status!("http_request_error"),
            "Malformed request",
            "a request names exactly one valid Host",
        ),
        ProxyError::TargetMalformed => Face::new(
            Fault::Client,
            Code::RequestMalformed,
            StatusCode::BAD_REQUEST,
            proxy_status!("http_request_error"),
            "Malformed request",
            "the request target is a path or an http URI without user information; only OPTIONS \
             may ask for *",
        ),
        ProxyError::MaxForwardsInvalid => Face::new(
            Fault::Client,
            Code::RequestMalformed,
            StatusCode::BAD_REQUEST,
            proxy_status!("http_request_error"),
            "Malformed request",
            "Max-Forwards is one number",
        ),
        ProxyError::PathAmbiguous => Face::new(
            Fault::Client,
            Code::PathAmbiguous,
            StatusCode::BAD_REQUEST,
            proxy_status!("http_request_error"),
            "Ambiguous path",
            "the path could be read in more than one way; write it plainly, in the spelling of \
             its route, without empty or dot segments, percent-encoding or a slash at its end",
        ),
        ProxyError::UriTooLong => Face::new(
            Fault::Client,
            Code::UriTooLong,
            StatusCode::URI_TOO_LONG,
            proxy_status!("http_request_error"),
            "URI too long",
            "the request target is longer than can be passed on",
        ),
        ProxyError::EnvironmentMismatch => Face::new(
            Fault::Client,
            Code::EnvironmentMismatch,
            StatusCode::FORBIDDEN,
            proxy_status!("http_request_denied"),
            "Wrong environment",
            "the path names the sandbox, but this gateway serves production; call \
             /pay/<endpoint> and let the gateway's configuration choose the environment",
        ),
        ProxyError::RouteNotFound => Face::new(
            Fault::Client,
            Code::RouteNotFound,
            StatusCode::NOT_FOUND,
            proxy_status!("http_request_denied"),
            "No such route",
            "no route of this gateway has this path; endpoints are called as /pay/<endpoint>",
        ),
        ProxyError::MethodUnknown => Face::new(
            Fault::Client,
            Code::NotImplemented,
            StatusCode::NOT_IMPLEMENTED,
            proxy_status!("http_request_error"),
            "Not implemented",
            "no route of this gateway has this method; methods are written in upper case",
        ),
        ProxyError::MethodNotAllowed { .. } => Face::new(
            Fault::Client,
            Code::MethodNotAllowed,
            StatusCode::METHOD_NOT_ALLOWED,
            proxy_status!("http_request_denied"),
            "Method not allowed",
            "the route does not allow this method; Allow lists those it does",
        ),
        ProxyError::ExpectationFailed => Face::new(
            Fault::Client,
            Code::ExpectationFailed,
            StatusCode::EXPECTATION_FAILED,
            proxy_status!("http_request_error"),
            "Expectation failed",
            "the only expectation that can be met is 100-continue",
        ),
        ProxyError::LoopDetected => Face::new(
            Fault::Client,
            Code::LoopDetected,
            StatusCode::LOOP_DETECTED,
            proxy_status!("proxy_loop_detected"),
            "Loop detected",
            "Via says that this request came through a moden-gateway before",
        ),
        ProxyError::LimitExceeded(denied) => Face::new(
            Fault::Client,
            Code::LimitExceeded,
            StatusCode::TOO_MANY_REQUESTS,
            proxy_status!("http_request_denied"),
            "Limit exceeded",
            if *denied.policy == *UPSTREAM_LIMIT {
                "MODEN has answered another request with 429 and asked to wait; until then nothing \
                 is sent"
            } else {
                "the limit that violated-policies names has no room for this request; wait as long \
                 as Retry-After says"
            },
        ),
        ProxyError::Body(error) => body_face(*error),
        ProxyError::LengthRequired => Face::new(
            Fault::Client,
            Code::LengthRequired,
            StatusCode::LENGTH_REQUIRED,
            proxy_status!("http_request_error"),
            "Length required",
            "a body this long needs a Content-Length with GET and HEAD",
        ),
        ProxyError::Paused(_) => Face {
            code: Code::Paused,
            status: StatusCode::SERVICE_UNAVAILABLE,
            title: "Paused",
            detail: "an operator has paused this gateway; nothing is forwarded until it is resumed",
            proxy_status: proxy_status!("http_request_denied"),
            retry_after: Some(PAUSED_RETRY_AFTER),
            fault: Fault::Nobody,
        },
        ProxyError::Overloaded(_) => Face {
            code: Code::Overloaded,
            status: StatusCode::SERVICE_UNAVAILABLE,
            title: "Overloaded",
            detail: "the gateway has as many requests as it can take; nothing was sent",
            proxy_status: proxy_status!("http_request_denied"),
            retry_after: Some(OVERLOADED_RETRY_AFTER),
            // The log is told by who turned it away, and not of each.
            fault: Fault::Nobody,
        },
        ProxyError::CredentialUnavailable => Face {
            code: Code::CredentialUnavailable,
            status: StatusCode::SERVICE_UNAVAILABLE,
            title: "No credential",
            detail: "the gateway has no usable credential; nothing is forwarded without one",
            proxy_status: proxy_status!("proxy_configuration_error"),
            retry_after: None,
            fault: Fault::Gateway,
        },
        ProxyError::CredentialRejected => Face {
            code: Code::CredentialRejected,
            status: StatusCode::BAD_GATEWAY,
            title: "Credential rejected",
            detail: "MODEN answered 401: it did not accept the gateway's credential",
            proxy_status: "moden-gateway; received-status=401",
            retry_after: None,
            fault: Fault::Gateway,
        },
        ProxyError::Misdirected => Face::new(
            Fault::Upstream,
            Code::UpstreamInvalid,
            StatusCode::BAD_GATEWAY,
            "moden-gateway; received-status=421",
            "Invalid answer",
            "MODEN answered 421: it does not serve the host that is configured as base_url",
        ),
        ProxyError::Upstream(error) => upstream_face(&error.failure),
    }
}

fn malformed_face(why: Malformed) -> Face {
    let detail = match why {
        Malformed::Framing(violation) => violation.as_str(),
        Malformed::Character => {
            "the head has a character that may not stand where it does, or a field without a colon"
        }
        Malformed::TargetTooLong => "the request target is longer than can be read",
        Malformed::Late => "the head of the request did not arrive in time",
    };
    let (code, status, title) = match why.meaning() {
        Some(Meaning::Malformed) => (
            Code::RequestMalformed,
            StatusCode::BAD_REQUEST,
            "Malformed request",
        ),
        Some(Meaning::TargetTooLong) => {
            (Code::UriTooLong, StatusCode::URI_TOO_LONG, "URI too long")
        }
        Some(Meaning::HeadTooLarge) => (
            Code::HeaderTooLarge,
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "Header too large",
        ),
        Some(Meaning::NotImplemented) => (
            Code::NotImplemented,
            StatusCode::NOT_IMPLEMENTED,
            "Not implemented",
        ),
        Some(Meaning::VersionNotSupported) => (
            Code::VersionNotSupported,
            StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            "Version not supported",
        ),
        None => (
            Code::RequestTimeout,
            StatusCode::REQUEST_TIMEOUT,
            "Request timeout",
        ),
    };
    let proxy_status = proxy_status!("http_request_error");
    Face::new(Fault::Client, code, status, proxy_status, title, detail)
}

fn body_face(error: BodyError) -> Face {
    match error {
        BodyError::TooLarge => Face::new(
            Fault::Client,
            Code::BodyTooLarge,
            StatusCode::PAYLOAD_TOO_LARGE,
            proxy_status!("http_request_error"),
            "Body too large",
            "the request body is longer than this listener accepts",
        ),
        BodyError::Timeout => Face::new(
            Fault::Client,
            Code::RequestTimeout,
            StatusCode::REQUEST_TIMEOUT,
            proxy_status!("http_request_error"),
            "Request timeout",
            "the request body did not arrive in time",
        ),
        BodyError::Incomplete => Face::new(
            Fault::Client,
            Code::RequestMalformed,
            StatusCode::BAD_REQUEST,
            proxy_status!("http_request_error"),
            "Malformed request",
            "the request body ended, or broke its framing, before it was complete",
        ),
    }
}

fn upstream_face(failure: &Failure) -> Face {
    let unreachable = |proxy_status, detail| {
        let title = "Upstream unreachable";
        Face::new(
            Fault::Upstream,
            Code::UpstreamUnreachable,
            StatusCode::BAD_GATEWAY,
            proxy_status,
            title,
            detail,
        )
    };
    let timeout = |proxy_status, detail| {
        let title = "Upstream timeout";
        Face::new(
            Fault::Upstream,
            Code::UpstreamTimeout,
            StatusCode::GATEWAY_TIMEOUT,
            proxy_status,
            title,
            detail,
        )
    };
    match failure {
        Failure::QueueTimeout => Face {
            code: Code::Overloaded,
            status: StatusCode::SERVICE_UNAVAILABLE,
            title: "Overloaded",
            detail: "all connections to MODEN are busy",
            proxy_status: proxy_status!("http_request_denied"),
            retry_after: Some(OVERLOADED_RETRY_AFTER),
            fault: Fault::Gateway,
        },
        Failure::BreakerOpen(_) => Face::new(
            Fault::Nobody,
            Code::UpstreamUnavailable,
            StatusCode::SERVICE_UNAVAILABLE,
            proxy_status!("http_request_denied"),
            "Upstream unavailable",
            "MODEN has failed too often lately; nothing is sent until Retry-After has passed",
        ),
        Failure::Dns(_) => unreachable(
            proxy_status!("dns_error"),
            "MODEN's name could not be resolved",
        ),
        Failure::Refused => unreachable(
            proxy_status!("connection_refused"),
            "MODEN refused the connection",
        ),
        Failure::Unreachable(_) => unreachable(
            proxy_status!("destination_unavailable"),
            "MODEN could not be reached",
        ),
        Failure::Tunnel(_) => unreachable(
            proxy_status!("destination_unavailable"),
            "the egress proxy opened no tunnel to MODEN",
        ),
        Failure::Certificate(_) => unreachable(
            proxy_status!("tls_certificate_error"),
            "MODEN's certificate was not accepted; nothing was sent",
        ),
        Failure::Tls(_) => unreachable(
            proxy_status!("tls_protocol_error"),
            "the TLS handshake with MODEN failed",
        ),
        Failure::ConnectTimeout => timeout(
            proxy_status!("connection_timeout"),
            "connecting to MODEN took too long",
        ),
        Failure::ResponseTimeout => timeout(
            proxy_status!("http_response_timeout"),
            "MODEN did not answer in time",
        ),
        Failure::AnswerTimeout => timeout(
            proxy_status!("http_response_timeout"),
            "MODEN's answer stalled before it was complete",
        ),
        Failure::Reset => Face::new(
            Fault::Upstream,
            Code::UpstreamReset,
            StatusCode::BAD_GATEWAY,
            proxy_status!("connection_terminated"),
            "Upstream reset",
            "the connection to MODEN ended before its answer was complete",
        ),
        Failure::Invalid(_) => Face::new(
            Fault::Upstream,
            Code::UpstreamInvalid,
            StatusCode::BAD_GATEWAY,
            proxy_status!("http_protocol_error"),
            "Invalid answer",
            "what MODEN sent is not a valid HTTP answer",
        ),
        // A 408 invites a repetition, which is only right when nothing has left (RFC 9110 15.5.9).
        Failure::RequestBody(BodyError::Timeout | BodyError::Incomplete) => {
            body_face(BodyError::Incomplete)
        }
        Failure::RequestBody(BodyError::TooLarge) => body_face(BodyError::TooLarge),
    }
}
