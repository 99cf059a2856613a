//! The way to MODEN: pooled connections, deadlines, and the outcome by counting bytes.
//!
//! For: sending an [`AuthorizedRequest`] to the one origin of the environment and saying what
//! became of it. Never does: choose where to send (the origin is fixed when the configuration is
//! loaded), send anything twice once a byte of it left, or accept a request without a credential.
//! Called by: `proxy`, and `doctor`, which also walks the way with a [`Probe`]. Start reading at
//! [`Upstream::send`].
//!
//! One [`Upstream`] lives on each core with a pool of its own, so nothing here is shared between
//! threads but the immutable [`Origin`] and the atomics of the [`Breaker`].
//!
//! ```text
//! send -> turn (max_connections, queue_timeout) -> breaker.begin
//!      -> may_begin -> pool.take | connect (DNS, TCP, CONNECT, TLS) -> may_begin
//!                                                             not-sent if it fails
//!      -> exchange (meter marks the first write)              from here on: unknown if it fails
//!      -> hold the answer | stream it                         answered when it is complete
//! ```

mod answer;
mod breaker;
mod connect;
mod error;
mod exchange;
mod metered;
mod origin;
mod pool;
mod probe;
mod wait;

use std::sync::Arc;
use std::time::Duration;

use http::{StatusCode, Version};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::body::HeldBytes;
use crate::credentials::AuthorizedRequest;
use crate::telemetry::metrics::UpstreamMetrics;

pub use answer::{Answer, AnswerBody, AnswerStream};
pub use breaker::{Breaker, BreakerState};
pub use error::{Failure, InvalidAnswer, UpstreamError};
pub use origin::{Origin, OriginError};
pub use probe::{Handshake, Probe};

use breaker::Ticket;
use connect::Connector;
use exchange::{Connection, Interrupted};
use pool::Pool;

/// Fresh connections tried for one request while hyper keeps giving it back untouched.
const MAX_FRESH_CONNECTIONS: u32 = 2;

/// What the access log tells of one exchange, besides its outcome.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExchangeFacts {
    /// Connections that the request was handed to; more than one only where the earlier ones gave
    /// it back untouched.
    pub attempts: u32,
    /// Whether the last of them had served a request before; `None` before any was found.
    pub is_reused: Option<bool>,
    /// How long a 429 of MODEN's asks to wait; known from its head, whatever becomes of its body.
    pub asked_to_wait: Option<Duration>,
}

/// One core's connections to MODEN.
#[derive(Debug)]
pub struct Upstream {
    origin: Arc<Origin>,
    breaker: Arc<Breaker>,
    connector: Connector,
    pool: Arc<Pool>,
    turns: Arc<Semaphore>,
    /// Where held answers are counted.
    held: Arc<HeldBytes>,
    metrics: Arc<UpstreamMetrics>,
}

impl Upstream {
    /// Makes ready to connect; opens nothing yet. Wants a tokio runtime, as DNS lookups use it.
    ///
    /// `max_connections` is this core's share of `upstream.max_connections`, at least 1; the breaker
    /// is all cores', as is `held`, where answers are counted while they are held.
    pub fn new(
        origin: Arc<Origin>,
        breaker: Arc<Breaker>,
        max_connections: usize,
        held: Arc<HeldBytes>,
        metrics: Arc<UpstreamMetrics>,
    ) -> Self {
        Self {
            breaker,
            connector: Connector::new(Arc::clone(&origin), Arc::clone(&metrics)),
            pool: Arc::new(Pool::new(origin.limits.reuse_within, Arc::clone(&metrics))),
            turns: Arc::new(Semaphore::new(max_connections.max(1))),
            held,
            origin,
            metrics,
        }
    }

    /// Sends a request and receives its answer: held up to `upstream.hold_answer`, else streamed.
    ///
    /// A request is handed to another connection only when hyper gives it back untouched; once a
    /// byte of it was written it is never sent again by anybody.
    ///
    /// `may_begin` is asked right before the request is handed to a connection, each time: much
    /// can have changed while it waited for one. It should cost no more than a few loads.
    ///
    /// # Errors
    /// What `may_begin` says, and then nothing was sent. Else [`UpstreamError`], which says at which
    /// step it failed and, from the bytes written, whether MODEN can have seen any of it.
    ///
    /// # Cancel safety
    /// Must not be dropped once polled: the caller keeps it running when the client is gone.
    pub async fn send<E: From<UpstreamError>>(
        &self,
        request: AuthorizedRequest,
        facts: &mut ExchangeFacts,
        may_begin: impl Fn() -> Result<(), E>,
    ) -> Result<Answer, E> {
        let deadline = Instant::now() + self.origin.limits.exchange_timeout;
        let turn = self.turn(deadline).await?;
        let mut ticket = self.breaker.begin()?;
        let mut request = request.into_request();
        let body_progress = request.body().progress();
        let mut fresh_connections = 0;
        loop {
            may_begin()?;
            let mut connection = match self.pool.take() {
                Some(connection) => connection,
                None => {
                    fresh_connections += 1;
                    // Boxed, because the rare handshake is by far the largest part of an exchange
                    // and every request would carry the room for it.
                    match Box::pin(self.connect(deadline)).await {
                        Ok(connection) => {
                            may_begin()?;
                            ticket.renew()?;
                            connection
                        }
                        Err(error) => return Err(ticket.failed(error).into()),
                    }
                }
            };
            facts.attempts += 1;
            facts.is_reused = Some(connection.is_reused());
            match connection
                .exchange(
                    request,
                    body_progress.as_deref(),
                    &self.origin.limits,
                    deadline,
                )
                .await
            {
                Ok(head) => {
                    facts.asked_to_wait = wait::asked_by(&head.response);
                    // hyper would send the next request in the version of this answer, and drop a
                    // body that HTTP/1.0 cannot carry.
                    if head.version() != Version::HTTP_11 {
                        connection.retire();
                    }
                    let lease = Lease {
                        received: head.received,
                        connection,
                        ticket: Some(ticket),
                        pool: Arc::clone(&self.pool),
                        _turn: turn,
                    };
                    let held = self.held.count();
                    let limits = &self.origin.limits;
                    return Ok(answer::receive(head, lease, limits, deadline, held).await?);
                }
                Err(Interrupted::GivenBack(untouched))
                    if fresh_connections < MAX_FRESH_CONNECTIONS =>
                {
                    request = *untouched;
                }
                Err(Interrupted::GivenBack(_)) => {
                    let failure = connection
                        .invalid()
                        .map_or(Failure::Reset, Failure::Invalid);
                    let error = UpstreamError::not_sent(failure);
                    return Err(ticket.failed(error).into());
                }
                Err(Interrupted::Failed(error)) => {
                    // A client that is slow to send its body is no fault of MODEN's.
                    let is_uploaded = body_progress.is_none_or(|body| body.is_whole());
                    let is_late = matches!(error.failure, Failure::ResponseTimeout);
                    return Err(match is_uploaded || !is_late {
                        true => ticket.failed(error),
                        false => error,
                    }
                    .into());
                }
            }
        }
    }

    /// Closes connections that were idle for longer than `upstream.reuse_within`; lets the breaker
    /// look at the clock.
    pub fn sweep(&self) {
        self.pool.sweep();
        self.breaker.sweep();
    }

    /// Takes over a connection that somebody else made, as if it had just served a request.
    ///
    /// For measurements of the data path without a network.
    ///
    /// # Errors
    /// When hyper cannot start HTTP on it.
    pub async fn adopt<T>(&self, io: T) -> Result<(), UpstreamError>
    where
        T: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
    {
        let max_header_bytes = self.origin.limits.max_header_bytes;
        let mut connection = Connection::start(io, None, max_header_bytes, &self.metrics)
            .await
            .map_err(UpstreamError::not_sent)?;
        connection.ready().await;
        self.pool.give_back(connection, Instant::now());
        Ok(())
    }

    /// A fresh connection, on which nothing came unasked so far.
    async fn connect(&self, deadline: Instant) -> Result<Connection, UpstreamError> {
        let connected = self.connector.connect(deadline).await;
        let connection = connected.map_err(UpstreamError::not_sent)?;
        match connection.unasked().await {
            None => Ok(connection),
            Some(invalid) => Err(UpstreamError::not_sent(Failure::Invalid(invalid))),
        }
    }

    async fn turn(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, UpstreamError> {
        let turns = Arc::clone(&self.turns);
        if let Ok(turn) = Arc::clone(&turns).try_acquire_owned() {
            return Ok(turn);
        }
        let queued = Instant::now();
        let deadline = deadline.min(queued + self.origin.limits.queue_timeout);
        match timeout_at(deadline, turns.acquire_owned()).await {
            Ok(turn) => {
                self.metrics.queue.observe(queued.elapsed().as_secs_f64());
                Ok(turn.expect("the semaphore is never closed"))
            }
            Err(_) => Err(UpstreamError::not_sent(Failure::QueueTimeout)),
        }
    }
}

/// A connection in use, and the turn that allows it; given back only when it proved itself.
#[derive(Debug)]
struct Lease {
    /// When the head of the answer was complete.
    received: Instant,
    connection: Connection,
    /// Gone when the breaker has been told how the exchange ended.
    ticket: Option<Ticket>,
    pool: Arc<Pool>,
    _turn: OwnedSemaphorePermit,
}

impl Lease {
    /// The answer was complete: keeps the connection for the next request.
    fn give_back(self, status: StatusCode) {
        let now = Instant::now();
        if let Some(ticket) = self.ticket {
            ticket.answered(status, now);
        }
        let took = now - self.received;
        self.pool.metrics.answer.observe(took.as_secs_f64());
        self.pool.give_back(self.connection, now);
    }

    /// The answer is too long to be held, and will be passed on as it comes.
    fn long_answer_began(&mut self, status: StatusCode) {
        let ticket = self.ticket.take();
        self.ticket = ticket.and_then(|ticket| ticket.long_answer_began(status, self.received));
    }

    /// The answer broke off: closes the connection.
    fn fail(self, error: UpstreamError) -> UpstreamError {
        match self.ticket {
            Some(ticket) => ticket.failed(error),
            None => error,
        }
    }
}
