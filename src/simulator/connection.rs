//! What happens to one connection, from accept to its (possibly violent) end?

use std::error::Error;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy, sink};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answer::{AnswerBody, Parting};
use super::{State, api, control};

/// How many connections are served at a time; more wait in the listener's queue.
const CONNECTIONS_MAX: usize = 10_000;

/// The largest request head; hyper answers a longer one with 431.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// How long a request head may take. hyper lets the same clock run on an idle connection, so this
/// is also the keep-alive time, and stays well above the gateway's `upstream.reuse_within` (10 s):
/// otherwise the simulator would close connections in the very moment they are used again.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection that was shut down waits for its peer to hang up as well.
const LINGER: Duration = Duration::from_secs(1);

/// The pause after a failed accept: usually file descriptors have run out, and come back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections for ever and serves each in a task of its own; the caller cancels it.
pub(super) async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    state: Arc<State>,
    tasks: TaskTracker,
    stopping: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        let stream = match listener.accept().await {
            Ok((stream, _peer)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the simulator could not accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let serving = serve(stream, tls.clone(), Arc::clone(&state));
        let stopping = stopping.clone();
        tasks.spawn(async move {
            stopping.run_until_cancelled(serving).await;
            drop(permit);
        });
    }
}

async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, state: Arc<State>) {
    // Small answers leave at once; a peer that is gone already shows at the first read.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        return serve_http(stream, state).await;
    };
    match timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => serve_http(stream, state).await,
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake with the simulator failed"),
        Err(_) => tracing::debug!("a TLS handshake with the simulator took too long"),
    }
}

async fn serve_http<S: Stream>(stream: S, state: Arc<State>) {
    let service = service_fn(move |request| Box::pin(answer(Arc::clone(&state), request)));
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);

    let ended = poll_fn(|context| connection.poll_without_shutdown(context)).await;
    let stream = connection.into_parts().io.into_inner();
    match ended.as_ref().err().and_then(parting) {
        Some(parting) => part(stream, parting).await,
        None => close(stream).await,
    }
}

/// Sends a request to the part of the simulator that it is for.
async fn answer(
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Parting> {
    if request.uri().path().starts_with(control::PREFIX) {
        return Ok(control::handle(&state, request).await.into_response());
    }
    api::handle(&state, request).await
}

/// The abrupt end that the service asked for, if that is why hyper gave up.
fn parting(error: &hyper::Error) -> Option<&Parting> {
    error.source()?.downcast_ref()
}

/// Ends a connection as a fault demands. Whether the peer still listens makes no difference.
async fn part<S: Stream>(mut stream: S, parting: &Parting) {
    let _ = stream.write_all(&parting.words).await;
    let _ = stream.flush().await;
    if parting.reset {
        // Closing a socket that lingers for no time sends RST instead of FIN. The words have
        // left by now: they are short, nothing else is under way, and Nagle is off.
        let _ = stream.tcp().set_zero_linger();
    }
}

/// Ends a connection in peace: a close with unread bytes would be a reset, which could overtake
/// the last answer.
///
/// # Source
/// RFC 9112 section 9.6.
async fn close<S: Stream>(mut stream: S) {
    let _ = stream.shutdown().await;
    let _ = timeout(LINGER, copy(&mut stream, &mut sink())).await;
}

/// A byte stream that knows the TCP socket below it.
trait Stream: AsyncRead + AsyncWrite + Unpin {
    fn tcp(&self) -> &TcpStream;
}

impl Stream for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Stream for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}
