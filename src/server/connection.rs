//! One client connection, from its first byte to its end.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::server::conn::http1;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::listener::{ConnectionInfo, ListenerInfo};
use super::watch::{Phase, Watch, WatchedBody, WatchedIo};

/// How long a connection without a request is kept while draining.
///
/// Long enough that a client in the middle of sending its next request still gets an answer, with
/// `Connection: close`; short enough that idle connections do not hold up the end.
const DRAIN_LINGER: Duration = Duration::from_secs(1);

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
}

/// Serves one connection until it ends, goes silent for too long, or is drained.
///
/// After `draining` is cancelled the next reply says `Connection: close`, and a connection without
/// a request ends after one more second.
pub async fn serve_connection<T, S>(
    io: T,
    connection: Arc<ConnectionInfo>,
    service: S,
    draining: CancellationToken,
) where
    T: Read + Write + Unpin + Send + 'static,
    S: Service,
{
    let watch = Watch::new();
    let listener = Arc::clone(&connection.listener);
    let answer = {
        let (watch, draining) = (Arc::clone(&watch), draining.clone());
        hyper::service::service_fn(move |request| {
            watch.begin_request();
            let reply = service.clone().answer(request, Arc::clone(&connection));
            let (watch, draining) = (Arc::clone(&watch), draining.clone());
            async move {
                let mut reply = reply.await.map(|body| WatchedBody { body, watch });
                if draining.is_cancelled() {
                    reply
                        .headers_mut()
                        .insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, std::convert::Infallible>(reply)
            }
        })
    };
    let serving = http1::Builder::new()
        .half_close(true)
        .max_buf_size(listener.max_header_bytes)
        // Our own timer below tells a slow head from an idle connection; hyper's does not.
        .header_read_timeout(None)
        .serve_connection(
            WatchedIo {
                io,
                watch: Arc::clone(&watch),
            },
            answer,
        );

    let mut serving = pin!(serving);
    let mut timer = pin!(tokio::time::sleep(next_look(&listener, false)));
    let mut is_draining = false;
    loop {
        tokio::select! {
            biased;
            // A client's errors are its own affair; every request that was one has its line.
            _ended = serving.as_mut() => return,
            () = draining.cancelled(), if !is_draining => {
                is_draining = true;
                timer.as_mut().reset(Instant::now() + next_look(&listener, true));
            }
            () = timer.as_mut() => {
                match overdue(&watch, &listener, is_draining) {
                    Overdue::Not => {}
                    Overdue::Idle => serving.as_mut().graceful_shutdown(),
                    Overdue::Head | Overdue::Deaf => return,
                }
                timer.as_mut().reset(Instant::now() + next_look(&listener, is_draining));
            }
        }
    }
}

/// Which deadline a connection has missed.
enum Overdue {
    Not,
    /// No request came.
    Idle,
    /// A head did not become complete.
    Head,
    /// The client takes nothing of its reply.
    Deaf,
}

fn overdue(watch: &Watch, listener: &ListenerInfo, is_draining: bool) -> Overdue {
    let idle_timeout = if is_draining {
        listener.idle_timeout.min(DRAIN_LINGER)
    } else {
        listener.idle_timeout
    };
    if watch.deaf_for() >= listener.idle_timeout {
        return Overdue::Deaf;
    }
    match watch.phase() {
        (Phase::Idle, lasted) if lasted >= idle_timeout => Overdue::Idle,
        (Phase::Head, lasted) if lasted >= listener.header_timeout => Overdue::Head,
        _ => Overdue::Not,
    }
}

/// When to look again: four looks a deadline, so that a request never has to touch the timer and a
/// deadline is missed by a quarter at most.
fn next_look(listener: &ListenerInfo, is_draining: bool) -> Duration {
    let shortest = listener.header_timeout.min(listener.idle_timeout);
    let shortest = if is_draining {
        shortest.min(DRAIN_LINGER)
    } else {
        shortest
    };
    (shortest / 4).max(Duration::from_millis(1))
}
