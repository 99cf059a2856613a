//! The hot path: one request's way through the house, top to bottom.
//!
//! For: admitting a request, running its exchange with MODEN, and answering with a verdict. Never
//! does: format, look anything up by label, clone header maps, encode base64, or hold a lock
//! across an await. Called by: `app`, which gives [`Proxy::handle`] to the server. Start reading at
//! [`Proxy::handle`]; ARCHITECTURE.md draws the eleven steps.

mod answer_body;
mod code;
mod control;
mod error;
pub mod headers;
mod load;
mod outlive;
pub mod path;
mod preview;
mod record;
mod reply;
mod snapshot;

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use http::header::{CONTENT_LENGTH, EXPECT, HOST};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, request};
use hyper::body::Incoming;
use tokio_util::task::TaskTracker;

use crate::body::{self, BodyLimits, RequestBody};
use crate::client_auth::ClientIdentity;
use crate::routing::Routes;
use crate::server::{ConnectionInfo, Malformed, Service};
use crate::telemetry::access_log::LineBuffer;
use crate::upstream::{Answer, Upstream};

pub use answer_body::ReplyBody;
pub use control::Control;
pub use load::Load;
pub use preview::{Refusal, Way, foretell, preview};
pub use snapshot::Snapshot;

use error::ProxyError;
use outlive::outlive;
use record::{Book, Record};

/// The gateway's end of one core: what a request needs on its way.
#[derive(Debug)]
pub struct Proxy {
    snapshot: Arc<ArcSwap<Snapshot>>,
    upstream: Upstream,
    book: Arc<Book>,
    /// Exchanges whose client is gone; the drain waits for them.
    exchanges: TaskTracker,
}

/// A request that may be sent: what step 6 hands to the exchange.
struct Admitted {
    head: request::Parts,
    body: RequestBody,
    target: PathAndQuery,
    identity: ClientIdentity,
}

/// Where a request goes that nothing speaks against.
enum Verdict<T> {
    /// To MODEN.
    Forward(T),
    /// Nowhere: it asks this hop what is allowed, and `Allow` is the answer.
    AnswerHere {
        /// The value of `Allow`.
        allow: HeaderValue,
    },
}

impl Proxy {
    /// Puts the parts of one core together.
    pub fn new(
        snapshot: Arc<ArcSwap<Snapshot>>,
        upstream: Upstream,
        access_log: LineBuffer,
        exchanges: TaskTracker,
    ) -> Self {
        Self {
            snapshot,
            upstream,
            book: Arc::new(Book::new(access_log)),
            exchanges,
        }
    }

    /// Says that the drain is given up: requests that are dropped from now on are named in the
    /// application log as cut off, and counted.
    pub fn give_up(&self) {
        self.book.give_up();
    }

    /// How many requests were cut off since [`Self::give_up`].
    pub fn cut_off(&self) -> usize {
        self.book.cut_off()
    }

    /// This core's connections to MODEN.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Answers one request, whatever happens; its access-log line is written when the reply is
    /// ready to be delivered or, for a long answer, when that ends.
    ///
    /// # Cancel safety
    /// When the client goes away before its request is whole, nothing was sent and the future may
    /// be dropped. From then on dropping it hands the exchange to a task that ends it.
    pub async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        connection: Arc<ConnectionInfo>,
    ) -> Response<ReplyBody> {
        let snapshot = self.snapshot.load_full();
        let mut record = Record::begin(&self.book, &snapshot, &request, connection);
        match admit(request, &snapshot, &mut record).await {
            Ok(Verdict::Forward(admitted)) => {
                let (marks, exchanges) = (record.marks(), self.exchanges.clone());
                outlive(self.exchange(admitted, snapshot, record), exchanges)
                    .await
                    .unwrap_or_else(|| reply::apologize(&marks))
            }
            Ok(Verdict::AnswerHere { allow }) => reply::list_methods(allow, record),
            Err(error) => reply::refuse(&error, record),
        }
    }

    /// Runs an admitted request's exchange to its end, client or no client.
    async fn exchange(
        self: Arc<Self>,
        admitted: Admitted,
        snapshot: Arc<Snapshot>,
        mut record: Record,
    ) -> Response<ReplyBody> {
        match self.forward(admitted, &snapshot, &mut record).await {
            Ok(answer) => reply::pass(answer, record, self.exchanges.clone()),
            Err(error) => reply::refuse(&error, record),
        }
    }

    async fn forward(
        &self,
        admitted: Admitted,
        snapshot: &Snapshot,
        record: &mut Record,
    ) -> Result<Answer, ProxyError> {
        let Admitted {
            mut head,
            body,
            target,
            identity,
        } = admitted;

        // 8: what may not travel is removed, and what is ours is set.
        snapshot.cleaner.clean_request(&mut head.headers);
        headers::append_via(&mut head.headers, head.version);
        if head.method == Method::OPTIONS {
            headers::count_hop(&mut head.headers);
        }
        head.headers.insert(HOST, snapshot.authority.clone());
        head.headers
            .insert(&headers::X_REQUEST_ID, record.request_id().clone());
        if let Some(length) = content_length(&head.method, &body) {
            head.headers.insert(CONTENT_LENGTH, length);
        }
        head.uri = Uri::from(target);
        head.version = Version::HTTP_11;

        // 9: the credential, last of all and only here.
        let progress = body.progress();
        let request = Request::from_parts(head, body);
        let authorized = snapshot.credentials.authorize(request, &identity)?;
        record.begin_exchange(authorized.slot(), progress);

        // 10: the exchange itself, unless an operator or MODEN wanted none while the body came or a
        // connection was waited for.
        let may_begin = || -> Result<(), ProxyError> {
            snapshot.control.admit()?;
            Ok(snapshot.limits.check_hold_off()?)
        };
        let answer = self
            .upstream
            .send(authorized, &mut record.facts, may_begin)
            .await;
        record.end_exchange();

        // 11: what MODEN limits holds for all clients. A rejected credential is ours to mend, not the
        // client's to see; and a 421 invites whoever sees it to send the same POST again (RFC 9110
        // 15.5.20).
        if let Some(wait) = record.facts.asked_to_wait {
            snapshot.limits.hold_off(wait, Instant::now());
        }
        let mut answer = answer?;
        if answer.head.status == StatusCode::UNAUTHORIZED {
            return Err(ProxyError::CredentialRejected);
        }
        if answer.head.status == StatusCode::MISDIRECTED_REQUEST {
            return Err(ProxyError::Misdirected);
        }
        headers::clean_answer(&mut answer.head.headers);
        Ok(answer)
    }
}

impl Service for Arc<Proxy> {
    type Body = ReplyBody;

    fn answer(
        self,
        request: Request<Incoming>,
        connection: Arc<ConnectionInfo>,
    ) -> impl Future<Output = Response<ReplyBody>> + Send {
        self.handle(request, connection)
    }

    fn refuse(
        self,
        why: Malformed,
        is_head: bool,
        connection: Arc<ConnectionInfo>,
    ) -> Response<ReplyBody> {
        let snapshot = self.snapshot.load_full();
        let record = Record::begin_unread(&self.book, &snapshot, is_head, connection);
        reply::refuse(&ProxyError::Malformed(why), record)
    }
}

/// Decides whether a request may be sent, and receives its body.
async fn admit(
    request: Request<Incoming>,
    snapshot: &Snapshot,
    record: &mut Record,
) -> Result<Verdict<Admitted>, ProxyError> {
    let (head, body) = request.into_parts();
    let most_held = body::most_held(&body, snapshot.hold_body_bytes);
    let (target, identity) = match judge(&head, most_held, snapshot, record) {
        Ok(Verdict::Forward(judged)) => judged,
        Ok(Verdict::AnswerHere { allow }) => {
            record.is_last = !take_leave(&head, body, snapshot).await;
            return Ok(Verdict::AnswerHere { allow });
        }
        Err(error) => {
            record.is_last = !take_leave(&head, body, snapshot).await;
            return Err(error);
        }
    };
    // 6: the body, whole if it is small enough.
    let listener = record.listener();
    let limits = BodyLimits {
        hold_bytes: snapshot.hold_body_bytes,
        max_bytes: listener.max_body_bytes,
        timeout: listener.body_timeout,
    };
    // Whoever is refused from here on may still be sending.
    record.is_last = true;
    let body = body::hold(body, limits).await?;
    // hyper sends these without a body unless its length is announced.
    if body.length().is_none() && matches!(head.method, Method::GET | Method::HEAD) {
        return Err(ProxyError::LengthRequired);
    }
    record.is_last = !body.is_held();
    record.set_body(&body);
    Ok(Verdict::Forward(Admitted {
        head,
        body,
        target,
        identity,
    }))
}

/// Receives the body of a request that is not sent on, so that its connection can take the next one;
/// whether it can.
///
/// Who waits for 100 Continue sends nothing now, and asking for the body would say it.
async fn take_leave(head: &request::Parts, body: Incoming, snapshot: &Snapshot) -> bool {
    expectation(head).is_none() && body::discard(body, snapshot.hold_body_bytes).await
}

/// The steps that need nothing but the head: where the request goes, and as whose.
///
/// `most_held` is how much of its body will be held at most.
fn judge(
    head: &request::Parts,
    most_held: u64,
    snapshot: &Snapshot,
    record: &mut Record,
) -> Result<Verdict<(PathAndQuery, ClientIdentity)>, ProxyError> {
    check_head(head, &snapshot.routes)?;
    if asks_for_everything(head) {
        let allow = snapshot.routes.all_methods().clone();
        return Ok(Verdict::AnswerHere { allow });
    }
    // 1: one canonical path, or none.
    let path = path::resolve(
        path_and_query(&head.uri),
        snapshot.environment,
        snapshot.routes.allowed_characters(),
    )?;
    // 2: no route, no forwarding.
    let route = snapshot.routes.find(&head.method, &path)?;
    record.set_route(route);
    let target = path::upstream_target(&snapshot.base_path, &path)?;
    // 3: who is calling.
    let identity = ClientIdentity::anonymous();
    record.set_client(identity);
    // Nothing of it goes to MODEN, so neither a pause nor a limit has a say.
    if ends_here(head)? {
        let allow = route.allow().clone();
        return Ok(Verdict::AnswerHere { allow });
    }
    // 4: while paused, while MODEN fails, without a credential or without room, there is no point
    // in receiving the body.
    snapshot.control.admit()?;
    snapshot.breaker.check()?;
    if !snapshot.credentials.is_available() {
        return Err(ProxyError::CredentialUnavailable);
    }
    record.take_place(most_held)?;
    // 5: every limit has room for it, or nothing is taken of any.
    record.pass_limits(route)?;
    Ok(Verdict::Forward((target, identity)))
}

/// What can be refused by the head alone, before anything is looked up.
fn check_head(head: &request::Parts, routes: &Routes) -> Result<(), ProxyError> {
    if !headers::names_one_host(&head.headers, head.version) {
        return Err(ProxyError::HostInvalid);
    }
    if !routes.know(&head.method) {
        return Err(ProxyError::MethodUnknown);
    }
    if head.method == Method::CONNECT {
        return Err(ProxyError::MethodNotAllowed {
            allow: routes.all_methods().clone(),
        });
    }
    if !has_fitting_target(head) {
        return Err(ProxyError::TargetMalformed);
    }
    if expectation(head).is_some_and(|expected| !expected.eq_ignore_ascii_case(b"100-continue")) {
        return Err(ProxyError::ExpectationFailed);
    }
    if headers::is_own_loop(&head.headers) {
        return Err(ProxyError::LoopDetected);
    }
    Ok(())
}

/// Whether the target has a form that goes with the method: a path, a whole URI, or `*` with OPTIONS.
///
/// A whole URI is accepted whatever host it names, as `Host` is; user information in it is taken for
/// what it mostly is, an attempt to make one host look like another.
///
/// # Source
/// RFC 9112 section 3.2; RFC 9110 sections 4.2.4 and 7.1.
fn has_fitting_target(head: &request::Parts) -> bool {
    let uri = &head.uri;
    match (uri.scheme_str(), uri.authority()) {
        (None, None) => uri.path() != "*" || head.method == Method::OPTIONS,
        // Authority-form, which is for CONNECT.
        (None, Some(_)) => false,
        (Some(scheme), authority) => {
            matches!(scheme, "http" | "https")
                && authority.is_none_or(|authority| !authority.as_str().contains('@'))
        }
    }
}

/// Whether this is `OPTIONS *`, which asks for no path but for the gateway itself.
///
/// # Source
/// RFC 9110 section 9.3.7.
fn asks_for_everything(head: &request::Parts) -> bool {
    head.method == Method::OPTIONS && head.uri.path() == "*"
}

/// Whether the client wants the request to go no further than here. Methods other than OPTIONS have
/// no such wish (TRACE, the other one, is allowed nowhere).
///
/// # Source
/// RFC 9110 section 7.6.2.
fn ends_here(head: &request::Parts) -> Result<bool, ProxyError> {
    if head.method != Method::OPTIONS {
        return Ok(false);
    }
    match headers::max_forwards(&head.headers) {
        Ok(hops) => Ok(hops == Some(0)),
        Err(_) => Err(ProxyError::MaxForwardsInvalid),
    }
}

/// What the client wants to hear before it sends its body; of an HTTP/1.0 client it is ignored.
///
/// # Source
/// RFC 9110 section 10.1.1.
fn expectation(head: &request::Parts) -> Option<&[u8]> {
    let expectation = head.headers.get(EXPECT)?;
    (head.version >= Version::HTTP_11).then_some(expectation.as_bytes())
}

/// The bytes that routes are matched against; absolute-form counts by its path (RFC 9112 3.2.2).
fn path_and_query(uri: &Uri) -> &str {
    uri.path_and_query().map_or("", PathAndQuery::as_str)
}

/// The length to announce: always for a known body, and `0` for an empty one of a method that
/// usually has a body (RFC 9110 8.6).
fn content_length(method: &Method, body: &RequestBody) -> Option<HeaderValue> {
    match body.length()? {
        0 if matches!(*method, Method::POST | Method::PUT | Method::PATCH) => {
            Some(HeaderValue::from_static("0"))
        }
        0 => None,
        length => Some(HeaderValue::from(length)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_output<A, B, C, F>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    /// Every move of a request's future copies it, so growth has to be meant.
    #[test]
    fn a_request_on_its_way_stays_small() {
        assert!(
            size_of_output(Proxy::handle) <= 2_336,
            "{}",
            size_of_output(Proxy::handle)
        );
        assert!(size_of::<Record>() <= 456, "{}", size_of::<Record>());
    }
}
