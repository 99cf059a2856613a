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
use hyper::server::conn::http1::{self, Parts};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::close::{close, refuse};
use super::guarded::GuardedIo;
use super::listener::{ConnectionInfo, ListenerInfo};
use super::silence::ends_in_time;
use super::watch::{Phase, Watch, WatchedBody};
use crate::framing::{HeadLimits, Meaning, Violation};

/// How long a connection without a request is kept while draining.
///
/// Long enough that a client in the middle of sending its next request still gets an answer, with
/// `Connection: close`; short enough that idle connections do not hold up the end.
pub(super) const DRAIN_LINGER: Duration = Duration::from_secs(1);

/// How long a connection may be without a request before it gives back what serving one takes.
///
/// Long enough that busy connections never do, short enough that many idle ones cost little.
const REST_AFTER: Duration = Duration::from_secs(1);

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
    let mut unended = Unended {
        watch: Arc::clone(&watch),
        dropped_idle: Some(dropped_idle),
    };
    let mut io = GuardedIo::new(io, Arc::clone(&watch), abort, limits);
    let mut drain_began = None;
    let end = loop {
        // Behind a pointer, because a connection at rest needs none of it.
        let talk = Box::pin(talk(
            io,
            answer.clone(),
            &watch,
            &listener,
            &draining,
            drain_began,
        ));
        let end;
        (io, end, drain_began) = talk.await;
        if !matches!(end, End::Rest) {
            break end;
        }
        let dropped_idle = unended.dropped_idle.take();
        let patience = listener.idle_timeout.saturating_sub(watch.phase().1);
        let came = match &dropped_idle {
            Some(idle) => ends_in_time(io.await_bytes(), patience, &draining, idle).await,
            None => None,
        };
        unended.dropped_idle = dropped_idle;
        if !matches!(came, Some(Ok(true))) {
            break End::Silent;
        }
    };
    let refused = match &end {
        End::Late => Some(Malformed::Late),
        End::Itself(ended) => io
            .refusal()
            .map(Malformed::Framing)
            .or(refused_by_hyper(ended, &watch)),
        End::Silent | End::Stuck | End::Rest => None,
    };
    // In boxes, because few connections come here and all would have to have room for it.
    if let Some(why) = refused {
        let reply = service.refuse(why, io.is_head(), connection);
        watch.give_up_head();
        Box::pin(refuse(io, reply, draining)).await;
    } else if matches!(end, End::Itself(Ok(()))) {
        Box::pin(close(io, draining)).await;
    } else if matches!(end, End::Silent) {
        // Nothing is lost of a connection that is closed because no request came.
        Box::pin(io.shut_down()).await;
    }
    unended.dropped_idle = None;
}

/// Serves requests until the connection ends or has been without one for [`REST_AFTER`]; then the
/// stream is taken back from hyper, which keeps two buffers of 8 KiB as long as it has it.
async fn talk<T, S, B>(
    io: GuardedIo<T>,
    answer: S,
    watch: &Watch,
    listener: &ListenerInfo,
    draining: &CancellationToken,
    mut drain_began: Option<Instant>,
) -> (GuardedIo<T>, End, Option<Instant>)
where
    T: Read + Write + Unpin,
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>, Error = Disagreement>,
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync> + 'static,
{
    let mut serving = http1::Builder::new()
        .half_close(true)
        // One buffer and one `send` for a small reply: 5 % cheaper than gathering its parts.
        .writev(false)
        // As much as the guard lets through.
        .max_buf_size(listener.max_header_bytes)
        // Our own timer below tells a slow head from an idle connection; hyper's does not.
        .header_read_timeout(None)
        .serve_connection(io, answer);
    let mut timer = pin!(tokio::time::sleep(REST_AFTER.min(listener.header_timeout)));
    let mut is_shutting_down = false;
    let end = loop {
        tokio::select! {
            biased;
            ended = &mut serving => break match is_shutting_down {
                true => End::Silent,
                false => End::Itself(ended),
            },
            () = draining.cancelled(), if drain_began.is_none() => {
                drain_began = Some(Instant::now());
            }
            () = timer.as_mut() => {}
        }
        let next = match look(watch, listener, drain_began) {
            Look::Again(wait) => wait,
            Look::Quiet => break End::Rest,
            Look::Idle => {
                Pin::new(&mut serving).graceful_shutdown();
                is_shutting_down = true;
                listener.idle_timeout
            }
            Look::Late => break End::Late,
            Look::Stuck => break End::Stuck,
        };
        timer.as_mut().reset(Instant::now() + next);
    };
    let Parts { io, read_buf, .. } = serving.into_parts();
    // hyper would have ended it in a moment, or keeps what it should not have: no rest, no more.
    let is_closing = io.is_shutting_down() || !read_buf.is_empty();
    match end {
        End::Rest if is_closing => (io, End::Silent, drain_began),
        end => (io, end, drain_began),
    }
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
    /// No request has come for a while; one may still come.
    Rest,
    /// No request came.
    Silent,
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
    /// No request has come for [`REST_AFTER`], and one may still come.
    Quiet,
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
            None if lasted >= listener.idle_timeout => return Look::Idle,
            None => (REST_AFTER.min(listener.idle_timeout), lasted, Look::Quiet),
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
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::task::JoinHandle;

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

    const REQUEST: &[u8] = b"POST /pay/a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n!";

    /// A client of [`Nobody`], and the connection that serves it.
    fn connect(draining: &CancellationToken) -> (DuplexStream, JoinHandle<()>) {
        let (client, server) = tokio::io::duplex(1024);
        let connection = ConnectionInfo {
            peer: "test".to_owned(),
            peer_address: None,
            listener: Arc::new(listener()),
        };
        let serving = serve_connection(
            TokioIo::new(server),
            |_| {},
            Arc::new(connection),
            Nobody,
            draining.clone(),
            Arc::default(),
        );
        #[expect(clippy::disallowed_methods, reason = "the test waits for it")]
        let serving = tokio::spawn(serving);
        (client, serving)
    }

    async fn assert_served(client: &mut DuplexStream) {
        let mut reply = Vec::new();
        while !reply.ends_with(b"\r\n\r\n") {
            let came = client.read_buf(&mut reply).await;
            assert_ne!(came.expect("it is open"), 0, "it was closed");
        }
        assert!(reply.starts_with(b"HTTP/1.1 200 OK\r\n"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_has_rested_is_served_as_before() {
        let (mut client, serving) = connect(&CancellationToken::new());
        for pause in [0, 1, 2, 30, 59] {
            tokio::time::sleep(pause * SECOND).await;
            let (beginning, rest) = REQUEST.split_at(7);
            client.write_all(beginning).await.expect("it is open");
            tokio::time::sleep(3 * SECOND).await;
            client.write_all(rest).await.expect("it is open");
            assert_served(&mut client).await;
        }
        let began = Instant::now();
        let end = client.read(&mut [0]).await.expect("an orderly end");
        assert_eq!((end, began.elapsed().as_secs()), (0, 60));
        serving.await.expect("it has not panicked");
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_begins_after_a_rest_has_its_deadline() {
        let (mut client, serving) = connect(&CancellationToken::new());
        client.write_all(REQUEST).await.expect("it is open");
        assert_served(&mut client).await;
        tokio::time::sleep(20 * SECOND).await;
        let began = Instant::now();
        client.write_all(b"POST /").await.expect("it is open");
        assert_served(&mut client).await;
        assert_eq!(began.elapsed().as_secs(), 5, "it was refused in time");
        drop(client);
        serving.await.expect("it has not panicked");
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_ends_a_connection_that_rests() {
        let draining = CancellationToken::new();
        let (mut client, serving) = connect(&draining);
        client.write_all(REQUEST).await.expect("it is open");
        assert_served(&mut client).await;
        tokio::time::sleep(20 * SECOND).await;
        draining.cancel();
        let began = Instant::now();
        let end = client.read(&mut [0]).await.expect("an orderly end");
        assert_eq!((end, began.elapsed()), (0, DRAIN_LINGER));
        serving.await.expect("it has not panicked");
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_ends_at_its_deadline() {
        let (watch, listener) = (Watch::new(), listener());
        assert_eq!(look(&watch, &listener, None), Look::Again(REST_AFTER));
        tokio::time::advance(REST_AFTER).await;
        assert_eq!(look(&watch, &listener, None), Look::Quiet);
        tokio::time::advance(58 * SECOND).await;
        assert_eq!(look(&watch, &listener, None), Look::Quiet);
        tokio::time::advance(SECOND).await;
        assert_eq!(look(&watch, &listener, None), Look::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_begins_after_a_look_is_timed_exactly() {
        let (watch, listener) = (Watch::new(), listener());
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
