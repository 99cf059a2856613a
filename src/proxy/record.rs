//! The access-log line of one request: filled on its way, written and counted exactly once, on
//! every way out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body::Body;
use uuid::Uuid;

use super::code::Code;
use super::headers;
use super::load::{Overloaded, Place};
use super::reply::Marks;
use super::snapshot::Snapshot;
use crate::body::{RequestBody, StreamProgress};
use crate::client_auth::ClientIdentity;
use crate::credentials::Slot;
use crate::domain::Outcome;
use crate::limits::{Denied, Permit, Subject};
use crate::routing::Route;
use crate::server::{ConnectionInfo, ListenerInfo};
use crate::telemetry::access_log::LineBuffer;
use crate::telemetry::metrics::EndedRequest;
use crate::upstream::ExchangeFacts;

/// One core's records: where their lines go, and what becomes of those that are not finished.
///
/// One handle for both, since every record holds one.
#[derive(Debug)]
pub(super) struct Book {
    access_log: LineBuffer,
    /// Set when the drain is given up: what is dropped from then on was cut off.
    is_given_up: AtomicBool,
    cut_off: AtomicUsize,
}

impl Book {
    pub(super) fn new(access_log: LineBuffer) -> Self {
        Self {
            access_log,
            is_given_up: AtomicBool::new(false),
            cut_off: AtomicUsize::new(0),
        }
    }

    /// From here on every record that is dropped is named as cut off.
    pub(super) fn give_up(&self) {
        self.is_given_up.store(true, Ordering::Relaxed);
    }

    /// How many records were cut off.
    pub(super) fn cut_off(&self) -> usize {
        self.cut_off.load(Ordering::Relaxed)
    }
}

/// What is known of a request so far; dropping it writes the line and counts the request.
///
/// It begins as the line of a request that broke off before it was whole, so that a client that
/// vanishes leaves a true line behind without anybody's help.
#[derive(Debug)]
pub(super) struct Record {
    book: Arc<Book>,
    snapshot: Arc<Snapshot>,
    connection: Arc<ConnectionInfo>,
    started: Instant,
    exchange_id: Uuid,
    request_id: HeaderValue,
    /// What was asked for; `None` where what came is no request.
    asked: Option<(Method, Uri)>,
    is_head: bool,
    route: Option<Arc<Route>>,
    /// Held until the answer is here or, streamed, delivered: so long the request counts as running.
    permit: Option<Permit>,
    /// Held as long; none before step 4.
    place: Option<Place>,
    client: Option<ClientIdentity>,
    slot: Option<Slot>,
    /// Connections tried, as `upstream` counts them.
    pub(super) facts: ExchangeFacts,
    exchange_started: Option<Instant>,
    exchange_took: Option<Duration>,
    body_bytes: u64,
    body_progress: Option<Arc<StreamProgress>>,
    pub(super) status: StatusCode,
    pub(super) code: Option<Code>,
    /// The policy that denied the request.
    pub(super) limit: Option<Arc<str>>,
    pub(super) moden_code: Option<i64>,
    pub(super) outcome: Outcome,
    pub(super) reply_bytes: u64,
    /// Whether the reply must be the connection's last: the rest of the request's body may still be
    /// on its way, and must not be read as a request.
    pub(super) is_last: bool,
}

impl Record {
    /// Starts the record of a request: its ids, and the time.
    pub(super) fn begin<B: Body>(
        book: &Arc<Book>,
        snapshot: &Arc<Snapshot>,
        request: &Request<B>,
        connection: Arc<ConnectionInfo>,
    ) -> Self {
        let request_id = headers::request_id(request.headers()).cloned();
        let mut record = Self::new(book, snapshot, connection, request_id);
        record.asked = Some((request.method().clone(), request.uri().clone()));
        record.is_head = request.method() == Method::HEAD;
        record
    }

    /// Starts the record of what came and is no request.
    pub(super) fn begin_unread(
        book: &Arc<Book>,
        snapshot: &Arc<Snapshot>,
        is_head: bool,
        connection: Arc<ConnectionInfo>,
    ) -> Self {
        let mut record = Self::new(book, snapshot, connection, None);
        record.is_head = is_head;
        record
    }

    fn new(
        book: &Arc<Book>,
        snapshot: &Arc<Snapshot>,
        connection: Arc<ConnectionInfo>,
        request_id: Option<HeaderValue>,
    ) -> Self {
        let exchange_id = Uuid::now_v7();
        snapshot.metrics.in_flight.inc();
        Self {
            book: Arc::clone(book),
            snapshot: Arc::clone(snapshot),
            connection,
            started: Instant::now(),
            exchange_id,
            request_id: request_id.unwrap_or_else(|| id_header(&exchange_id)),
            asked: None,
            is_head: false,
            route: None,
            permit: None,
            place: None,
            client: None,
            slot: None,
            facts: ExchangeFacts::default(),
            exchange_started: None,
            exchange_took: None,
            body_bytes: 0,
            body_progress: None,
            status: StatusCode::BAD_REQUEST,
            code: Some(Code::RequestMalformed),
            limit: None,
            moden_code: None,
            outcome: Outcome::NotSent,
            reply_bytes: 0,
            is_last: false,
        }
    }

    /// The client's own id of the request, or the one made for it.
    pub(super) fn request_id(&self) -> &HeaderValue {
        &self.request_id
    }

    /// What every reply to this request says.
    pub(super) fn marks(&self) -> Marks {
        Marks {
            request_id: self.request_id.clone(),
            environment: self.snapshot.environment_header.clone(),
        }
    }

    /// Whether the client wants the head of the answer only.
    pub(super) fn is_head(&self) -> bool {
        self.is_head
    }

    /// The listener that it came in by.
    pub(super) fn listener(&self) -> &ListenerInfo {
        &self.connection.listener
    }

    pub(super) fn set_route(&mut self, route: &Arc<Route>) {
        self.route = Some(Arc::clone(route));
    }

    /// Takes a place in the process for this request, with room for as much of its body; both are
    /// given back when the record is dropped.
    ///
    /// # Errors
    /// The process is full.
    pub(super) fn take_place(&mut self, body_bytes: u64) -> Result<(), Overloaded> {
        self.place = Some(self.snapshot.load.admit(body_bytes)?);
        Ok(())
    }

    /// Asks all limits for this request; what they admit counts until the record is dropped.
    ///
    /// # Errors
    /// The denial of the policy that has no room.
    pub(super) fn pass_limits(&mut self, route: &Route) -> Result<(), Denied> {
        let subject = Subject::new(route.index, self.connection.peer_address);
        self.permit = self.snapshot.limits.admit(subject, self.started)?;
        Ok(())
    }

    /// What is left of the limits that the request has passed: the values of `RateLimit` and
    /// `RateLimit-Policy`.
    pub(super) fn limit_fields(&self) -> Option<(&HeaderValue, &HeaderValue)> {
        let field = self.permit.as_ref()?.field()?;
        Some((field, self.limit_policies()?))
    }

    /// The value of `RateLimit-Policy`.
    pub(super) fn limit_policies(&self) -> Option<&HeaderValue> {
        self.snapshot.limits.policy_field()
    }

    pub(super) fn set_client(&mut self, client: ClientIdentity) {
        self.client = Some(client);
    }

    /// Notes a body that has come in, or the beginning of one.
    pub(super) fn set_body(&mut self, body: &RequestBody) {
        self.body_bytes = body.length().unwrap_or_default();
        if let Some(place) = &mut self.place {
            place.keep_for_body(body.held_bytes());
        }
    }

    /// From here on a line that nobody finishes must say the worst: bytes may have left.
    pub(super) fn begin_exchange(&mut self, slot: Slot, body: Option<Arc<StreamProgress>>) {
        self.slot = Some(slot);
        self.body_progress = body;
        self.exchange_started = Some(Instant::now());
        self.status = StatusCode::INTERNAL_SERVER_ERROR;
        self.code = Some(Code::Internal);
        self.outcome = Outcome::Unknown;
    }

    /// Notes how long the exchange took, up to the held answer or the head of a streamed one.
    pub(super) fn end_exchange(&mut self) {
        self.exchange_took = self.exchange_started.map(|started| started.elapsed());
    }

    /// Names a request that the end of the drain cut off, where an operator looks first.
    #[cold]
    fn report_cut_off(&mut self) {
        self.book.cut_off.fetch_add(1, Ordering::Relaxed);
        if self.exchange_started.is_none() {
            // It was still coming in, and nothing is wrong with it.
            self.status = StatusCode::SERVICE_UNAVAILABLE;
            self.code = Some(Code::Draining);
        }
        tracing::warn!(
            request_id = self.request_id.to_str().unwrap_or_default(),
            exchange_id = %self.exchange_id.as_hyphenated(),
            route = self.route.as_ref().map(|route| route.name.as_str()),
            method = self.asked.as_ref().map(|(method, _)| method.as_str()),
            running = %humantime::format_duration(whole_millis(self.started.elapsed())),
            outcome = self.outcome.as_str(),
            "the end of the drain cut off a request"
        );
    }
}

fn whole_millis(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

impl Drop for Record {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.status = StatusCode::INTERNAL_SERVER_ERROR;
            self.code = Some(Code::Internal);
            self.outcome = Outcome::Unknown;
        }
        if self.book.is_given_up.load(Ordering::Relaxed) {
            self.report_cut_off();
        }
        let took = self.started.elapsed();
        let streamed_bytes = self
            .body_progress
            .as_ref()
            .map(|body| body.received_bytes());
        let request_bytes = streamed_bytes.unwrap_or(self.body_bytes);
        self.snapshot.metrics.count(&EndedRequest {
            route: self.route.as_ref().map(|route| route.index),
            status: self.status,
            outcome: self.outcome,
            error: self.code.map(Code::position),
            took,
            request_bytes,
            reply_bytes: self.reply_bytes,
        });
        self.book.access_log.append(|line| {
            let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
            let exchange_id = self.exchange_id.as_hyphenated().encode_lower(&mut id);
            line.text("request_id", self.request_id.to_str().unwrap_or_default());
            line.plain("exchange_id", exchange_id);
            if let Some(client) = self.client {
                line.plain("client", client.name());
            }
            line.text("peer", &self.connection.peer);
            line.text("listener", &self.connection.listener.name);
            line.plain("environment", self.snapshot.environment.as_str());
            if let Some(route) = &self.route {
                line.plain("route", route.name.as_str());
            }
            if let Some((method, uri)) = &self.asked {
                line.text("method", method.as_str());
                line.text("path", uri.path());
            }
            line.number("status", u64::from(self.status.as_u16()));
            if let Some(code) = self.code {
                line.plain("code", code.as_str());
            }
            if let Some(limit) = &self.limit {
                line.plain("limit", limit);
            }
            let observed = self.permit.iter().flat_map(Permit::observed);
            if let Some(names) = joined(observed) {
                line.plain("limit_observed", &names);
            }
            if let Some(code) = self.moden_code {
                line.signed("moden_code", code);
            }
            line.plain("outcome", self.outcome.as_str());
            if let Some(slot) = self.slot {
                line.plain("credential", slot.as_str());
            }
            line.number("generation", self.snapshot.generation);
            line.millis("duration_ms", took);
            if let Some(took) = self.exchange_took {
                line.millis("upstream_ms", took);
            }
            line.number("bytes_in", request_bytes);
            line.number("bytes_out", self.reply_bytes);
            line.number("attempts", u64::from(self.facts.attempts));
            if let Some(is_reused) = self.facts.is_reused {
                line.plain("connection", if is_reused { "reused" } else { "new" });
            }
        });
    }
}

/// Names with commas between them; `None` without any, which is the rule.
fn joined<'n>(names: impl Iterator<Item = &'n str>) -> Option<String> {
    names
        .map(str::to_owned)
        .reduce(|names, name| names + "," + &name)
}

fn id_header(id: &Uuid) -> HeaderValue {
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    let text = id.as_hyphenated().encode_lower(&mut text);
    HeaderValue::from_maybe_shared(Bytes::copy_from_slice(text.as_bytes()))
        .expect("a UUID is made of hexadecimal digits and hyphens")
}
