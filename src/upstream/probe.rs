//! The way to MODEN walked step by step, for who wants to know at which one it fails.
//!
//! The same connector as for payments, name servers and roots of trust included; what it opens
//! carries no request.

use std::net::IpAddr;
use std::sync::Arc;

use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::connect::Connector;
use super::error::Failure;
use super::origin::Origin;
use crate::telemetry::metrics::UpstreamMetrics;

/// Connects to the origin without sending anything; all steps together inside
/// `upstream.exchange_timeout`.
#[derive(Debug)]
pub struct Probe {
    connector: Connector,
    deadline: Instant,
}

/// What a TLS handshake with the origin agreed upon.
#[derive(Clone, Debug)]
pub struct Handshake {
    /// Such as `TLSv1_3`.
    pub version: String,
    /// Such as `TLS13_AES_256_GCM_SHA384`.
    pub cipher: String,
    /// What the origin showed, its own certificate first; verified.
    pub certificates: Vec<CertificateDer<'static>>,
}

impl Probe {
    /// Makes ready to connect, and starts the clock. Wants a tokio runtime.
    pub fn new(origin: Arc<Origin>, metrics: Arc<UpstreamMetrics>) -> Self {
        Self {
            deadline: Instant::now() + origin.limits.exchange_timeout,
            connector: Connector::new(origin, metrics),
        }
    }

    /// The name that is looked up: the egress proxy's if there is one, else the origin's.
    pub fn host(&self) -> &str {
        self.connector.next_hop().0
    }

    /// Looks the name up.
    ///
    /// # Errors
    /// [`Failure::Dns`], or [`Failure::ConnectTimeout`] after `upstream.connect_timeout`.
    pub async fn resolve(&self) -> Result<Vec<IpAddr>, Failure> {
        self.connector.resolve(self.deadline).await
    }

    /// Opens a TCP connection to the first of these addresses that takes one.
    ///
    /// # Errors
    /// Why the last of them did not.
    pub async fn connect(&self, addresses: &[IpAddr]) -> Result<TcpStream, Failure> {
        self.connector.connect_any(addresses, self.deadline).await
    }

    /// Asks the egress proxy, if there is one, for a tunnel, and shakes hands; `None` where the
    /// origin speaks no TLS.
    ///
    /// # Errors
    /// No tunnel, no TLS, or a certificate that is not accepted.
    pub async fn shake_hands(&self, tcp: TcpStream) -> Result<Option<Handshake>, Failure> {
        let deadline = self.connector.tls_deadline(self.deadline);
        timeout_at(deadline, async {
            let tcp = self.connector.tunnel(TokioIo::new(tcp)).await?;
            let Some(tls) = self.connector.tls() else {
                return Ok(None);
            };
            Ok(match self.connector.handshake(tcp, tls).await? {
                MaybeHttpsStream::Http(_) => None,
                MaybeHttpsStream::Https(stream) => Some(Handshake::of(stream.inner().get_ref().1)),
            })
        })
        .await
        .unwrap_or(Err(Failure::ConnectTimeout))
    }
}

impl Handshake {
    fn of(connection: &rustls::ClientConnection) -> Self {
        let version = connection.protocol_version();
        let cipher = connection.negotiated_cipher_suite();
        let certificates = connection.peer_certificates().unwrap_or_default();
        Self {
            version: version.map_or_else(String::new, |version| format!("{version:?}")),
            cipher: cipher.map_or_else(String::new, |cipher| format!("{:?}", cipher.suite())),
            certificates: certificates
                .iter()
                .map(|certificate| certificate.clone().into_owned())
                .collect(),
        }
    }
}
