//! Where every request goes, fixed when the configuration is loaded, and the deadlines on the way.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Uri};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::config::{BaseUrl, ProxyUrl, Roots, UpstreamConfig};

/// The one server that requests are sent to; immutable and shared by all cores.
#[derive(Debug)]
pub struct Origin {
    pub(super) host: String,
    pub(super) port: u16,
    /// `https://host:port/`, for the connectors.
    pub(super) uri: Uri,
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) egress: Option<Egress>,
    pub(super) limits: UpstreamLimits,
    authority: HeaderValue,
}

/// The egress proxy that opens a tunnel to the origin.
#[derive(Debug)]
pub(super) struct Egress {
    pub(super) host: String,
    pub(super) port: u16,
    /// `http://host:port/`, for the connector.
    pub(super) uri: Uri,
}

/// The deadlines and sizes of `[upstream]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct UpstreamLimits {
    pub(super) connect_timeout: Duration,
    pub(super) tls_timeout: Duration,
    pub(super) response_timeout: Duration,
    pub(super) body_idle_timeout: Duration,
    pub(super) exchange_timeout: Duration,
    pub(super) queue_timeout: Duration,
    pub(super) reuse_within: Duration,
    pub(super) hold_answer_bytes: usize,
    pub(super) max_header_bytes: usize,
}

/// Why the way to the upstream could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// `upstream.ca_file` cannot be read or holds no certificate.
    #[error("the file cannot be used: {0}")]
    CaFile(String),
    /// `upstream.roots = "platform"` found nothing to trust.
    #[error("\"platform\" found no certificate authority on this system: {0}")]
    NoPlatformRoots(String),
    /// The TLS library refused the settings.
    #[error("TLS could not be set up")]
    Tls(#[from] rustls::Error),
    /// The host of `base_url` or `upstream.proxy` cannot be written as a URI.
    #[error("has a host that cannot be connected to")]
    Host {
        /// The configuration key.
        key: &'static str,
    },
}

impl OriginError {
    /// The configuration key whose value is at fault.
    pub fn key(&self) -> &'static str {
        match self {
            Self::CaFile(_) => "upstream.ca_file",
            Self::NoPlatformRoots(_) => "upstream.roots",
            Self::Tls(_) => "upstream",
            Self::Host { key } => key,
        }
    }
}

impl Origin {
    /// Prepares everything about the upstream that does not change: names, roots of trust, limits.
    ///
    /// Reads certificate files; blocking, for start-up.
    ///
    /// # Errors
    /// See [`OriginError`].
    pub fn build(base_url: &BaseUrl, config: &UpstreamConfig) -> Result<Self, OriginError> {
        let host_fault = OriginError::Host { key: "base_url" };
        let scheme = if base_url.is_tls() { "https" } else { "http" };
        let uri = connector_uri(scheme, base_url.host(), base_url.port()).ok_or(host_fault)?;
        let host_fault = OriginError::Host { key: "base_url" };
        Ok(Self {
            host: base_url.host().to_owned(),
            port: base_url.port(),
            uri,
            tls: if base_url.is_tls() {
                Some(Arc::new(client_tls(config)?))
            } else {
                None
            },
            egress: config.proxy.as_ref().map(Egress::build).transpose()?,
            limits: UpstreamLimits {
                connect_timeout: config.connect_timeout,
                tls_timeout: config.tls_timeout,
                response_timeout: config.response_timeout,
                body_idle_timeout: config.body_idle_timeout,
                exchange_timeout: config.exchange_timeout,
                queue_timeout: config.queue_timeout,
                reuse_within: config.reuse_within,
                hold_answer_bytes: config.hold_answer,
                max_header_bytes: config.max_header_bytes,
            },
            authority: HeaderValue::from_str(base_url.authority()).map_err(|_| host_fault)?,
        })
    }

    /// The `Host` that every request carries, whatever the client's was.
    pub fn authority(&self) -> &HeaderValue {
        &self.authority
    }
}

impl Egress {
    fn build(proxy: &ProxyUrl) -> Result<Self, OriginError> {
        let uri = connector_uri("http", proxy.host(), proxy.port()).ok_or(OriginError::Host {
            key: "upstream.proxy",
        })?;
        Ok(Self {
            host: proxy.host().to_owned(),
            port: proxy.port(),
            uri,
        })
    }
}

fn connector_uri(scheme: &str, host: &str, port: u16) -> Option<Uri> {
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    format!("{scheme}://{host}:{port}/").parse().ok()
}

/// TLS 1.2 and 1.3, always verified, one explicit provider, no early data.
fn client_tls(config: &UpstreamConfig) -> Result<ClientConfig, OriginError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_root_certificates(trusted_roots(config)?)
        .with_no_client_auth())
}

fn trusted_roots(config: &UpstreamConfig) -> Result<RootCertStore, OriginError> {
    let mut roots = RootCertStore::empty();
    match config.roots {
        Roots::Bundled => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Roots::Platform => {
            let found = rustls_native_certs::load_native_certs();
            let (usable, _) = roots.add_parsable_certificates(found.certs);
            if usable == 0 {
                let causes: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
                return Err(OriginError::NoPlatformRoots(causes.join("; ")));
            }
        }
    }
    if let Some(path) = &config.ca_file {
        let certificates = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| OriginError::CaFile(error.to_string()))?;
        if certificates.is_empty() {
            return Err(OriginError::CaFile("it holds no certificate".to_owned()));
        }
        for certificate in certificates {
            roots
                .add(certificate)
                .map_err(|error| OriginError::CaFile(error.to_string()))?;
        }
    }
    Ok(roots)
}
