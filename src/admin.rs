//! The admin listener: what operators, probes and Prometheus see of the gateway, and the kill switch.
//!
//! For: health, metrics, status for programs and for people, pause and resume; and the client by
//! which this program's own commands ask a running gateway. Never does: touch the data path but for
//! the switch, show anything of a secret or a payment, or change anything for somebody without the
//! token. Called by: `app`, and `main` for the client. Start reading at [`Admin::serve`], then
//! `TABLE`; `admin/access.rs` has the rules.
//!
//! ```text
//! accept -> known Host? -> path in TABLE? -> method? -> right (token)? -> answer
//! ```
//!
//! It runs on the control thread, but for the rendering of metrics. A connection carries one request
//! and has one deadline; when there are too many, the oldest gives way to a newcomer such as a probe.

mod access;
mod client;
mod control;
mod health;
mod page;
mod scrape;
mod status;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::request;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use crate::config::AdminConfig;
use crate::credentials::Credentials;
use crate::proxy::{Control, Snapshot};
use crate::server;
use crate::telemetry::metrics::{self, Metrics};
use crate::upstream::{Breaker, BreakerState};

pub use client::{AdminClient, BearerToken, ClientError, Switched, TokenError};
pub use health::Health;

use access::{Access, Refusal, Right};
use control::Turn;
use scrape::{Scrapes, Waiting};
use status::Status;

/// Admin connections at once; one more, and the oldest is closed.
pub const MAX_CONNECTIONS: usize = 128;

/// From accepting a connection to the last byte of its one answer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest head of a request; a longer one is answered 431. Bodies are not read at all.
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// The pause after `accept` failed for lack of something, such as file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the page may load: nothing, but for its own style.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// The media types of answers; that of metrics stands with them.
const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";

/// What there is to ask for.
const TABLE: &[(&str, Resource)] = &[
    ("/livez", Resource::Livez),
    ("/readyz", Resource::Readyz),
    ("/metrics", Resource::Metrics),
    ("/status", Resource::Status),
    ("/", Resource::Page),
    ("/control/pause", Resource::Switch(Turn::Pause)),
    ("/control/resume", Resource::Switch(Turn::Resume)),
];

#[derive(Clone, Copy, Debug)]
enum Resource {
    Livez,
    Readyz,
    Metrics,
    Status,
    Page,
    Switch(Turn),
}

impl Resource {
    fn right(self) -> Right {
        match self {
            Self::Livez | Self::Readyz | Self::Metrics => Right::Health,
            Self::Status | Self::Page => Right::Read,
            Self::Switch(_) => Right::Change,
        }
    }

    /// The value of `Allow`.
    fn methods(self) -> &'static str {
        match self.right() {
            Right::Health | Right::Read => "GET, HEAD",
            Right::Change => "POST",
        }
    }

    fn allows(self, method: &Method) -> bool {
        match self.right() {
            Right::Health | Right::Read => matches!(*method, Method::GET | Method::HEAD),
            Right::Change => method == Method::POST,
        }
    }
}

/// What the admin listener looks at, and the switch that it turns.
#[derive(Debug)]
pub struct Parts {
    /// Written by the cores and by `app`.
    pub health: Arc<Health>,
    /// The whole catalogue.
    pub metrics: Arc<Metrics>,
    /// For what may be known of the credential in use.
    pub credentials: Arc<Credentials>,
    /// The kill switch, read by every request.
    pub control: Arc<Control>,
    /// Whether requests are let through to MODEN.
    pub breaker: Arc<Breaker>,
    /// The configuration in use.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Where clients are served, as bound.
    pub listeners: Vec<String>,
}

/// The admin listener, bound and not yet serving.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    desk: Arc<Desk>,
    scrapers: Waiting,
}

/// What answers requests; shared by all connections.
#[derive(Debug)]
struct Desk {
    access: Access,
    parts: Parts,
    scrapes: Scrapes,
}

impl Admin {
    /// Binds the address; wants a tokio runtime.
    ///
    /// # Errors
    /// When the address is taken or not allowed.
    pub fn bind(config: &AdminConfig, parts: Parts) -> io::Result<Self> {
        let listener = server::listen_tcp(config.address)?;
        let access = Access::new(config, listener.local_addr()?);
        let (scrapes, scrapers) = Scrapes::channel(MAX_CONNECTIONS);
        let desk = Desk {
            access,
            parts,
            scrapes,
        };
        Ok(Self {
            listener,
            desk: Arc::new(desk),
            scrapers,
        })
    }

    /// The address as bound.
    ///
    /// # Errors
    /// When the kernel no longer knows it.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves for ever; ends, with all its connections, by being dropped.
    pub async fn serve(self) {
        let Self {
            listener,
            desk,
            scrapers,
        } = self;
        let rendering = scrape::render_for(scrapers, Arc::clone(&desk.parts.metrics));
        tokio::join!(serve_all(listener, desk), rendering);
    }
}

/// Accepts connections and serves each as a task.
async fn serve_all(listener: TcpListener, desk: Arc<Desk>) {
    let mut tasks = JoinSet::new();
    // The oldest first.
    let mut connections: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(error = %error, "failed to accept an admin connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        while tasks.try_join_next().is_some() {}
        connections.retain(|connection| !connection.is_finished());
        if connections.len() >= MAX_CONNECTIONS
            && let Some(oldest) = connections.pop_front()
        {
            oldest.abort();
        }
        let serving = serve_connection(stream, peer, Arc::clone(&desk));
        let serving = tokio::time::timeout(CONNECTION_TIMEOUT, serving);
        connections.push_back(tasks.spawn(async {
            // One that takes too long is closed, whatever it is doing.
            let _ = serving.await;
        }));
    }
}

async fn serve_connection(stream: TcpStream, peer: SocketAddr, desk: Arc<Desk>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (head, _body) = request.into_parts();
        let desk = Arc::clone(&desk);
        async move { Ok::<_, Infallible>(desk.answer(&head, peer).await) }
    });
    // What goes wrong with an admin client's connection concerns that client only.
    let _ = http1::Builder::new()
        .keep_alive(false)
        // The deadline of the whole connection is enough.
        .header_read_timeout(None)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

impl Desk {
    async fn answer(&self, head: &request::Parts, peer: SocketAddr) -> Response<Full<Bytes>> {
        match self.admit(head) {
            Ok(resource) => self.show(resource, peer).await,
            Err(denial) => {
                if head.method == Method::POST {
                    tracing::warn!(%peer, reason = %denial, "an admin request was refused");
                }
                denial.reply()
            }
        }
    }

    fn admit(&self, head: &request::Parts) -> Result<Resource, Denial> {
        self.access.check_host(head)?;
        let path = head.uri.path();
        let Some((_, resource)) = TABLE.iter().find(|(known, _)| *known == path) else {
            self.access.check_right(Right::Read, &head.headers)?;
            return Err(Denial::NotFound);
        };
        if !resource.allows(&head.method) {
            return Err(Denial::MethodNotAllowed {
                allow: resource.methods(),
            });
        }
        self.access.check_right(resource.right(), &head.headers)?;
        Ok(*resource)
    }

    async fn show(&self, resource: Resource, peer: SocketAddr) -> Response<Full<Bytes>> {
        let parts = &self.parts;
        match resource {
            Resource::Livez => self.liveness(),
            Resource::Readyz => self.readiness(),
            Resource::Metrics => match self.scrapes.text().await {
                Some(text) => reply(StatusCode::OK, metrics::CONTENT_TYPE, text),
                None => reply(
                    StatusCode::SERVICE_UNAVAILABLE,
                    TEXT,
                    "the metrics could not be rendered\n",
                ),
            },
            Resource::Status => json(&Status::of(parts)),
            Resource::Page => {
                let mut page = reply(StatusCode::OK, HTML, page::render(&Status::of(parts)));
                let policy = HeaderValue::from_static(PAGE_POLICY);
                page.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
                page
            }
            Resource::Switch(turn) => json(&control::apply(turn, parts, peer)),
        }
    }

    fn liveness(&self) -> Response<Full<Bytes>> {
        match self.parts.health.stuck_core() {
            None => reply(StatusCode::OK, TEXT, "alive\n"),
            Some(core) => {
                let text = format!("core {core} is stuck\n");
                reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, text)
            }
        }
    }

    /// Ready or why not in the first line, then what else is worth knowing, a line each.
    fn readiness(&self) -> Response<Full<Bytes>> {
        let (status, verdict) = match self.parts.health.unready() {
            None => (StatusCode::OK, "ready"),
            Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason),
        };
        let mut text = format!("{verdict}\n");
        if let Some(since) = self.parts.control.paused_since() {
            let since = humantime::format_rfc3339_seconds(since);
            text.push_str(&format!("paused since {since}\n"));
        }
        // A 503 would take every replica out at once, for a fault that is not theirs.
        match self.parts.breaker.state() {
            BreakerState::Off | BreakerState::Closed => {}
            state => text.push_str(&format!("circuit breaker {}\n", state.as_str())),
        }
        reply(status, TEXT, text)
    }
}

/// Why a request gets nothing of what it asked for.
#[derive(Debug, thiserror::Error)]
enum Denial {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("there is nothing here")]
    NotFound,
    #[error("this path allows {allow} only")]
    MethodNotAllowed { allow: &'static str },
}

impl Denial {
    fn reply(&self) -> Response<Full<Bytes>> {
        let status = match self {
            Self::Refused(refusal) => refusal.status(),
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
        };
        let mut response = reply(status, TEXT, format!("{self}\n"));
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"moden-gateway admin\"");
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        if let Self::MethodNotAllowed { allow } = self {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}

fn json(content: &impl Serialize) -> Response<Full<Bytes>> {
    let mut text = serde_json::to_vec(content).expect("a tree of texts, numbers and lists");
    text.push(b'\n');
    reply(StatusCode::OK, JSON, text)
}

fn reply(
    status: StatusCode,
    media_type: &'static str,
    content: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(content.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
