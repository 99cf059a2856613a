//! Certificates made at run time, and a client that speaks TLS.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned,
    SupportedProtocolVersion,
};
use tempfile::TempDir;

use super::PATIENCE;
use super::gateway::write_private;
use super::wire::{self, Cut, Message};

/// The name that every certificate is for.
pub(crate) const NAME: &str = "gateway.test";

/// Signs certificates for listeners.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
    /// The certificate as clients see it.
    pub(crate) der: CertificateDer<'static>,
}

/// Two files that a listener reads its certificate and key from.
pub(crate) struct TlsFiles {
    folder: TempDir,
}

/// One TLS connection to the gateway, its handshake done.
pub(crate) struct TlsClient {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Self {
            certificate: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    /// A fresh certificate for [`NAME`], with a fresh key.
    pub(crate) fn pair(&self) -> Pair {
        self.pair_until(4000)
    }

    /// One that ends with this year.
    pub(crate) fn pair_until(&self, year: i32) -> Pair {
        let mut params = CertificateParams::new(vec![NAME.to_owned()]).expect("a name");
        params.not_after = date_time_ymd(year, 12, 31);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            der: certificate.der().clone(),
        }
    }

    /// A client that trusts this authority, and shakes hands anew each time.
    pub(crate) fn client_config(
        &self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("an authority");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("the provider has suites for them")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config
    }
}

impl TlsFiles {
    pub(crate) fn of(pair: &Pair) -> Self {
        let files = Self {
            folder: TempDir::with_prefix("moden-gateway-tls-").expect("a temporary folder"),
        };
        files.write(&pair.certificate, &pair.key);
        files
    }

    /// Replaces both, the certificate first.
    pub(crate) fn write(&self, certificate: &str, key: &str) {
        write_private(&self.certificate(), certificate);
        write_private(&self.key(), key);
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.path().join("tls.crt")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.folder.path().join("tls.pem")
    }

    /// The lines of a listener that uses them.
    pub(crate) fn listener(&self) -> String {
        let table = |certificate: &Path, key: &Path| {
            format!("tls = {{ certificate = {certificate:?}, key = {key:?} }}")
        };
        table(&self.certificate(), &self.key())
    }
}

impl TlsClient {
    /// Connects and shakes hands.
    pub(crate) fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<Self> {
        Self::connect_to(NAME, address, config)
    }

    /// As [`Self::connect`], asking for this name.
    pub(crate) fn connect_to(
        name: &'static str,
        address: SocketAddr,
        config: &Arc<ClientConfig>,
    ) -> io::Result<Self> {
        let mut tcp = TcpStream::connect(address)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from(name).expect("a name");
        let session = ClientConnection::new(Arc::clone(config), name);
        let mut session = session.expect("a configuration that can be used");
        while session.is_handshaking() {
            session.complete_io(&mut tcp)?;
        }
        Ok(Self {
            stream: BufReader::new(StreamOwned::new(session, tcp)),
        })
    }

    /// What was agreed upon.
    pub(crate) fn session(&self) -> &ClientConnection {
        &self.stream.get_ref().conn
    }

    /// Whether a session from before was taken up again.
    pub(crate) fn is_resumed(&self) -> bool {
        self.session().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The certificate that was shown.
    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        let shown = self.session().peer_certificates().unwrap_or_default();
        shown.first().expect("a certificate was shown").clone()
    }

    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let stream = self.stream.get_mut();
        stream
            .write_all(bytes.as_ref())
            .expect("the gateway takes it");
        stream.flush().expect("the gateway takes it");
    }

    /// Reads the answer to a POST.
    pub(crate) fn try_answer(&mut self) -> Result<Message, Cut> {
        wire::read_answer(&mut self.stream, "POST")
    }

    /// Sends a POST and reads its answer.
    pub(crate) fn exchange(&mut self, request: impl AsRef<[u8]>) -> Message {
        self.write(request);
        let answer = self.try_answer();
        answer.unwrap_or_else(|cut| panic!("no complete answer: {cut:?}"))
    }

    /// Reads to the end; an end without a `close_notify` is an error.
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).map(|_| rest)
    }
}
