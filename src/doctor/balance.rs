//! A question for the balance: does MODEN accept the credential, and what time is it there?

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, DATE, HOST};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri};
use serde::Deserialize;

use super::report::{Check, Finding, Status};
use crate::body::{HeldBytes, RequestBody};
use crate::client_auth::ClientIdentity;
use crate::config::Config;
use crate::credentials::{Credential, Credentials};
use crate::domain::PathCharacters;
use crate::proxy::{headers, path};
use crate::telemetry::metrics::UpstreamMetrics;
use crate::upstream::{
    Answer, AnswerBody, Breaker, ExchangeFacts, Origin, Upstream, UpstreamError,
};

/// The endpoint that tells the balance and changes nothing, as a client would call it.
///
/// # Source
/// MODEN help page "Quick start", 2021-03-23, for production. That the sandbox has it, too, is an
/// assumption by analogy.
const CHECK_BALANCE: &str = "/pay/inquire/wallet";

/// Payments carry a `timestamp`; a clock that is off by more may come to matter.
const WARN_ABOVE: Duration = Duration::from_secs(5);

/// A clock that is off by more makes payments look stale or not yet due.
const FAIL_ABOVE: Duration = Duration::from_secs(5 * 60);

/// `Date` has whole seconds, and may have been made just before one was over.
///
/// # Source
/// RFC 9110 section 5.6.7.
const DATE_RESOLUTION: Duration = Duration::from_secs(1);

/// Asks once, on the way that payments take.
pub(super) async fn examine(
    config: &Config,
    origin: &Arc<Origin>,
    metrics: &Arc<UpstreamMetrics>,
    credential: Credential,
) -> Vec<Finding> {
    let credentials = Credentials::default();
    credentials.replace(credential);
    let request = question(config, origin);
    let Ok(authorized) = credentials.authorize(request, &ClientIdentity::anonymous()) else {
        let reason = "there is no credential";
        return [Check::Credential, Check::Clock]
            .map(|c| Finding::skipped(c, reason))
            .into();
    };
    // One answer, bounded by upstream.hold_answer.
    let held = Arc::new(HeldBytes::new(u64::MAX));
    let breaker = Arc::new(Breaker::off());
    let upstream = Upstream::new(Arc::clone(origin), breaker, 1, held, Arc::clone(metrics));
    let asked = SystemTime::now();
    let may_begin = || Ok::<_, UpstreamError>(());
    let answer = upstream
        .send(authorized, &mut ExchangeFacts::default(), may_begin)
        .await;
    let answered = SystemTime::now();
    match answer {
        Ok(answer) => vec![
            judge_answer(&answer),
            judge_clock(&answer.head.headers, asked, answered),
        ],
        Err(error) => vec![
            Finding::bad(
                Check::Credential,
                Status::Fail,
                format!("no answer to a question for the balance: {error}"),
                "try again; if that does not help, ask MODEN whether the API is up",
            ),
            Finding::skipped(Check::Clock, "there was no answer"),
        ],
    }
}

/// The question, as the hot path would send it on.
fn question(config: &Config, origin: &Origin) -> Request<RequestBody> {
    let path = path::resolve(
        CHECK_BALANCE,
        config.environment,
        &PathCharacters::unreserved(),
    )
    .expect("the documented path is plain");
    let target = path::upstream_target(config.selected().base_url.path(), &path)
        .expect("a base path and a short path are a target");
    let mut request = Request::new(RequestBody::held(Bytes::new()));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = Uri::from(target);
    let fields = request.headers_mut();
    headers::append_via(fields, http::Version::HTTP_11);
    fields.insert(HOST, origin.authority().clone());
    fields.insert(ACCEPT, HeaderValue::from_static("application/json"));
    fields.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    request
}

/// Says what MODEN's answer means for the credential; shows nothing of it but status and code.
///
/// # Source
/// MODEN help pages "Quick start" and "Create payment", 2021-03-23: 412 with a code is a refusal.
/// What a wrong credential is answered is not documented.
fn judge_answer(answer: &Answer) -> Finding {
    let status = answer.head.status;
    let bad = |severity, seen: String, advice| {
        Finding::bad(Check::Credential, severity, seen, Some(advice))
    };
    match status {
        StatusCode::OK if tells_success(&answer.body) => Finding::ok(
            Check::Credential,
            "MODEN accepts it: 200 to a question for the balance",
        ),
        StatusCode::OK => bad(
            Status::Warn,
            "nothing is known of it: 200 to a question for the balance, with a body that is not \
             MODEN's"
                .to_owned(),
            "find out who answers in MODEN's place: a sign-in page of the network, or another \
             service at base_url",
        ),
        StatusCode::UNAUTHORIZED => bad(
            Status::Fail,
            "MODEN does not accept it: 401".to_owned(),
            "check app_id and secret against MODEN's dashboard, and that they are of this \
             environment; no payment succeeds meanwhile",
        ),
        StatusCode::PRECONDITION_FAILED => {
            let code = refusal_code(&answer.body);
            let code = code.map_or_else(|| "no code".to_owned(), |code| format!("code {code}"));
            bad(
                Status::Fail,
                format!("MODEN refuses to tell the balance: 412 with {code}"),
                "ask MODEN what the code means; it may stand for a wrong credential",
            )
        }
        StatusCode::NOT_FOUND => bad(
            Status::Warn,
            "nothing is known of it: 404 to a question for the balance".to_owned(),
            "check the path of base_url; if it is right, this environment has no check of balance",
        ),
        StatusCode::LOOP_DETECTED => bad(
            Status::Fail,
            "the question came to a gateway: 508".to_owned(),
            "base_url must lead to MODEN, not to this gateway or another one",
        ),
        _ => bad(
            Status::Warn,
            format!(
                "nothing is known of it: {} to a question for the balance",
                status.as_u16()
            ),
            "try again later; MODEN answers, but not this question",
        ),
    }
}

/// Whether this is MODEN's balance; an answer too long to be held is not.
///
/// # Source
/// MODEN help page "Quick start", 2021-03-23: `{"status":"success","data":{…}}`.
fn tells_success(body: &AnswerBody) -> bool {
    #[derive(Deserialize)]
    struct Success {
        status: String,
    }
    let AnswerBody::Held(body, _) = body else {
        return false;
    };
    serde_json::from_slice::<Success>(body).is_ok_and(|balance| balance.status == "success")
}

/// The integer that MODEN gives as the reason of a refusal.
fn refusal_code(body: &AnswerBody) -> Option<i64> {
    #[derive(Deserialize)]
    struct Refusal {
        code: i64,
    }
    let AnswerBody::Held(body, _) = body else {
        return None;
    };
    let refusal: Refusal = serde_json::from_slice(body).ok()?;
    Some(refusal.code)
}

/// Compares `Date` with the time between question and answer.
fn judge_clock(fields: &HeaderMap, asked: SystemTime, answered: SystemTime) -> Finding {
    let date = fields.get(DATE).and_then(|date| date.to_str().ok());
    let Some(date) = date.and_then(|date| httpdate::parse_http_date(date).ok()) else {
        return Finding::skipped(Check::Clock, "MODEN's answer has no valid Date");
    };
    let ahead = asked
        .duration_since(date + DATE_RESOLUTION)
        .unwrap_or_default();
    let behind = date.duration_since(answered).unwrap_or_default();
    let (off, direction) = match ahead.max(behind) {
        off if off == ahead => (off, "ahead of"),
        off => (off, "behind"),
    };
    let status = if off > FAIL_ABOVE {
        Status::Fail
    } else if off > WARN_ABOVE {
        Status::Warn
    } else {
        return Finding::ok(Check::Clock, "within 5 s of MODEN's");
    };
    let seen = format!("{} s {direction} MODEN's", off.as_secs());
    let advice = "set this machine's clock (chrony, systemd-timesyncd): payments carry a timestamp";
    Finding::bad(Check::Clock, status, seen, advice)
}
