//! How is the simulator steered and looked into? In process by [`Control`], over HTTP by
//! `/simulator/…`, with the same powers.
//!
//! | request | what it does |
//! |---|---|
//! | `POST /simulator/faults` `{"fault":"lost-after-commit","times":{"next":1}}` | adds a rule; `times` is that by default |
//! | `DELETE /simulator/faults` | forgets all rules |
//! | `GET /simulator/requests?last=100` | what arrived, the newest 1000 by default |
//! | `GET /simulator/orders` | what was committed, and how often |

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use http::header::{ALLOW, HOST, ORIGIN};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderValue, Method, Request, StatusCode};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::domain::Environment;

use super::answer::Answer;
use super::body::{self, BodyEnd};
use super::credential::AcceptedCredential;
use super::{Fault, OrderRecord, RecordedRequest, SimulatorError, SimulatorSecret, State, Times};

/// Paths that begin so are the control's; all others are MODEN's.
pub(super) const PREFIX: &str = "/simulator/";

/// How many requests an answer lists unless told otherwise.
const REQUESTS_LISTED: usize = 1000;

/// How many orders of each environment an answer lists; the sums are over all.
const ORDERS_LISTED: usize = 10_000;

/// The handle by which a test steers a simulator in its own process; cheap to clone.
#[derive(Clone)]
pub struct Control {
    state: Arc<State>,
}

impl Control {
    pub(super) fn new(state: Arc<State>) -> Self {
        Self { state }
    }

    /// Adds a rule behind those that are there; at each request the first that strikes wins.
    ///
    /// Every request outside `/simulator/` counts, refused ones too; one that brings a
    /// [`FAULT_HEADER`](super::FAULT_HEADER) of its own uses no rule up. At most 64 rules are
    /// kept, then the oldest gives way.
    pub fn set_fault(&self, fault: Fault, times: Times) {
        self.state.faults.set(fault, times);
    }

    /// Forgets all rules and puts the dice of [`Times::Share`] back to their beginning.
    pub fn clear_faults(&self) {
        self.state.faults.clear();
    }

    /// The requests that are remembered, the oldest first; a copy of all.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.state.records.last(usize::MAX)
    }

    /// How many requests arrived, those that are not remembered included.
    ///
    /// A request counts once its answer is decided, before the first byte of it leaves.
    pub fn request_count(&self) -> u64 {
        self.state.records.count()
    }

    /// The orders of one environment by `sn`; a copy of all.
    pub fn orders(&self, environment: Environment) -> BTreeMap<String, OrderRecord> {
        self.state.orders.list(environment)
    }

    /// How many payments were committed in both environments, doubled ones included.
    pub fn committed_total(&self) -> u64 {
        self.state.orders.committed_total()
    }

    /// Replaces the credential that is accepted, as when MODEN issues a new secret.
    ///
    /// # Errors
    /// The pair cannot be carried by Basic; the old one stays.
    pub fn accept_only(
        &self,
        app_id: &str,
        secret: &SimulatorSecret,
    ) -> Result<(), SimulatorError> {
        let credential = AcceptedCredential::build(app_id, secret)?;
        self.state.credential.store(Arc::new(credential));
        Ok(())
    }
}

/// Answers a request to `/simulator/…`.
pub(super) async fn handle(state: &State, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    if !is_host_known(&head, &state.control_hosts) {
        return refuse(StatusCode::FORBIDDEN, "this host name is not known here");
    }
    if head.headers.contains_key(ORIGIN) {
        return refuse(StatusCode::FORBIDDEN, "web pages have no business here");
    }
    match (head.uri.path(), &head.method) {
        ("/simulator/faults", &Method::POST) => set_fault(state, body).await,
        ("/simulator/faults", &Method::DELETE) => {
            state.faults.clear();
            Answer::empty(StatusCode::NO_CONTENT)
        }
        ("/simulator/requests", &Method::GET) => list_requests(state, head.uri.query()),
        ("/simulator/orders", &Method::GET) => list_orders(state),
        ("/simulator/faults", _) => method_not_allowed("POST, DELETE"),
        ("/simulator/requests" | "/simulator/orders", _) => method_not_allowed("GET"),
        _ => refuse(StatusCode::NOT_FOUND, "there is nothing to control here"),
    }
}

/// The content of `POST /simulator/faults`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultOrder {
    fault: Fault,
    #[serde(default = "once")]
    times: Times,
}

fn once() -> Times {
    Times::Next(1)
}

async fn set_fault(state: &State, body: Incoming) -> Answer {
    let body = body::receive(body).await;
    let BodyEnd::Complete = body.end else {
        return refuse(
            StatusCode::BAD_REQUEST,
            "the content is incomplete or too long",
        );
    };
    match serde_json::from_slice::<FaultOrder>(&body.content) {
        Ok(order) => {
            state.faults.set(order.fault, order.times);
            Answer::empty(StatusCode::NO_CONTENT)
        }
        Err(error) => refuse(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

fn list_requests(state: &State, query: Option<&str>) -> Answer {
    let last = query.map_or(Some(REQUESTS_LISTED), |query| {
        query.strip_prefix("last=")?.parse().ok()
    });
    let Some(last) = last else {
        return refuse(StatusCode::BAD_REQUEST, "the query must be last=<number>");
    };
    let content = json!({
        "count": state.records.count(),
        "requests": state.records.last(last),
    });
    Answer::json(StatusCode::OK, &content)
}

/// One order in the answer to `GET /simulator/orders`.
#[derive(Serialize)]
struct OrderLine {
    sn: String,
    #[serde(flatten)]
    order: OrderRecord,
}

fn list_orders(state: &State) -> Answer {
    let environments = [Environment::Sandbox, Environment::Production];
    let all = environments.map(|environment| state.orders.list(environment));
    let count: usize = all.iter().map(BTreeMap::len).sum();
    let is_doubled = |order: &&OrderRecord| order.committed > 1;
    let doubled = all
        .iter()
        .flat_map(BTreeMap::values)
        .filter(is_doubled)
        .count();
    let lines: Vec<OrderLine> = all
        .into_iter()
        .flat_map(|orders| orders.into_iter().take(ORDERS_LISTED))
        .map(|(sn, order)| OrderLine { sn, order })
        .collect();
    let content = json!({
        "committed_total": state.orders.committed_total(),
        "count": count,
        "committed_more_than_once": doubled,
        "orders": lines,
    });
    Answer::json(StatusCode::OK, &content)
}

/// Whether the request names a host under which the control may be reached: a loopback address,
/// `localhost`, or one of those listed.
///
/// A page in a browser can make a name of its own point here (DNS rebinding), but the name it
/// then sends is its own.
fn is_host_known(head: &Parts, listed: &[String]) -> bool {
    let mut hosts = head.headers.get_all(HOST).iter();
    let (Some(host), None, None) = (hosts.next(), hosts.next(), head.uri.authority()) else {
        return false;
    };
    let Ok(authority) = Authority::try_from(host.as_bytes()) else {
        return false;
    };
    let host = authority.host();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost")
        || bare
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
        || listed.iter().any(|name| name.eq_ignore_ascii_case(bare))
}

fn method_not_allowed(allowed: &'static str) -> Answer {
    refuse(StatusCode::METHOD_NOT_ALLOWED, "this cannot be done here")
        .with(ALLOW, HeaderValue::from_static(allowed))
}

fn refuse(status: StatusCode, message: &str) -> Answer {
    Answer::json(status, &json!({ "message": message }))
}
