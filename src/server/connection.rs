//! One client connection, from its first byte to its end.

use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::server::conn::http1;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::close::{close, refuse};
use super::guarded::GuardedIo;
use super::listener::{ConnectionInfo, ListenerInfo};
use super::watch::{Phase, Watch, WatchedBody};
use crate::framing::{HeadLimits, Meaning, Violation};

/// How long a connection without a request is kept while draining.
///
/// Long enough that a client in the middle of sending its next request still gets an answer, with
/// `Connection: close`; short enough that idle connections do not hold up the end.
pub(super) const DRAIN_LINGER: Duration = Duration::from_secs(1);

/// Answers the requests of a connection.
pub trait Service: Clone + Send + 'static {
    /// The body of its replies.
    type Body: Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static>
        + Send
        + Unpin
        + 'static;

    /// Answers one request; it never fails, every error is a reply.
    fn answer(
        self,
        request: Request<Incoming>,
        connection: Arc<ConnectionInfo>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;

    /// Answers what is no request; the reply is the connection's last, and its body is not sent
    /// where a HEAD was meant.
    fn refuse(
        self,
        why: Malformed,
        is_head: bool,
        connection: Arc<ConnectionInfo>,
    ) -> Response<Self::Body>;
}

/// Why the bytes of a client became no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Their framing is doubtful.
    Framing(Violation),
    /// A character stands in the head that may not stand there, or a field has no colon.
    Character,
    /// The target is longer than can be read.
    TargetTooLong,
    /// The head began and was not complete within `header_timeout`.
    Late,
}

impl Malformed {
    /// What the client is told; `None` where it was only late.
    pub fn meaning(self) -> Option<Meaning> {
        match self {
            Self::Framing(violation) => Some(violation.meaning()),
            Self::Character => Some(Meaning::Malformed),
            Self::TargetTooLong => Some(Meaning::TargetTooLong),
            Self::Late => None,
        }
    }
}

/// hyper has made something else of a head than the guard.
#[derive(Debug)]
struct Disagreement;

impl fmt::Display for Disagreement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a request was framed in two ways")
    }
}

impl std::error::Error for Disagreement {}

/// Serves one connection until it ends, goes silent for too long, or is drained.
///
/// After `draining` is cancelled the next reply says `Connection: close`, and a connection without
/// a request ends after one more second.
///
/// After a reply that broke off, `abort` is called; it shall make the end of `io` a reset.
///
/// # Cancel safety
/// Dropped before it ends, it is counted in `dropped_idle` if no request went down with it.
pub async fn serve_connection<T, S>(
    io: T,
    abort: fn(&T),
    connection: Arc<ConnectionInfo>,
    service: S,
    draining: CancellationToken,
    dropped_idle: Arc<AtomicUsize>,
) where
    T: Read + Write + Unpin + Send + 'static,
    S: Service,
{
    let watch = Watch::new();
    let listener = Arc::clone(&connection.listener);
    let answer = {
        let (watch, draining) = (Arc::clone(&watch), draining.clone());
        let (service, connection) = (service.clone(), Arc::clone(&connection));
        hyper::service::service_fn(move |request: Request<Incoming>| {
            let is_certain = watch.agrees(request.body());
            if is_certain {
                watch.begin_request();
            } else {
                report_disagreement(&request, &connection);
            }
            let is_last = watch.requests() == connection.listener.max_requests_per_connection
                || closes_unseen(request.headers());
            let (service, connection) = (service.clone(), Arc::clone(&connection));
            let (watch, draining) = (Arc::clone(&watch), draining.clone());
            async move {
                if !is_certain {
                    return Err(Disagreement);
                }
                // Made here and not outside: a future that is moved in is kept twice, and hyper keeps
                // room for this one as long as the connection lives.
                let reply = service.answer(request, connection).await;
                let mut reply = reply.map(|body| WatchedBody { body, watch });
                if is_last || draining.is_cancelled() {
                    reply
                        .headers_mut()
                        .insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Disagreement>(reply)
            }
        })
    };
    let limits = HeadLimits {
        max_bytes: listener.max_header_bytes,
        max_fields: listener.max_header_fields,
    };
    let mut serving = http1::Builder::new()
        .half_close(true)
        // One buffer and one `send` for a small reply: 5 % cheaper than gathering its parts.
        .writev(false)
        // As much as the guard lets through.
        .max_buf_size(listener.max_header_bytes)
        // Our own timer below tells a slow head from an idle connection; hyper's does not.
        .header_read_timeout(None)
        .serve_connection(
            GuardedIo::new(io, Arc::clone(&watch), abort, limits),
            answer,
        );

    // Behind `serving`, so that it is dropped first and finds the connection as it was.
    let mut unended = Unended {
        watch: Arc::clone(&watch),
        dropped_idle: Some(dropped_idle),
    };
    let mut timer = pin!(tokio::time::sleep(listener.header_timeout));
    let mut drain_began = None;
    // Nothing is lost of a connection that is closed because no request came.
    let mut has_last_reply = true;
    let end = loop {
        tokio::select! {
            biased;
            ended = &mut serving => break End::Itself(ended),
            () = draining.cancelled(), if drain_began.is_none() => {
                drain_began = Some(Instant::now());
            }
            () = timer.as_mut() => {}
        }
        let next = match look(&watch, &listener, drain_began) {
            Look::Again(wait) => wait,
            Look::Idle => {
                Pin::new(&mut serving).graceful_shutdown();
                has_last_reply = false;
                listener.idle_timeout
            }
            Look::Late => break End::Late,
            Look::Stuck => break End::Stuck,
        };
        timer.as_mut().reset(Instant::now() + next);
    };
    let io = serving.into_parts().io;
    let refused = match &end {
        End::Late => Some(Malformed::Late),
        End::Itself(ended) => io
            .refusal()
            .map(Malformed::Framing)
            .or(refused_by_hyper(ended, &watch)),
        End::Stuck => None,
    };
    // In boxes, because few connections come here and all would have to have room for it.
    if let Some(why) = refused {
        let reply = service.refuse(why, io.is_head(), connection);
        watch.give_up_head();
        Box::pin(refuse(io, reply, draining)).await;
    } else if has_last_reply && matches!(end, End::Itself(Ok(()))) {
        Box::pin(close(io, draining)).await;
    }
    unended.dropped_idle = None;
}

/// How serving a connection ended.
enum End {
    /// hyper has ended it. A client's errors are its own affair; every request that was one has its
    /// line.
    Itself(hyper::Result<()>),
    /// A head did not become complete.
    Late,
    /// The client takes nothing of its reply.
    Stuck,
}

/// What hyper has refused of itself: the guard looks at the framing only.
fn refused_by_hyper(ended: &hyper::Result<()>, watch: &Watch) -> Option<Malformed> {
    let error = ended.as_ref().err()?;
    if !error.is_parse() || watch.owes_reply() {
        return None;
    }
    Some(match error.is_parse_too_large() {
        true => Malformed::TargetTooLong,
        false => Malformed::Character,
    })
}

/// Whether the client says `close` in a line that hyper does not read: it has bytes beyond ASCII.
///
/// # Source
/// RFC 9112 section 9.6: a server that is told so must not read another request.
fn closes_unseen(headers: &HeaderMap) -> bool {
    let says_close = |line: &HeaderValue| {
        let mut options = line.as_bytes().split(|byte| *byte == b',');
        options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
    };
    let mut lines = headers.get_all(CONNECTION).iter();
    lines.any(|line| line.to_str().is_err() && says_close(line))
}

/// Either reader has a fault, and whoever sent this may know which.
#[cold]
fn report_disagreement(request: &Request<Incoming>, connection: &ConnectionInfo) {
    tracing::error!(
        peer = connection.peer,
        listener = connection.listener.name,
        method = request.method().as_str(),
        "a request was framed in two ways; its connection is closed and nothing was forwarded"
    );
}

/// Counts a connection that is dropped without a request on it.
struct Unended {
    watch: Arc<Watch>,
    /// `None` when the connection has ended by itself.
    dropped_idle: Option<Arc<AtomicUsize>>,
}

impl Drop for Unended {
    fn drop(&mut self) {
        let Some(dropped_idle) = &self.dropped_idle else {
            return;
        };
        if self.watch.is_idle() {
            dropped_idle.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What a look at a connection finds.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    /// No deadline is missed; none can be for this long.
    Again(Duration),
    /// No request came.
    Idle,
    /// A head did not become complete.
    Late,
    /// The client takes nothing of its reply.
    Stuck,
}

/// Compares what a connection does with its deadlines.
///
/// Requests never touch the timer. A look that finds nothing waits for the deadline that runs, or
/// for `header_timeout` if none does yet: a head that begins right after this look is then found
/// younger than its deadline, and the next look is exact.
fn look(watch: &Watch, listener: &ListenerInfo, drain_began: Option<Instant>) -> Look {
    let deaf_for = watch.deaf_for();
    if deaf_for >= listener.idle_timeout {
        return Look::Stuck;
    }
    let (limit, lasted, missed) = match watch.phase() {
        (Phase::Idle, lasted) => match drain_began {
            None => (listener.idle_timeout, lasted, Look::Idle),
            // However long it was idle before, the linger begins with the drain.
            Some(began) => (
                listener.idle_timeout.min(DRAIN_LINGER),
                lasted.min(began.elapsed()),
                Look::Idle,
            ),
        },
        (Phase::Head, lasted) => (listener.header_timeout, lasted, Look::Late),
        (Phase::Busy | Phase::Answered, _) => (listener.idle_timeout, deaf_for, Look::Stuck),
    };
    if lasted >= limit {
        return missed;
    }
    let shortest = match drain_began {
        None => listener.header_timeout,
        Some(_) => listener.header_timeout.min(DRAIN_LINGER),
    };
    Look::Again((limit - lasted).min(shortest).max(Duration::from_millis(1)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::ListenerConfig;

    const SECOND: Duration = Duration::from_secs(1);

    /// Answers everything with nothing.
    #[derive(Clone)]
    pub(in crate::server) struct Nobody;

    impl Service for Nobody {
        type Body = http_body_util::Empty<Bytes>;

        async fn answer(
            self,
            _: Request<Incoming>,
            _: Arc<ConnectionInfo>,
        ) -> Response<Self::Body> {
            Response::new(Self::Body::new())
        }

        fn refuse(self, _: Malformed, _: bool, _: Arc<ConnectionInfo>) -> Response<Self::Body> {
            Response::new(Self::Body::new())
        }
    }

    /// Thousands of connections wait in it for their next request.
    #[test]
    fn a_connection_stays_small() {
        fn size_of_output<A, B, C, D, E, F, G>(_: impl Fn(A, B, C, D, E, F) -> G) -> usize {
            size_of::<G>()
        }
        type Io = hyper_util::rt::TokioIo<tokio::net::TcpStream>;
        let size = size_of_output(serve_connection::<Io, Nobody>);
        assert!(size <= 1_536, "{size}");
    }

    fn listener() -> ListenerInfo {
        ListenerInfo::new("test".to_owned(), &ListenerConfig::default())
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_ends_at_its_deadline() {
        let (watch, listener) = (Watch::new(), listener());
        assert_eq!(look(&watch, &listener, None), Look::Again(5 * SECOND));
        tokio::time::advance(58 * SECOND).await;
        assert_eq!(look(&watch, &listener, None), Look::Again(2 * SECOND));
        tokio::time::advance(2 * SECOND).await;
        assert_eq!(look(&watch, &listener, None), Look::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_begins_after_a_look_is_timed_exactly() {
        let (watch, listener) = (Watch::new(), listener());
        assert_eq!(look(&watch, &listener, None), Look::Again(5 * SECOND));
        tokio::time::advance(SECOND).await;
        watch.received();
        tokio::time::advance(4 * SECOND).await;
        assert_eq!(look(&watch, &listener, None), Look::Again(SECOND));
        tokio::time::advance(SECOND).await;
        assert_eq!(look(&watch, &listener, None), Look::Late);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_request_is_no_offence_but_a_deaf_client_is() {
        let (watch, listener) = (Watch::new(), listener());
        watch.begin_request();
        tokio::time::advance(100 * SECOND).await;
        assert_eq!(look(&watch, &listener, None), Look::Again(5 * SECOND));
        watch.wrote(true);
        // Counted from a microsecond on, so that zero can mean "not deaf".
        tokio::time::advance(61 * SECOND).await;
        assert_eq!(look(&watch, &listener, None), Look::Stuck);
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_shortens_only_idleness() {
        let (watch, listener) = (Watch::new(), listener());
        tokio::time::advance(30 * SECOND).await;
        let began = Some(Instant::now());
        assert_eq!(
            look(&watch, &listener, began),
            Look::Again(DRAIN_LINGER),
            "however long it was idle before"
        );
        tokio::time::advance(DRAIN_LINGER).await;
        assert_eq!(look(&watch, &listener, began), Look::Idle);
        watch.begin_request();
        tokio::time::advance(20 * SECOND).await;
        assert_eq!(look(&watch, &listener, began), Look::Again(DRAIN_LINGER));
    }
}
