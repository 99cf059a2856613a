//! One connection, and one request's life on it up to the head of the answer.

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::rt::{Read, ReadBufCursor, Write};
use rustix::net::RecvFlags;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::error::{Failure, UpstreamError};
use super::origin::UpstreamLimits;
use crate::body::{RequestBody, StreamProgress};
use crate::domain::Outcome;
use crate::telemetry::metrics::UpstreamMetrics;

/// The largest head of an answer that is accepted, in bytes (hyper's own limits are larger).
const MAX_ANSWER_HEAD_BYTES: usize = 64 * 1024;

/// Whether any byte of the running exchange was offered to the socket.
///
/// It is set before the write call, so that an error from that call counts as sent.
#[derive(Debug, Default)]
pub(super) struct Meter {
    has_begun: AtomicBool,
}

impl Meter {
    fn reset(&self) {
        self.has_begun.store(false, Ordering::Relaxed);
    }

    /// What can be said of a request whose answer is not complete.
    pub(super) fn outcome(&self) -> Outcome {
        if self.has_begun.load(Ordering::Relaxed) {
            Outcome::Unknown
        } else {
            Outcome::NotSent
        }
    }
}

/// An open connection to the upstream, with HTTP/1.1 running on it.
pub(super) struct Connection {
    sender: http1::SendRequest<RequestBody>,
    meter: Arc<Meter>,
    /// The task that moves the bytes. It must not outlive the connection: after an early answer it
    /// would go on uploading, under no deadline, to an upstream that has stopped reading.
    _driver: AbortOnDropHandle<()>,
    /// A second handle on the socket, to look at it without hyper; none in measurements.
    probe: Option<OwnedFd>,
    /// Counts the connection as busy or idle, until it is dropped.
    metrics: Arc<UpstreamMetrics>,
    is_idle: bool,
    is_reused: bool,
    is_retired: bool,
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Connection")
            .field("is_reused", &self.is_reused)
            .finish()
    }
}

/// Why [`Connection::exchange`] brought no head.
pub(super) enum Interrupted {
    /// hyper returned the request and no byte of it was written: it may be sent elsewhere.
    GivenBack(Box<Request<RequestBody>>),
    /// It failed; the request is spent.
    Failed(UpstreamError),
}

/// The head of an answer, and the means to say what became of the exchange until it is complete.
pub(super) struct Head {
    pub(super) response: Response<Incoming>,
    pub(super) meter: Arc<Meter>,
    /// When it was complete.
    pub(super) received: Instant,
}

impl Head {
    /// The version that the upstream speaks.
    pub(super) fn version(&self) -> Version {
        self.response.version()
    }
}

impl Connection {
    /// Starts HTTP on an open stream; its driver runs as a task of the current core.
    pub(super) async fn start<T>(
        io: T,
        probe: Option<OwnedFd>,
        metrics: &Arc<UpstreamMetrics>,
    ) -> Result<Self, Failure>
    where
        T: Read + Write + Send + Unpin + 'static,
    {
        let meter = Arc::new(Meter::default());
        let metered = Metered {
            io,
            meter: Arc::clone(&meter),
        };
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(MAX_ANSWER_HEAD_BYTES)
            .handshake(metered)
            .await
            .map_err(|_| Failure::Reset)?;
        // Faults of the driver reach the exchange through its sender; an idle one just ends.
        let driver = async move {
            let _ = driver.await;
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "ends with its connection at the latest"
        )]
        let driver = AbortOnDropHandle::new(tokio::spawn(driver));
        metrics.opened.inc();
        metrics.busy.inc();
        Ok(Self {
            sender,
            meter,
            _driver: driver,
            probe,
            metrics: Arc::clone(metrics),
            is_idle: false,
            is_reused: false,
            is_retired: false,
        })
    }

    /// Whether a request was completed on it before.
    pub(super) fn is_reused(&self) -> bool {
        self.is_reused
    }

    /// Whether it could take a request, as far as hyper knows.
    pub(super) fn is_ready(&self) -> bool {
        !self.is_retired && self.sender.is_ready()
    }

    /// Takes it out of use once the running exchange has ended.
    pub(super) fn retire(&mut self) {
        self.is_retired = true;
    }

    /// Waits until hyper would take a request, or the connection has ended.
    pub(super) async fn ready(&mut self) {
        // An error means that it has ended, which `is_ready` says as well.
        let _ = self.sender.ready().await;
    }

    /// Notes that a request was completed on it, and that it waits for the next.
    pub(super) fn set_idle(&mut self) {
        self.is_reused = true;
        if !std::mem::replace(&mut self.is_idle, true) {
            self.metrics.busy.dec();
            self.metrics.idle.inc();
        }
    }

    /// Notes that it is about to carry a request.
    pub(super) fn set_busy(&mut self) {
        if std::mem::replace(&mut self.is_idle, false) {
            self.metrics.idle.dec();
            self.metrics.busy.inc();
        }
    }

    /// Whether the peer has neither closed nor said anything unasked, as the kernel sees it now.
    ///
    /// hyper only learns of either when its task runs next, which may be after a request was
    /// written. On TLS a late session ticket looks like unasked data; such a connection is given
    /// up too, which costs a handshake and nothing else.
    pub(super) fn is_quiet(&self) -> bool {
        if !self.is_ready() {
            return false;
        }
        let Some(probe) = &self.probe else {
            return true;
        };
        let mut byte = [0_u8; 1];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        matches!(
            rustix::net::recv(probe, &mut byte, flags),
            Err(rustix::io::Errno::WOULDBLOCK)
        )
    }

    /// Hands a request to the connection and waits for the final head of its answer.
    ///
    /// `response_timeout` counts from the last byte of the request: for a held body from now, for
    /// a streamed one from when the client has sent it whole.
    pub(super) async fn exchange(
        &mut self,
        request: Request<RequestBody>,
        body: Option<&StreamProgress>,
        limits: &UpstreamLimits,
        deadline: Instant,
    ) -> Result<Head, Interrupted> {
        self.meter.reset();
        let mut answering = std::pin::pin!(async {
            let answer = self.sender.try_send_request(request).await;
            answer.map_err(|mut error| Unanswered {
                untouched: error.take_message(),
                cause: error.into_error(),
            })
        });
        if let Some(body) = body {
            let uploaded = async {
                tokio::select! {
                    biased;
                    answer = &mut answering => Some(answer),
                    () = body.whole() => None,
                }
            };
            match timeout_at(deadline, uploaded).await {
                Err(_) => return Err(failed(&self.meter, Failure::ResponseTimeout)),
                Ok(Some(answer)) => return head(answer, &self.meter, Some(body)),
                Ok(None) => {}
            }
        }
        let sent = Instant::now();
        let deadline = deadline.min(sent + limits.response_timeout);
        match timeout_at(deadline, answering).await {
            Err(_) => Err(failed(&self.meter, Failure::ResponseTimeout)),
            Ok(answer) => {
                let head = head(answer, &self.meter, body)?;
                let took = head.received - sent;
                self.metrics.response.observe(took.as_secs_f64());
                Ok(head)
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let state = match self.is_idle {
            true => &self.metrics.idle,
            false => &self.metrics.busy,
        };
        state.dec();
    }
}

/// What hyper says of a request that got no answer.
struct Unanswered {
    /// The request itself, if it was never begun.
    untouched: Option<Request<RequestBody>>,
    cause: hyper::Error,
}

fn head(
    answer: Result<Response<Incoming>, Unanswered>,
    meter: &Arc<Meter>,
    body: Option<&StreamProgress>,
) -> Result<Head, Interrupted> {
    match answer {
        // Nothing that leaves here asks for an upgrade, so nothing may be upgraded.
        Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            Err(failed(meter, Failure::Invalid))
        }
        // Two lengths that need not agree: whoever reads such an answer otherwise than hyper sees
        // another answer (RFC 9112 6.3).
        Ok(response)
            if response.headers().contains_key(TRANSFER_ENCODING)
                && response.headers().contains_key(CONTENT_LENGTH) =>
        {
            Err(failed(meter, Failure::Invalid))
        }
        Ok(response) => Ok(Head {
            response,
            meter: Arc::clone(meter),
            received: Instant::now(),
        }),
        Err(Unanswered {
            untouched: Some(request),
            ..
        }) if meter.outcome() == Outcome::NotSent => Err(Interrupted::GivenBack(Box::new(request))),
        Err(Unanswered { cause, .. }) => Err(failed(meter, failure_of(&cause, body))),
    }
}

fn failed(meter: &Meter, failure: Failure) -> Interrupted {
    Interrupted::Failed(UpstreamError {
        failure,
        outcome: meter.outcome(),
    })
}

/// Names the step that failed; what it means for the payment is the meter's to say.
pub(super) fn failure_of(error: &hyper::Error, body: Option<&StreamProgress>) -> Failure {
    if let Some(fault) = body.and_then(StreamProgress::fault) {
        return Failure::RequestBody(fault);
    }
    if error.is_parse() || is_misframed(error) {
        Failure::Invalid
    } else {
        Failure::Reset
    }
}

/// Whether the body's framing was broken; hyper tells it by an I/O error of its own making, of a
/// kind that no socket reports.
fn is_misframed(error: &hyper::Error) -> bool {
    std::error::Error::source(error)
        .and_then(|cause| cause.downcast_ref::<io::Error>())
        .is_some_and(|cause| {
            let kind = cause.kind();
            matches!(
                kind,
                io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput
            )
        })
}

/// A stream, above TLS, that tells its [`Meter`] of every write before it is made.
struct Metered<T> {
    io: T,
    meter: Arc<Meter>,
}

impl<T: Read + Unpin> Read for Metered<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<T: Write + Unpin> Write for Metered<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.meter.has_begun.store(true, Ordering::Relaxed);
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.meter.has_begun.store(true, Ordering::Relaxed);
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpListener;

    use hyper_util::rt::TokioIo;

    use super::*;
    use crate::domain::Environment;
    use crate::telemetry::metrics::Metrics;

    /// A connection whose driver has had no chance to look since, and its peer.
    async fn connection() -> (Connection, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let socket = tokio::net::TcpStream::connect(address).await;
        let socket = socket.expect("it listens");
        let (peer, _) = listener.accept().expect("it is connected");
        let probe = rustix::io::dup(&socket).expect("a second handle");
        let metrics = Metrics::build(Environment::Sandbox).upstream();
        let connection = Connection::start(TokioIo::new(socket), Some(probe), &metrics).await;
        tokio::task::yield_now().await;
        (connection.expect("hyper starts"), peer)
    }

    #[tokio::test]
    async fn sees_what_the_peer_did_before_hyper_does() {
        let (connection, peer) = connection().await;
        assert!(connection.is_quiet());
        drop(peer);
        assert!(connection.is_ready() && !connection.is_quiet(), "closed");

        let (connection, mut peer) = self::connection().await;
        peer.write_all(b"x").expect("it is open");
        assert!(connection.is_ready() && !connection.is_quiet(), "unasked");
    }
}
