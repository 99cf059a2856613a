//! Every reply: MODEN's answer with the verdict on it, or an error in its own words.
//!
//! The only place where an error becomes a response. Codes, statuses and `Proxy-Status` errors
//! are the table that README.md shows.

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde::{Deserialize, Serialize};
use tokio_util::task::TaskTracker;

use super::answer_body::ReplyBody;
use super::error::ProxyError;
use super::headers::X_REQUEST_ID;
use super::record::Record;
use crate::body::BodyError;
use crate::domain::Outcome;
use crate::upstream::{Answer, AnswerBody, Failure};

const GATEWAY_OUTCOME: HeaderName = HeaderName::from_static("gateway-outcome");
const GATEWAY_ENVIRONMENT: HeaderName = HeaderName::from_static("gateway-environment");
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// How long a client is asked to wait when the gateway itself is short of room, in seconds.
const OVERLOADED_RETRY_AFTER: &str = "1";

/// The whole value of `Proxy-Status` for an error type of RFC 9209 section 2.3.
macro_rules! proxy_status {
    ($error:literal) => {
        concat!("moden-gateway; error=", $error)
    };
}

/// Passes MODEN's answer on, with the verdict on it.
pub(super) fn pass(
    answer: Answer,
    mut record: Record,
    exchanges: TaskTracker,
) -> Response<ReplyBody> {
    let Answer { mut head, body } = answer;
    record.status = head.status;
    record.code = None;
    // What is passed on is counted anew, except where the field speaks of a body that is not sent.
    if !record.is_head() && head.status != StatusCode::NOT_MODIFIED {
        head.headers.remove(CONTENT_LENGTH);
    }
    record.marks().put(Outcome::Answered, &mut head.headers);
    let body = match body {
        AnswerBody::Held(bytes) => {
            if head.status == StatusCode::PRECONDITION_FAILED {
                record.moden_code = moden_code(&bytes);
            }
            record.outcome = Outcome::Answered;
            record.reply_bytes = bytes.len() as u64;
            ReplyBody::held(bytes)
        }
        AnswerBody::Streamed(stream) => ReplyBody::streamed(stream, record, exchanges),
    };
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    response
}

/// Answers with an error: problem+json, its stable code, and the verdict.
pub(super) fn refuse(error: &ProxyError, mut record: Record) -> Response<ReplyBody> {
    let face = face(error);
    let outcome = error.outcome();
    log(error, &face, &record);
    record.status = face.status;
    record.code = Some(face.code);
    record.outcome = outcome;

    let (mut response, reply_bytes) = problem(&face, outcome, &record.marks());
    record.reply_bytes = reply_bytes;
    let headers = response.headers_mut();
    if let ProxyError::MethodNotAllowed { allow } = error {
        headers.insert(ALLOW, allow.clone());
    }
    if matches!(error, ProxyError::Body(_) | ProxyError::LengthRequired) {
        // The rest of the body may still be on its way; it must not be read as a request.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Answers for a request whose handling panicked; whether bytes of it left is not known any more.
pub(super) fn apologize(marks: &Marks) -> Response<ReplyBody> {
    let face = Face {
        code: "internal",
        status: StatusCode::INTERNAL_SERVER_ERROR,
        title: "Internal error",
        detail: "the gateway failed; whether MODEN received the request is not known",
        proxy_status: proxy_status!("proxy_internal_error"),
        retry_after: None,
        fault: Fault::Gateway,
    };
    problem(&face, Outcome::Unknown, marks).0
}

/// A problem document as a reply, and its length in bytes.
fn problem(face: &Face, outcome: Outcome, marks: &Marks) -> (Response<ReplyBody>, u64) {
    let problem = Problem {
        kind: format!("urn:moden-gateway:problem:{}", face.code),
        title: face.title,
        status: face.status.as_u16(),
        detail: face.detail,
        code: face.code,
        outcome,
        request_id: marks.request_id.to_str().unwrap_or_default(),
    };
    let body = serde_json::to_vec(&problem).expect("a flat object of texts and numbers");
    let reply_bytes = body.len() as u64;

    let mut response = Response::new(ReplyBody::held(Bytes::from(body)));
    *response.status_mut() = face.status;
    let headers = response.headers_mut();
    marks.put(outcome, headers);
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    headers.insert(PROXY_STATUS, HeaderValue::from_static(face.proxy_status));
    if let Some(seconds) = face.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from_static(seconds));
    }
    (response, reply_bytes)
}

/// What every reply says, besides the outcome.
#[derive(Debug)]
pub(super) struct Marks {
    pub(super) request_id: HeaderValue,
    pub(super) environment: HeaderValue,
}

impl Marks {
    fn put(&self, outcome: Outcome, headers: &mut HeaderMap) {
        headers.insert(GATEWAY_OUTCOME, HeaderValue::from_static(outcome.as_str()));
        headers.insert(GATEWAY_ENVIRONMENT, self.environment.clone());
        headers.insert(&X_REQUEST_ID, self.request_id.clone());
    }
}

/// A problem document.
///
/// # Source
/// RFC 9457 section 3.
#[derive(Serialize)]
struct Problem<'reply> {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: &'static str,
    code: &'static str,
    outcome: Outcome,
    request_id: &'reply str,
}

/// How one kind of error looks from outside.
struct Face {
    code: &'static str,
    status: StatusCode,
    title: &'static str,
    detail: &'static str,
    /// The whole value of `Proxy-Status` (RFC 9209 section 2).
    proxy_status: &'static str,
    retry_after: Option<&'static str>,
    /// Whose move it is; decides how loud the application log is.
    fault: Fault,
}

/// The side at fault.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    Client,
    Gateway,
    Upstream,
}

impl Face {
    const fn client(
        code: &'static str,
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
            fault: Fault::Client,
        }
    }

    const fn upstream(
        code: &'static str,
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
            fault: Fault::Upstream,
        }
    }
}

fn face(error: &ProxyError) -> Face {
    match error {
        ProxyError::HostInvalid => Face::client(
            "request-malformed",
            StatusCode::BAD_REQUEST,
            proxy_status!("http_request_error"),
            "Malformed request",
            "a request names exactly one valid Host",
        ),
        ProxyError::PathAmbiguous => Face::client(
            "path-ambiguous",
            StatusCode::BAD_REQUEST,
            proxy_status!("http_request_error"),
            "Ambiguous path",
            "the path could be read in more than one way; write it plainly, in the spelling of \
             its route, without empty or dot segments, percent-encoding or a slash at its end",
        ),
        ProxyError::UriTooLong => Face::client(
            "uri-too-long",
            StatusCode::URI_TOO_LONG,
            proxy_status!("http_request_error"),
            "URI too long",
            "the request target is longer than can be passed on",
        ),
        ProxyError::EnvironmentMismatch => Face::client(
            "environment-mismatch",
            StatusCode::FORBIDDEN,
            proxy_status!("http_request_denied"),
            "Wrong environment",
            "the path names the sandbox, but this gateway serves production; call \
             /pay/<endpoint> and let the gateway's configuration choose the environment",
        ),
        ProxyError::RouteNotFound => Face::client(
            "route-not-found",
            StatusCode::NOT_FOUND,
            proxy_status!("http_request_denied"),
            "No such route",
            "no route of this gateway has this path; endpoints are called as /pay/<endpoint>",
        ),
        ProxyError::MethodNotAllowed { .. } => Face::client(
            "method-not-allowed",
            StatusCode::METHOD_NOT_ALLOWED,
            proxy_status!("http_request_denied"),
            "Method not allowed",
            "the route does not allow this method; Allow lists those it does",
        ),
        ProxyError::ExpectationFailed => Face::client(
            "expectation-failed",
            StatusCode::EXPECTATION_FAILED,
            proxy_status!("http_request_error"),
            "Expectation failed",
            "the only expectation that can be met is 100-continue",
        ),
        ProxyError::LoopDetected => Face::client(
            "loop-detected",
            StatusCode::LOOP_DETECTED,
            proxy_status!("proxy_loop_detected"),
            "Loop detected",
            "Via says that this request came through a moden-gateway before",
        ),
        ProxyError::Body(error) => body_face(*error),
        ProxyError::LengthRequired => Face::client(
            "length-required",
            StatusCode::LENGTH_REQUIRED,
            proxy_status!("http_request_error"),
            "Length required",
            "a body this long needs a Content-Length with GET and HEAD",
        ),
        ProxyError::CredentialUnavailable => Face {
            code: "credential-unavailable",
            status: StatusCode::SERVICE_UNAVAILABLE,
            title: "No credential",
            detail: "the gateway has no usable credential; nothing is forwarded without one",
            proxy_status: proxy_status!("proxy_configuration_error"),
            retry_after: None,
            fault: Fault::Gateway,
        },
        ProxyError::CredentialRejected => Face {
            code: "credential-rejected",
            status: StatusCode::BAD_GATEWAY,
            title: "Credential rejected",
            detail: "MODEN answered 401: it did not accept the gateway's credential",
            proxy_status: "moden-gateway; received-status=401",
            retry_after: None,
            fault: Fault::Gateway,
        },
        ProxyError::Upstream(error) => upstream_face(&error.failure),
    }
}

fn body_face(error: BodyError) -> Face {
    match error {
        BodyError::TooLarge => Face::client(
            "body-too-large",
            StatusCode::PAYLOAD_TOO_LARGE,
            proxy_status!("http_request_error"),
            "Body too large",
            "the request body is longer than this listener accepts",
        ),
        BodyError::Timeout => Face::client(
            "request-timeout",
            StatusCode::REQUEST_TIMEOUT,
            proxy_status!("http_request_error"),
            "Request timeout",
            "the request body did not arrive in time",
        ),
        BodyError::Incomplete => Face::client(
            "request-malformed",
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
        Face::upstream(
            "upstream-unreachable",
            StatusCode::BAD_GATEWAY,
            proxy_status,
            title,
            detail,
        )
    };
    let timeout = |proxy_status, detail| {
        let title = "Upstream timeout";
        Face::upstream(
            "upstream-timeout",
            StatusCode::GATEWAY_TIMEOUT,
            proxy_status,
            title,
            detail,
        )
    };
    match failure {
        Failure::QueueTimeout => Face {
            code: "overloaded",
            status: StatusCode::SERVICE_UNAVAILABLE,
            title: "Overloaded",
            detail: "all connections to MODEN are busy",
            proxy_status: proxy_status!("http_request_denied"),
            retry_after: Some(OVERLOADED_RETRY_AFTER),
            fault: Fault::Gateway,
        },
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
        Failure::Reset => Face::upstream(
            "upstream-reset",
            StatusCode::BAD_GATEWAY,
            proxy_status!("connection_terminated"),
            "Upstream reset",
            "the connection to MODEN ended before its answer was complete",
        ),
        Failure::Invalid => Face::upstream(
            "upstream-invalid",
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

/// Says it once in the application log, where an operator has to act.
fn log(error: &ProxyError, face: &Face, record: &Record) {
    let request_id = record.request_id().to_str().unwrap_or_default();
    match face.fault {
        Fault::Client => {}
        Fault::Gateway => {
            tracing::error!(code = face.code, request.id = request_id, "{error}");
        }
        Fault::Upstream => {
            tracing::warn!(
                code = face.code,
                outcome = error.outcome().as_str(),
                request.id = request_id,
                "{error}"
            );
        }
    }
}

/// The integer that MODEN gives as the reason of a refusal, for the access log.
///
/// # Source
/// MODEN help page "Create payment", 2021-03-23: 412 with `{"status":"fail","code":…}`.
fn moden_code(body: &[u8]) -> Option<i64> {
    #[derive(Deserialize)]
    struct Refusal {
        code: i64,
    }
    serde_json::from_slice::<Refusal>(body)
        .ok()
        .map(|refusal| refusal.code)
}
