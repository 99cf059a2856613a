//! Every reply: MODEN's answer with the verdict on it, or an error in its own words.
//!
//! The only place where an error becomes a response; `reply/face.rs` has the table of what each
//! looks like.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde::{Deserialize, Serialize};
use tokio_util::task::TaskTracker;

use super::answer_body::ReplyBody;
use super::error::ProxyError;
use super::headers::X_REQUEST_ID;
use super::preview::Refusal;
use super::record::Record;
use crate::domain::Outcome;
use crate::limits::Denied;
use crate::upstream::{Answer, AnswerBody};

mod face;

use face::{Face, Fault, face};

const GATEWAY_OUTCOME: HeaderName = HeaderName::from_static("gateway-outcome");
const GATEWAY_ENVIRONMENT: HeaderName = HeaderName::from_static("gateway-environment");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

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
    put_limits(&record, &mut head.headers);
    let body = match body {
        AnswerBody::Held(bytes, held) => {
            if head.status == StatusCode::PRECONDITION_FAILED {
                record.moden_code = moden_code(&bytes);
            }
            record.outcome = Outcome::Answered;
            record.reply_bytes = bytes.len() as u64;
            ReplyBody::counted(bytes, held)
        }
        AnswerBody::Streamed(stream) => ReplyBody::streamed(stream, record, exchanges),
    };
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    response
}

/// Answers for this hop which methods may be used; nothing is sent on.
///
/// # Source
/// RFC 9110 sections 9.3.7 and 10.2.1.
pub(super) fn list_methods(allow: HeaderValue, mut record: Record) -> Response<ReplyBody> {
    record.status = StatusCode::NO_CONTENT;
    record.code = None;
    record.outcome = Outcome::NotSent;
    let mut response = Response::new(ReplyBody::held(Bytes::new()));
    *response.status_mut() = record.status;
    let headers = response.headers_mut();
    record.marks().put(record.outcome, headers);
    headers.insert(ALLOW, allow);
    if record.is_last {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
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

    let denied = match error {
        ProxyError::LimitExceeded(denied) => Some(denied),
        _ => None,
    };
    let (mut response, reply_bytes) = problem(&face, outcome, &record.marks(), denied);
    record.reply_bytes = match record.is_head() {
        true => 0,
        false => reply_bytes,
    };
    let headers = response.headers_mut();
    put_limits(&record, headers);
    if let Some(seconds) = error.retry_after_seconds() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(denied) = denied {
        put_denial(denied, &record, headers);
        record.limit = Some(Arc::clone(&denied.policy));
    }
    if let ProxyError::MethodNotAllowed { allow } = error {
        headers.insert(ALLOW, allow.clone());
    }
    if record.is_last {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// What the reply to an error would say, for those who only ask.
pub(super) fn foretell(error: &ProxyError) -> Refusal {
    let face = face(error);
    let allow = match error {
        ProxyError::MethodNotAllowed { allow } => allow.to_str().ok().map(str::to_owned),
        _ => None,
    };
    Refusal {
        status: face.status.as_u16(),
        code: Some(face.code.as_str()),
        detail: face.detail,
        allow,
    }
}

/// What [`list_methods`] would say, for those who only ask.
pub(super) fn foretell_list(allow: &HeaderValue) -> Refusal {
    Refusal {
        status: StatusCode::NO_CONTENT.as_u16(),
        code: None,
        detail: "the gateway answers for itself; nothing is sent on",
        allow: allow.to_str().ok().map(str::to_owned),
    }
}

/// Answers for a request whose handling panicked; whether bytes of it left is not known any more.
pub(super) fn apologize(marks: &Marks) -> Response<ReplyBody> {
    problem(&face::INTERNAL, Outcome::Unknown, marks, None).0
}

/// Tells what is left of the limits that the request has passed.
fn put_limits(record: &Record, headers: &mut HeaderMap) {
    if let Some((field, policies)) = record.limit_fields() {
        headers.insert(RATELIMIT, field.clone());
        headers.insert(RATELIMIT_POLICY, policies.clone());
    }
}

/// Tells what the policy that denied has to say.
fn put_denial(denied: &Denied, record: &Record, headers: &mut HeaderMap) {
    if let Some(field) = &denied.field {
        headers.insert(RATELIMIT, field.clone());
    }
    if let Some(policies) = record.limit_policies() {
        headers.insert(RATELIMIT_POLICY, policies.clone());
    }
}

/// A problem document as a reply, and its length in bytes.
fn problem(
    face: &Face,
    outcome: Outcome,
    marks: &Marks,
    denied: Option<&Denied>,
) -> (Response<ReplyBody>, u64) {
    let problem = Problem {
        kind: format!("urn:moden-gateway:problem:{}", face.code.as_str()),
        title: face.title,
        status: face.status.as_u16(),
        detail: face.detail,
        code: face.code.as_str(),
        outcome,
        request_id: marks.request_id.to_str().unwrap_or_default(),
        violated_policies: denied.map(|denied| [&*denied.policy]),
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
    /// The policy that denied, as draft-ietf-httpapi-ratelimit-headers names it.
    #[serde(rename = "violated-policies", skip_serializing_if = "Option::is_none")]
    violated_policies: Option<[&'reply str; 1]>,
}

/// Says it once in the application log, where an operator has to act.
fn log(error: &ProxyError, face: &Face, record: &Record) {
    let request_id = record.request_id().to_str().unwrap_or_default();
    match face.fault {
        Fault::Client | Fault::Nobody => {}
        Fault::Gateway => {
            tracing::error!(code = face.code.as_str(), request_id, "{error}");
        }
        Fault::Upstream => {
            tracing::warn!(
                code = face.code.as_str(),
                outcome = error.outcome().as_str(),
                request_id,
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
