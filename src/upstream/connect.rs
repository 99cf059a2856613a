//! A fresh connection: DNS, TCP to each address, a tunnel if there is an egress proxy, TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tower_service::Service;

use super::error::Failure;
use super::exchange::Connection;
use super::origin::Origin;
use crate::telemetry::metrics::UpstreamMetrics;

/// Opens connections to the origin for one core.
#[derive(Debug)]
pub(super) struct Connector {
    origin: Arc<Origin>,
    resolver: Resolver,
    metrics: Arc<UpstreamMetrics>,
}

impl Connector {
    pub(super) fn new(origin: Arc<Origin>, metrics: Arc<UpstreamMetrics>) -> Self {
        Self {
            resolver: Resolver::new(&origin),
            origin,
            metrics,
        }
    }

    /// Connects, trying every address the name has; nothing of a request has left when it fails.
    pub(super) async fn connect(&self, deadline: Instant) -> Result<Connection, Failure> {
        let connection = self.open(deadline).await;
        if let Err(failure) = &connection {
            self.count(failure);
        }
        connection
    }

    async fn open(&self, deadline: Instant) -> Result<Connection, Failure> {
        let metrics = &self.metrics;
        let max_header_bytes = self.origin.limits.max_header_bytes;
        let began = Instant::now();
        let addresses = self.resolve(deadline).await?;
        let tcp = self.connect_any(&addresses, deadline).await?;
        // The pool looks through this second handle whether the peer has closed or said something.
        let probe = rustix::io::dup(&tcp).map_err(|errno| Failure::Unreachable(errno.into()))?;

        timeout_at(self.tls_deadline(deadline), async {
            let io = self.tunnel(TokioIo::new(tcp)).await?;
            metrics.connect.observe(began.elapsed().as_secs_f64());
            let Some(tls) = self.tls() else {
                return Connection::start(io, Some(probe), max_header_bytes, metrics).await;
            };
            let began = Instant::now();
            let io = self.handshake(io, tls).await?;
            metrics.tls.observe(began.elapsed().as_secs_f64());
            Connection::start(io, Some(probe), max_header_bytes, metrics).await
        })
        .await
        .unwrap_or(Err(Failure::ConnectTimeout))
    }

    fn count(&self, failure: &Failure) {
        let failures = &self.metrics.connect_failures;
        let counter = match failure {
            Failure::Dns(_) => &failures.dns,
            Failure::Refused => &failures.refused,
            Failure::ConnectTimeout => &failures.timeout,
            Failure::Tunnel(_) => &failures.tunnel,
            Failure::Certificate(_) => &failures.certificate,
            Failure::Tls(_) => &failures.tls,
            // All but the first belong to an exchange and do not happen here.
            Failure::Unreachable(_)
            | Failure::QueueTimeout
            | Failure::BreakerOpen(_)
            | Failure::ResponseTimeout
            | Failure::AnswerTimeout
            | Failure::Reset
            | Failure::Invalid(_)
            | Failure::RequestBody(_) => &failures.unreachable,
        };
        counter.inc();
    }

    /// Whose name is looked up, and which port connected to: the egress proxy's if there is one.
    pub(super) fn next_hop(&self) -> (&str, u16) {
        match &self.origin.egress {
            Some(egress) => (&egress.host, egress.port),
            None => (&self.origin.host, self.origin.port),
        }
    }

    /// How TLS is spoken to the origin; `None` for one on loopback that speaks none.
    pub(super) fn tls(&self) -> Option<&Arc<ClientConfig>> {
        self.origin.tls.as_ref()
    }

    /// When a handshake that begins now, with its tunnel, must have ended.
    pub(super) fn tls_deadline(&self, deadline: Instant) -> Instant {
        deadline.min(Instant::now() + self.origin.limits.tls_timeout)
    }

    /// Looks up the next hop's name.
    pub(super) async fn resolve(&self, deadline: Instant) -> Result<Vec<IpAddr>, Failure> {
        let (host, _) = self.next_hop();
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let deadline = deadline.min(Instant::now() + self.origin.limits.connect_timeout);
        match timeout_at(deadline, self.resolver.0.lookup_ip(host)).await {
            Err(_) => Err(Failure::ConnectTimeout),
            Ok(Err(error)) => Err(Failure::Dns(error.to_string())),
            Ok(Ok(found)) => Ok(found.iter().collect()),
        }
    }

    /// Opens a TCP connection to the first of these addresses that takes one.
    pub(super) async fn connect_any(
        &self,
        addresses: &[IpAddr],
        deadline: Instant,
    ) -> Result<TcpStream, Failure> {
        let (_, port) = self.next_hop();
        let mut last = Failure::Dns("the name has no address".to_owned());
        for address in addresses {
            let deadline = deadline.min(Instant::now() + self.origin.limits.connect_timeout);
            match timeout_at(
                deadline,
                TcpStream::connect(SocketAddr::new(*address, port)),
            )
            .await
            {
                Err(_) => last = Failure::ConnectTimeout,
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    last = Failure::Refused;
                }
                Ok(Err(error)) => last = Failure::Unreachable(error),
                Ok(Ok(tcp)) => {
                    // Small requests must not wait for the acknowledgement of earlier ones.
                    tcp.set_nodelay(true).map_err(Failure::Unreachable)?;
                    return Ok(tcp);
                }
            }
        }
        Err(last)
    }

    /// Asks the egress proxy, if there is one, for a tunnel to the origin (RFC 9110 9.3.6).
    pub(super) async fn tunnel(
        &self,
        tcp: TokioIo<TcpStream>,
    ) -> Result<TokioIo<TcpStream>, Failure> {
        let Some(egress) = &self.origin.egress else {
            return Ok(tcp);
        };
        Tunnel::new(egress.uri.clone(), Handover(Some(tcp)))
            .call(self.origin.uri.clone())
            .await
            .map_err(|error| Failure::Tunnel(error.to_string()))
    }

    /// Shakes hands with the origin and verifies its certificate.
    pub(super) async fn handshake(
        &self,
        tcp: TokioIo<TcpStream>,
        tls: &Arc<ClientConfig>,
    ) -> Result<MaybeHttpsStream<TokioIo<TcpStream>>, Failure> {
        HttpsConnector::from((Handover(Some(tcp)), Arc::clone(tls)))
            .call(self.origin.uri.clone())
            .await
            .map_err(|error| tls_failure(error.as_ref()))
    }
}

/// Hands an open socket to a connector that wants to open one itself.
struct Handover(Option<TokioIo<TcpStream>>);

impl Service<Uri> for Handover {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<TokioIo<TcpStream>>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _origin: Uri) -> Self::Future {
        let taken = io::Error::other("the socket was already taken");
        std::future::ready(self.0.take().ok_or(taken))
    }
}

/// Tells a refused certificate from other troubles of a handshake.
fn tls_failure(error: &(dyn std::error::Error + 'static)) -> Failure {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return match tls {
                rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
                    Failure::Certificate(tls.clone())
                }
                _ => Failure::Tls(tls.to_string()),
            };
        }
        // An io::Error shows its payload, not itself, as the source of its source.
        cause = match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    Failure::Tls(error.to_string())
}

/// DNS without getaddrinfo: hosts file first, then the system's name servers, TTLs kept.
struct Resolver(TokioResolver);

impl std::fmt::Debug for Resolver {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Resolver")
    }
}

impl Resolver {
    fn new(origin: &Origin) -> Self {
        let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|error| {
            tracing::warn!(error = %error, "resolv.conf could not be used; only the hosts file is asked");
            let nowhere = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
            TokioResolver::builder_with_config(nowhere, TokioRuntimeProvider::default())
        });
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.use_hosts_file = ResolveHosts::Always;
        options.timeout = origin.limits.connect_timeout;
        Self(
            builder
                .build()
                .expect("a resolver without TLS has nothing that can fail"),
        )
    }
}
