//! What does MODEN answer to this request?
//!
//! Requests under `/pay/sandbox/` are the sandbox's, all others under `/pay/` production's, by
//! the exact bytes of the path, nothing decoded. Start reading at [`handle`].

use http::header::{ALLOW, CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;
use tokio::time::sleep;

use crate::domain::Environment;

use super::State;
use super::answer::{Answer, AnswerBody, Parting};
use super::body::{self, BodyEnd};
use super::faults::{FAULT_HEADER, Fault};
use super::orders::OrdersFull;
use super::payment::PaymentForm;
use super::records::RecordedRequest;

/// The endpoint that tells a balance and changes nothing.
const WALLET: &str = "inquire/wallet";

/// The endpoint that creates a payment.
const PAYMENT: &str = "gateway";

/// Below this the simulator tells what arrived; not an endpoint of MODEN's.
const ECHO_PREFIX: &str = "echo/";

/// The balance of everybody's wallet.
const TOTAL_ASSETS: u32 = 1_000_000;

/// Codes of refusals outside "create payment": ours, with the status in their last three digits.
mod code {
    pub(super) const FAULT_UNKNOWN: u32 = 10400;
    pub(super) const UNAUTHORIZED: u32 = 10401;
    pub(super) const NOT_FOUND: u32 = 10404;
    pub(super) const METHOD_NOT_ALLOWED: u32 = 10405;
    pub(super) const BODY_TOO_SLOW: u32 = 10408;
    pub(super) const BODY_TOO_LARGE: u32 = 10413;
    pub(super) const TOO_MANY_REQUESTS: u32 = 10429;
    pub(super) const SERVER_ERROR: u32 = 10500;
    pub(super) const BAD_GATEWAY: u32 = 10502;
    pub(super) const ORDERS_FULL: u32 = 10503;
    pub(super) const UNAVAILABLE: u32 = 10503;
    pub(super) const GATEWAY_TIMEOUT: u32 = 10504;
}

/// Answers one request as MODEN would, or as the fault that strikes it demands.
///
/// The record is written and the order committed before the first pause, so a client that gives
/// up waiting finds both.
///
/// # Errors
/// The connection is to end abruptly.
pub(super) async fn handle(
    state: &State,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Parting> {
    let (head, body) = request.into_parts();
    let (environment, endpoint) = match locate(head.uri.path()) {
        Some((environment, endpoint)) => (Some(environment), endpoint),
        None => (None, ""),
    };
    let fault = state.faults.choose(head.headers.get(FAULT_HEADER));
    if let Ok(Some(Fault::ResetBefore)) = fault {
        state.records.add(|| RecordedRequest {
            fault: Some(Fault::ResetBefore),
            ..RecordedRequest::new(environment, head)
        });
        return Err(Parting::reset());
    }

    let body = body::receive(body).await;
    let form = (endpoint == PAYMENT).then(|| PaymentForm::read(&body.content));
    let length = body.content.len();
    let (answer, fault) = match (body.end, fault) {
        (BodyEnd::Broken, _) => (None, None),
        (BodyEnd::TooLarge, _) => (Some(body_too_large()), None),
        (BodyEnd::TooSlow, _) => (Some(body_too_slow()), None),
        (BodyEnd::Complete, Err(error)) => {
            let message = error.to_string();
            let answer = Answer::fail(StatusCode::BAD_REQUEST, code::FAULT_UNKNOWN, &message);
            (Some(answer), None)
        }
        (BodyEnd::Complete, Ok(fault)) => {
            let answer = refuse_early(fault.as_ref()).unwrap_or_else(|| {
                decide(state, environment, endpoint, &head, form.as_ref(), length)
            });
            (Some(answer), fault)
        }
    };
    state.records.add(|| RecordedRequest {
        body_length: length as u64,
        sn: form.as_ref().and_then(PaymentForm::sn).map(str::to_owned),
        status: status_seen(answer.as_ref(), fault.as_ref()),
        fault: fault.clone(),
        ..RecordedRequest::new(environment, head)
    });
    deliver(answer.ok_or_else(Parting::close)?, fault).await
}

/// The environment and the endpoint that a path names; none outside `/pay/`.
///
/// # Source
/// MODEN help pages "Quick start" and "Create payment", 2021-03-23: the environments differ in
/// nothing but this prefix.
fn locate(path: &str) -> Option<(Environment, &str)> {
    let rest = path.strip_prefix("/pay/")?;
    Some(match rest.strip_prefix("sandbox/") {
        Some(endpoint) => (Environment::Sandbox, endpoint),
        None => (Environment::Production, rest),
    })
}

/// The answer of a fault that stands before the API.
fn refuse_early(fault: Option<&Fault>) -> Option<Answer> {
    match fault? {
        Fault::Unauthorized => Some(unauthorized()),
        Fault::TooManyRequests { retry_after } => {
            let answer = Answer::fail(
                StatusCode::TOO_MANY_REQUESTS,
                code::TOO_MANY_REQUESTS,
                "too many requests",
            );
            Some(match retry_after {
                Some(seconds) => answer.with(RETRY_AFTER, *seconds),
                None => answer,
            })
        }
        Fault::ServerError => Some(failed(
            StatusCode::INTERNAL_SERVER_ERROR,
            code::SERVER_ERROR,
        )),
        Fault::BadGateway => Some(failed(StatusCode::BAD_GATEWAY, code::BAD_GATEWAY)),
        Fault::ServiceUnavailable => {
            Some(failed(StatusCode::SERVICE_UNAVAILABLE, code::UNAVAILABLE))
        }
        Fault::GatewayTimeout => Some(failed(StatusCode::GATEWAY_TIMEOUT, code::GATEWAY_TIMEOUT)),
        _ => None,
    }
}

fn failed(status: StatusCode, code: u32) -> Answer {
    Answer::fail(status, code, "the simulator was told to fail")
}

/// The API itself: credential, endpoint, method, answer.
fn decide(
    state: &State,
    environment: Option<Environment>,
    endpoint: &str,
    head: &Parts,
    form: Option<&PaymentForm>,
    body_length: usize,
) -> Answer {
    let Some(environment) = environment else {
        return not_found();
    };
    if !state.credential.load().accepts(&head.headers) {
        return unauthorized();
    }
    match (endpoint, form) {
        (WALLET | PAYMENT, _) if head.method != Method::POST => method_not_allowed(),
        (WALLET, _) => wallet(),
        (PAYMENT, Some(form)) => create_payment(state, environment, head, form),
        _ if endpoint.starts_with(ECHO_PREFIX) => echo(head, body_length),
        _ => not_found(),
    }
}

/// The balance, which is the same for everybody.
///
/// # Source
/// MODEN help page "Quick start", 2021-03-23.
fn wallet() -> Answer {
    let data = json!({ "totalAssets": TOTAL_ASSETS, "coin": "USDT" });
    let content = json!({ "status": "success", "data": data });
    Answer::json(StatusCode::OK, &content)
}

/// Commits a payment whose fields are in order, whether or not it was committed before.
///
/// # Source
/// MODEN help page "Create payment", 2021-03-23.
fn create_payment(
    state: &State,
    environment: Environment,
    head: &Parts,
    form: &PaymentForm,
) -> Answer {
    let payment = match form.check(&head.headers) {
        Ok(payment) => payment,
        Err(error) => {
            let message = error.to_string();
            return Answer::fail(StatusCode::PRECONDITION_FAILED, error.code(), &message);
        }
    };
    match state.orders.commit(environment, payment) {
        Ok(number) => {
            // A name under .invalid leads nowhere, by RFC 6761 section 6.4.
            let url = format!("https://pay.simulator.invalid/{environment}/{number}");
            Answer::json(StatusCode::OK, &json!({ "status": "success", "url": url }))
        }
        Err(OrdersFull) => Answer::fail(
            StatusCode::SERVICE_UNAVAILABLE,
            code::ORDERS_FULL,
            "the simulator remembers as many orders as it may",
        ),
    }
}

/// Tells what arrived, without a single value of a field: one of them is the credential.
fn echo(head: &Parts, body_length: usize) -> Answer {
    let mut names: Vec<&str> = head.headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    let content = json!({
        "status": "success",
        "method": head.method.as_str(),
        "path": head.uri.to_string(),
        "body_length": body_length,
        "header_names": names,
    });
    Answer::json(StatusCode::OK, &content)
}

/// What MODEN answers to a wrong credential is undocumented; 401 is what is expected of it.
fn unauthorized() -> Answer {
    let message = "the credential is missing or wrong";
    Answer::fail(StatusCode::UNAUTHORIZED, code::UNAUTHORIZED, message).with(
        WWW_AUTHENTICATE,
        HeaderValue::from_static("Basic realm=\"simulator\""),
    )
}

fn not_found() -> Answer {
    let message = "the simulator does not know this endpoint";
    Answer::fail(StatusCode::NOT_FOUND, code::NOT_FOUND, message)
}

fn method_not_allowed() -> Answer {
    let status = StatusCode::METHOD_NOT_ALLOWED;
    Answer::fail(status, code::METHOD_NOT_ALLOWED, "this endpoint takes POST")
        .with(ALLOW, HeaderValue::from_static("POST"))
}

fn body_too_large() -> Answer {
    let message = "the content is longer than 1 MiB";
    Answer::fail(StatusCode::PAYLOAD_TOO_LARGE, code::BODY_TOO_LARGE, message)
        .with(CONNECTION, HeaderValue::from_static("close"))
}

fn body_too_slow() -> Answer {
    let message = "the content took too long to arrive";
    Answer::fail(StatusCode::REQUEST_TIMEOUT, code::BODY_TOO_SLOW, message)
        .with(CONNECTION, HeaderValue::from_static("close"))
}

/// The status that the client gets to see.
fn status_seen(answer: Option<&Answer>, fault: Option<&Fault>) -> Option<u16> {
    match fault {
        Some(Fault::LostAfterCommit) => None,
        _ => answer.map(|answer| answer.status().as_u16()),
    }
}

/// Lets an answer go in the way that the fault demands.
async fn deliver(answer: Answer, fault: Option<Fault>) -> Result<Response<AnswerBody>, Parting> {
    match fault {
        Some(Fault::Delay(pause)) => sleep(pause).await,
        Some(Fault::LostAfterCommit) => return Err(Parting::close()),
        Some(Fault::ResetDuring) => return Err(Parting::reset_during(&answer)),
        Some(Fault::ResetAfter) => return Err(Parting::reset_after(&answer)),
        Some(Fault::Drip(pace)) => return Ok(answer.into_drip(pace)),
        Some(Fault::Large(length)) if answer.status() == StatusCode::OK => {
            return Ok(answer.into_large(length));
        }
        _ => {}
    }
    Ok(answer.into_response())
}
