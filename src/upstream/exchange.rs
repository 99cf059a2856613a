//! One connection, and one request's life on it up to the head of the answer.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use http::header::TRANSFER_ENCODING;
use http::{Method, Request, Response, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::rt::{Read, Write};
use rustix::net::RecvFlags;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::error::{Failure, InvalidAnswer, UpstreamError};
use super::metered::{Meter, Metered, violation_in};
use super::origin::UpstreamLimits;
use crate::body::{RequestBody, StreamProgress};
use crate::domain::Outcome;
use crate::framing::{Framing, HeadLimits};
use crate::telemetry::metrics::UpstreamMetrics;

/// Field lines in the head of an answer; hyper takes no more.
const MAX_HEADER_FIELDS: usize = 100;

/// How often a fresh connection's driver gets a turn to take what came before any request.
const SETTLE_TURNS: u32 = 4;

/// An open connection to the upstream, with HTTP/1.1 running on it.
pub(super) struct Connection {
    sender: http1::SendRequest<RequestBody>,
    meter: Arc<Meter>,
    /// Answers of which hyper gave us the head.
    answers: u64,
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
        max_header_bytes: usize,
        metrics: &Arc<UpstreamMetrics>,
    ) -> Result<Self, Failure>
    where
        T: Read + Write + Send + Unpin + 'static,
    {
        let meter = Arc::new(Meter::default());
        let limits = HeadLimits {
            max_bytes: max_header_bytes,
            max_fields: MAX_HEADER_FIELDS,
        };
        let metered = Metered::new(io, Arc::clone(&meter), limits);
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(max_header_bytes)
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
            answers: 0,
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

    /// Whether it could take a request, as far as hyper and the guard know.
    pub(super) fn is_ready(&self) -> bool {
        !self.is_retired && self.meter.violation().is_none() && self.sender.is_ready()
    }

    /// What the peer of a fresh connection has said before it was asked, if it has said anything.
    ///
    /// On TLS the session tickets come first; the driver gets a chance to take them. What arrives
    /// later than this, while the request is on its way, cannot be told from its answer.
    pub(super) async fn unasked(&self) -> Option<InvalidAnswer> {
        for _ in 0..SETTLE_TURNS {
            if self.is_silent() {
                break;
            }
            tokio::task::yield_now().await;
        }
        self.invalid()
    }

    /// Why nothing that comes on it can be trusted, if that is so.
    pub(super) fn invalid(&self) -> Option<InvalidAnswer> {
        self.meter.violation().map(InvalidAnswer::Framing)
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
        self.is_ready() && self.is_silent()
    }

    /// Whether there is nothing to read from the socket, not even its end.
    fn is_silent(&self) -> bool {
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
        self.meter.begin(request.method() == Method::HEAD);
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
                Ok(Some(answer)) => {
                    self.answers += 1;
                    return head(answer, self.answers, &self.meter, Some(body));
                }
                Ok(None) => {}
            }
        }
        let sent = Instant::now();
        let deadline = deadline.min(sent + limits.response_timeout);
        match timeout_at(deadline, answering).await {
            Err(_) => Err(failed(&self.meter, Failure::ResponseTimeout)),
            Ok(answer) => {
                self.answers += 1;
                let head = head(answer, self.answers, &self.meter, body)?;
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

/// `number` counts the answers of the connection, from 1.
fn head(
    answer: Result<Response<Incoming>, Unanswered>,
    number: u64,
    meter: &Arc<Meter>,
    body: Option<&StreamProgress>,
) -> Result<Head, Interrupted> {
    match answer {
        Ok(response) if !agree(&response, number, meter) => {
            Err(failed(meter, Failure::Invalid(InvalidAnswer::Disputed)))
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
    if let Some(violation) = violation_in(error) {
        Failure::Invalid(InvalidAnswer::Framing(violation))
    } else if error.is_parse() || is_misframed(error) {
        Failure::Invalid(InvalidAnswer::Malformed)
    } else {
        Failure::Reset
    }
}

/// Whether hyper and the guard read the same head, and the same framing out of it.
fn agree(response: &Response<Incoming>, number: u64, meter: &Meter) -> bool {
    let (answers, framing) = meter.answers();
    let length = response.body().size_hint().exact();
    let has_coding = || response.headers().contains_key(TRANSFER_ENCODING);
    let same_framing = match framing {
        Framing::Length(announced) => length == Some(announced),
        Framing::Chunked => length.is_none() && has_coding(),
        Framing::UntilEnd => length.is_none() && !has_coding(),
    };
    answers == number && same_framing
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

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpListener;

    use hyper_util::rt::TokioIo;

    use super::*;
    use crate::domain::Environment;
    use crate::framing::Violation;
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
        let connection =
            Connection::start(TokioIo::new(socket), Some(probe), 65_536, &metrics).await;
        tokio::task::yield_now().await;
        (connection.expect("hyper starts"), peer)
    }

    #[tokio::test]
    async fn what_a_peer_says_before_it_is_asked_is_found_before_the_first_request() {
        let (connection, peer) = connection().await;
        assert!(connection.unasked().await.is_none());
        (&peer)
            .write_all(b"HTTP/1.1 200 OK\r\n")
            .expect("it is open");
        assert!(matches!(
            connection.unasked().await,
            Some(InvalidAnswer::Framing(Violation::Unasked))
        ));
        assert!(!connection.is_ready());
        drop(peer);
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
