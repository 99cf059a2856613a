//! The admin listener: is the process alive, and may it be sent requests.
//!
//! For: `/livez` and `/readyz`. Never does: touch the data path; it runs on the control thread.
//! Called by: `app`. Start reading at [`Health`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::credentials::Credentials;
use crate::telemetry::metrics::Metrics;

/// Admin connections served at once; more wait.
const MAX_CONNECTIONS: usize = 64;

/// How long an admin client may take to send a head, which includes being idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// A core that was silent for longer than this is stuck.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(5);

/// What the health endpoints know; written by the cores and by `app`.
#[derive(Debug)]
pub struct Health {
    started: Instant,
    /// Milliseconds since `started` of each core's last sign of life.
    heartbeats: Vec<AtomicU64>,
    is_serving: AtomicBool,
    is_draining: AtomicBool,
    credentials: Arc<Credentials>,
}

impl Health {
    /// Starts as alive and not ready.
    pub fn new(cores: usize, credentials: Arc<Credentials>) -> Self {
        Self {
            started: Instant::now(),
            heartbeats: (0..cores).map(|_| AtomicU64::new(0)).collect(),
            is_serving: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
            credentials,
        }
    }

    /// Notes that a core's runtime is turning.
    pub fn beat(&self, core: usize) {
        if let Some(heartbeat) = self.heartbeats.get(core) {
            let millis = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
            heartbeat.store(millis, Ordering::Relaxed);
        }
    }

    /// Notes that a core has ended in order and will give no more signs of life.
    pub fn ended(&self, core: usize) {
        if let Some(heartbeat) = self.heartbeats.get(core) {
            heartbeat.store(u64::MAX, Ordering::Relaxed);
        }
    }

    /// Whether every core gives signs of life, or has ended in order.
    pub fn is_alive(&self) -> bool {
        self.stuck_core().is_none()
    }

    /// Notes that every listener accepts.
    pub fn serving(&self) {
        self.is_serving.store(true, Ordering::Release);
    }

    /// Notes that no new work is wanted.
    pub fn draining(&self) {
        self.is_draining.store(true, Ordering::Release);
    }

    /// The first core that is stuck, if any.
    fn stuck_core(&self) -> Option<usize> {
        let now = self.started.elapsed();
        self.heartbeats.iter().position(|heartbeat| {
            let last = Duration::from_millis(heartbeat.load(Ordering::Relaxed));
            now.saturating_sub(last) > HEARTBEAT_TIMEOUT
        })
    }

    /// Why requests should go elsewhere, if they should.
    fn unready(&self) -> Option<&'static str> {
        if self.is_draining.load(Ordering::Acquire) {
            Some("draining")
        } else if !self.is_serving.load(Ordering::Acquire) {
            Some("starting")
        } else if !self.credentials.is_available() {
            Some("no credential")
        } else {
            None
        }
    }
}

/// The admin listener, bound and not yet serving.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
}

impl Admin {
    /// Binds the address.
    ///
    /// # Errors
    /// When the address is taken or not allowed.
    pub async fn bind(
        address: SocketAddr,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        Ok(Self {
            listener: TcpListener::bind(address).await?,
            health,
            metrics,
        })
    }

    /// The address as bound.
    ///
    /// # Errors
    /// When the kernel no longer knows it.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves for ever; ends by being dropped.
    pub async fn serve(self) {
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let tasks = TaskTracker::new();
        loop {
            let permit = Arc::clone(&connections).acquire_owned().await;
            match self.listener.accept().await {
                Ok((stream, _peer)) => {
                    let serving = serve_connection(
                        stream,
                        Arc::clone(&self.health),
                        Arc::clone(&self.metrics),
                    );
                    tasks.spawn(async move {
                        serving.await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(error = %error, "failed to accept an admin connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, health: Arc<Health>, metrics: Arc<Metrics>) {
    let service = hyper::service::service_fn(move |request| {
        std::future::ready(Ok::<_, std::convert::Infallible>(answer(
            &request, &health, &metrics,
        )))
    });
    // What goes wrong with an admin client's connection concerns that client only.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn answer(
    request: &Request<Incoming>,
    health: &Health,
    metrics: &Metrics,
) -> Response<Full<Bytes>> {
    let (status, text) = match request.uri().path() {
        "/livez" => match health.stuck_core() {
            None => (StatusCode::OK, "alive\n".to_owned()),
            Some(core) => (
                StatusCode::SERVICE_UNAVAILABLE,
                format!("core {core} is stuck\n"),
            ),
        },
        "/readyz" => match health.unready() {
            None => (StatusCode::OK, "ready\n".to_owned()),
            Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        },
        "/metrics" => (StatusCode::OK, metrics.render()),
        _ => (StatusCode::NOT_FOUND, "not found\n".to_owned()),
    };
    let is_allowed = matches!(*request.method(), Method::GET | Method::HEAD);
    let mut response = if is_allowed || status == StatusCode::NOT_FOUND {
        Response::new(Full::from(text))
    } else {
        Response::new(Full::from("method not allowed\n"))
    };
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if is_allowed || status == StatusCode::NOT_FOUND {
        *response.status_mut() = status;
    } else {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    }
    response
}

#[cfg(test)]
mod tests {
    use crate::credentials::Credential;
    use crate::secret::Secret;

    use super::*;

    #[test]
    fn is_ready_only_while_serving_with_a_credential() {
        let credentials = Arc::new(Credentials::default());
        let health = Health::new(1, Arc::clone(&credentials));
        assert_eq!(health.unready(), Some("starting"));
        health.serving();
        assert_eq!(health.unready(), Some("no credential"));
        let pair = (Secret::new("app"), Secret::new("top"));
        credentials.replace(Credential::build(&pair.0, &pair.1).expect("a valid pair"));
        assert_eq!(health.unready(), None);
        health.draining();
        assert_eq!(health.unready(), Some("draining"));
    }

    #[test]
    fn a_core_that_has_ended_in_order_is_not_stuck() {
        let mut health = Health::new(1, Arc::default());
        health.started = Instant::now()
            .checked_sub(HEARTBEAT_TIMEOUT + Duration::from_secs(1))
            .expect("the clock runs for longer than that");
        health.ended(0);
        assert!(health.is_alive());
    }

    #[test]
    fn notices_a_core_that_stopped_turning() {
        let mut health = Health::new(2, Arc::default());
        health.started = Instant::now()
            .checked_sub(HEARTBEAT_TIMEOUT + Duration::from_secs(1))
            .expect("the clock runs for longer than that");
        assert_eq!(health.stuck_core(), Some(0));
        health.beat(0);
        assert_eq!(health.stuck_core(), Some(1));
        assert!(!health.is_alive());
        health.beat(1);
        assert_eq!(health.stuck_core(), None);
        assert!(health.is_alive());
    }
}
