//! What would happen to a request, said without sending it.
//!
//! For: [`explain`], which follows a method and a target through the configuration by the functions
//! of the hot path itself. Never does: read a secret, resolve a name or connect to anything; what
//! depends on more than the head of a request (its body, its credential, who else calls) is told as
//! the rule that would apply. Called by: `main`. Start reading at [`explain`].

mod table;

use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, VIA};
use http::{HeaderMap, Method, Request, Uri, Version};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::config::{Allowance, BaseUrl, Config, Dimension, LimitConfig, LimitMode};
use crate::domain::Environment;
use crate::framing::{HeadLimits, RequestGuard};
use crate::proxy::headers::{self, X_REQUEST_ID};
use crate::proxy::{self, Refusal, Way};
use crate::server::Malformed;

/// The keys of `[upstream]` that are deadlines.
const DEADLINES: [&str; 6] = [
    "queue_timeout",
    "connect_timeout",
    "tls_timeout",
    "response_timeout",
    "body_idle_timeout",
    "exchange_timeout",
];

/// The keys of `[upstream]` that decide what is held and what is streamed.
const HOLD_SIZES: [&str; 2] = ["hold_body", "hold_answer"];

/// The keys of a listener that bound a request.
const LISTENER_BOUNDS: [&str; 5] = [
    "address",
    "header_timeout",
    "max_header_bytes",
    "body_timeout",
    "max_body_bytes",
];

/// What would happen to one request; `Display` is a table for people.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    method: String,
    target: String,
    environment: Environment,
    result: Fate,
}

/// Whether a request would be sent on.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Fate {
    /// It would be answered here, mostly by a refusal.
    Refused(RefusedRequest),
    /// It would be sent to MODEN, if limits, body and credential allow.
    Forwarded(Box<ForwardedRequest>),
}

/// The reply to a request that is not sent on; its outcome is always `not-sent`.
#[derive(Clone, Debug, Serialize)]
struct RefusedRequest {
    status: u16,
    /// None where the reply is no error.
    code: Option<&'static str>,
    detail: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    allow: Option<String>,
}

/// The way of a request to MODEN.
#[derive(Clone, Debug, Serialize)]
struct ForwardedRequest {
    path: String,
    route: String,
    upstream_url: String,
    limits: Vec<AppliedLimit>,
    headers: HeaderEdits,
    /// Sizes and deadlines, each under its key and as the configuration writes it.
    listeners: Vec<Map<String, Value>>,
    hold: Map<String, Value>,
    deadlines: Map<String, Value>,
}

/// One policy of `[[limits]]`; what is absent does not belong to its kind.
#[derive(Clone, Debug, Serialize)]
struct AppliedLimit {
    name: String,
    per: Vec<Dimension>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    period: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    burst: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    concurrency: Option<u32>,
    mode: LimitMode,
}

/// What is done to the fields of a request.
#[derive(Clone, Debug, Serialize)]
struct HeaderEdits {
    always_removed: Vec<&'static str>,
    removed_by_configuration: Vec<String>,
    set: Vec<SetField>,
}

/// A field that the gateway sets, and a value or what stands for it.
#[derive(Clone, Debug, Serialize)]
struct SetField {
    name: &'static str,
    value: String,
}

/// Says what would happen to a request with this method and target, as its client would write them:
/// a path, or an absolute URI, with or without a query.
pub fn explain(config: &Config, method: &Method, target: &str) -> Explanation {
    Explanation {
        method: method.to_string(),
        target: target.to_owned(),
        environment: config.environment,
        result: match judge(config, method, target) {
            Ok(way) => Fate::Forwarded(Box::new(ForwardedRequest::new(config, &way))),
            Err(refused) => Fate::Refused(refused),
        },
    }
}

fn judge(config: &Config, method: &Method, target: &str) -> Result<Way, RefusedRequest> {
    check_framing(config, method, target)?;
    let request = Uri::try_from(target).map(|uri| {
        // Which host a client names makes no difference, as long as it names one.
        let head = Request::builder().method(method).uri(uri).header(HOST, "");
        head.body(()).expect("every part of it is valid")
    });
    let (head, ()) = request
        .map_err(|_| proxy::foretell(Malformed::Character))?
        .into_parts();
    Ok(proxy::preview(config, &head)?)
}

/// Whether the shortest head with this target in it passes the guard of the most generous listener.
fn check_framing(config: &Config, method: &Method, target: &str) -> Result<(), RefusedRequest> {
    let head = format!("{method} {target} HTTP/1.1\r\nHost:\r\n\r\n");
    let listeners = config.listeners.iter();
    let longest = listeners.map(|listener| listener.max_header_bytes).max();
    let limits = HeadLimits {
        max_bytes: longest.unwrap_or(usize::MAX),
        max_fields: 1,
    };
    match RequestGuard::new(limits).inspect(head.as_bytes()) {
        Ok(_) => Ok(()),
        Err(violation) => Err(proxy::foretell(Malformed::Framing(violation)).into()),
    }
}

impl From<Refusal> for RefusedRequest {
    fn from(refusal: Refusal) -> Self {
        Self {
            status: refusal.status,
            code: refusal.code,
            detail: refusal.detail,
            allow: refusal.allow,
        }
    }
}

impl ForwardedRequest {
    fn new(config: &Config, way: &Way) -> Self {
        let base_url = &config.selected().base_url;
        let scheme = if base_url.is_tls() { "https" } else { "http" };
        let listeners = config.listeners.iter();
        Self {
            path: way.path.clone(),
            route: way.route.to_string(),
            upstream_url: format!("{scheme}://{}{}", base_url.authority(), way.target),
            limits: config.limits.iter().map(AppliedLimit::new).collect(),
            headers: HeaderEdits::new(config),
            listeners: listeners
                .map(|listener| as_written(listener, &LISTENER_BOUNDS))
                .collect(),
            hold: as_written(&config.upstream, &HOLD_SIZES),
            deadlines: as_written(&config.upstream, &DEADLINES),
        }
    }
}

impl AppliedLimit {
    fn new(limit: &LimitConfig) -> Self {
        let (requests, period, burst, concurrency) = match limit.allowance {
            Allowance::Rate {
                requests,
                period,
                burst,
            } => {
                let period = humantime::format_duration(period).to_string();
                (Some(requests.get()), Some(period), Some(burst.get()), None)
            }
            Allowance::Concurrency(concurrency) => (None, None, None, Some(concurrency.get())),
        };
        Self {
            name: limit.name.clone(),
            per: limit.per.clone(),
            requests,
            period,
            burst,
            concurrency,
            mode: limit.mode,
        }
    }
}

impl HeaderEdits {
    fn new(config: &Config) -> Self {
        let remove = config.headers.remove.iter();
        Self {
            always_removed: headers::always_removed()
                .map(http::HeaderName::as_str)
                .collect(),
            removed_by_configuration: remove.map(ToString::to_string).collect(),
            set: set_fields(&config.selected().base_url),
        }
    }
}

/// The fields that are set, in the order of the hot path.
fn set_fields(base_url: &BaseUrl) -> Vec<SetField> {
    let mut via = HeaderMap::new();
    headers::append_via(&mut via, Version::HTTP_11);
    let via = via
        .get(VIA)
        .and_then(|value| value.to_str().ok())
        .expect("it has just been appended and is ASCII");
    [
        (VIA.as_str(), format!("{via} (appended)")),
        (HOST.as_str(), base_url.authority().to_owned()),
        (
            X_REQUEST_ID.as_str(),
            "the client's if it fits [A-Za-z0-9._~-]{1,128}, else a new one".to_owned(),
        ),
        (
            CONTENT_LENGTH.as_str(),
            "of the body, if it is known; 0 for an empty POST".to_owned(),
        ),
        (
            AUTHORIZATION.as_str(),
            "Basic, from app_id and secret of the environment; never shown".to_owned(),
        ),
    ]
    .map(|(name, value)| SetField { name, value })
    .into()
}

/// These keys of a section, in this order, each with its value as the configuration writes it.
fn as_written(section: &impl Serialize, keys: &[&str]) -> Map<String, Value> {
    let section = serde_json::to_value(section).expect("a section is a table of plain values");
    keys.iter()
        .filter_map(|key| Some(((*key).to_owned(), section.get(key)?.clone())))
        .collect()
}
