//! What arrived?

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, PROXY_AUTHORIZATION};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};
use serde::{Serialize, Serializer};

use crate::domain::Environment;

use super::Fault;

/// Fields whose value is shown to tests in this process only, never printed.
const HIDDEN: [http::HeaderName; 3] = [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE];

/// One request as it arrived; requests to `/simulator/…` are not among them.
///
/// `Debug` and JSON hide the values of `Authorization`, `Proxy-Authorization` and `Cookie`.
#[derive(Clone, Debug, Serialize)]
pub struct RecordedRequest {
    /// The environment that the path names; none outside `/pay/`.
    pub environment: Option<Environment>,
    /// The method.
    #[serde(serialize_with = "method_as_text")]
    pub method: Method,
    /// The request target as received: path and query, or a whole URL if one was sent.
    pub path: String,
    /// All field lines. Names are in lower case, as the HTTP library hands no others out; lines
    /// of one name keep their order and stand together, at the place of the first.
    #[serde(serialize_with = "headers_as_pairs")]
    pub headers: HeaderMap,
    /// The announced length; none if the field was missing, so that an empty request with
    /// `Content-Length: 0` can be told from one without.
    pub content_length: Option<u64>,
    /// How many bytes of content were taken in.
    pub body_length: u64,
    /// The order number, on `gateway`, if the content has a usable one.
    pub sn: Option<String>,
    /// The fault that struck.
    pub fault: Option<Fault>,
    /// The status that was answered; none if the connection ended without one.
    pub status: Option<u16>,
}

impl RecordedRequest {
    /// A record of a request of which only the head is known so far.
    pub(super) fn new(environment: Option<Environment>, head: Parts) -> Self {
        let content_length = head
            .headers
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.parse().ok());
        Self {
            environment,
            method: head.method,
            path: head.uri.to_string(),
            headers: detached(head.headers),
            content_length,
            body_length: 0,
            sn: None,
            fault: None,
            status: None,
        }
    }
}

/// The same fields without a hold on the connection's read buffer, hidden ones marked as such.
fn detached(mut headers: HeaderMap) -> HeaderMap {
    for (name, value) in headers.iter_mut() {
        // Received values are slices of the buffer they were read into, and a record that keeps
        // a few hundred bytes must not keep all of it.
        if let Ok(copy) = HeaderValue::from_bytes(value.as_bytes()) {
            *value = copy;
        }
        value.set_sensitive(HIDDEN.contains(name));
    }
    headers
}

/// The requests that arrived, the oldest first.
pub(super) struct Records {
    /// Whether requests are remembered; they are counted in any case.
    enabled: bool,
    limit: usize,
    count: AtomicU64,
    list: Mutex<VecDeque<RecordedRequest>>,
}

impl Records {
    pub(super) fn new(enabled: bool, limit: usize) -> Self {
        Self {
            enabled: enabled && limit > 0,
            limit,
            count: AtomicU64::new(0),
            list: Mutex::default(),
        }
    }

    /// Counts a request and, if that is wanted, remembers what `record` makes of it.
    pub(super) fn add(&self, record: impl FnOnce() -> RecordedRequest) {
        if self.enabled {
            let record = record();
            let mut list = self.lock();
            if list.len() == self.limit {
                list.pop_front();
            }
            list.push_back(record);
        }
        // Counted last: who has seen the count finds the record.
        self.count.fetch_add(1, Ordering::Release);
    }

    /// How many requests arrived, forgotten ones included.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// A copy of the `last` newest requests, the oldest of them first.
    pub(super) fn last(&self, last: usize) -> Vec<RecordedRequest> {
        let list = self.lock();
        let skipped = list.len().saturating_sub(last);
        list.iter().skip(skipped).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<RecordedRequest>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn method_as_text<S: Serializer>(method: &Method, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(method.as_str())
}

fn headers_as_pairs<S: Serializer>(headers: &HeaderMap, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(headers.iter().map(|(name, value)| {
        let shown = match value.is_sensitive() {
            true => "(not shown)".into(),
            false => String::from_utf8_lossy(value.as_bytes()),
        };
        (name.as_str(), shown)
    }))
}
