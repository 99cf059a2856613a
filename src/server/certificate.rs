//! A listener's certificate and its key: from two files to what rustls can use, or why not.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest::{self, SHA256};
use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{InconsistentKeys, ServerConfig};
use secrecy::ExposeSecret;
use x509_cert::Certificate;
use x509_cert::der::Decode;

use crate::config::ListenerTls;
use crate::secret::{self, FilePolicy, LoadedSecret, SecretError};

/// The longest file of certificates that is read: far above any chain, so that a wrong path cannot
/// fill the memory.
const MAX_CERTIFICATE_BYTES: u64 = 1024 * 1024;

/// The one protocol that is offered inside TLS.
///
/// # Source
/// RFC 7301 section 6, by the registry's name for HTTP/1.1.
const HTTP_1_1: &[u8] = b"http/1.1";

/// Why a certificate and its key cannot be used; never shows what a file holds, nor its path.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The file is not there, or may not be read.
    #[error("the certificate file could not be read")]
    Unreadable(#[source] io::Error),
    /// A folder, a pipe, a device or a socket stands where a file should.
    #[error("the certificate file is not a regular file")]
    NotAFile,
    /// More than any chain needs.
    #[error("the certificate file is longer than 1 MiB")]
    TooLong,
    /// No PEM section of this kind, or a broken one.
    #[error("the certificate file holds no certificate in PEM form")]
    NoCertificate,
    /// The PEM section is whole, and what stands in it is no certificate.
    #[error("the certificate file holds a certificate that is malformed")]
    Malformed,
    /// Told of a renewed one only; the one that it would replace may still be good.
    #[error("the certificate has expired")]
    Expired,
    /// As [`Self::Expired`]: told of a renewed one only.
    #[error("the certificate is not valid yet; clients refuse it before {}", humantime::format_rfc3339_seconds(*begins))]
    NotYetValid {
        /// From when on clients accept it.
        begins: SystemTime,
    },
    /// The key's file is not there, may not be read, or may be read by too many.
    #[error(transparent)]
    Key(#[from] SecretError),
    /// No PEM section of this kind, or a broken one.
    #[error("the secret file holds no private key in PEM form that is not encrypted")]
    NoKey,
    /// An algorithm or a size that TLS has no use for.
    #[error(
        "the private key cannot be used for TLS; take ECDSA over P-256 or P-384, Ed25519, or RSA of \
         2048 bits or more"
    )]
    UnusableKey,
    /// Each may be good, but not both together.
    #[error("the private key does not belong to the certificate")]
    Mismatch,
}

impl CertificateError {
    /// The key of the configuration that it is about, below the listener's.
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Unreadable(_)
            | Self::NotAFile
            | Self::TooLong
            | Self::NoCertificate
            | Self::Malformed
            | Self::Expired
            | Self::NotYetValid { .. } => "tls.certificate",
            Self::Key(_) | Self::NoKey | Self::UnusableKey => "tls.key",
            // Nobody knows which of them is the wrong one.
            Self::Mismatch => "tls",
        }
    }
}

/// What both files held at one moment, not judged yet.
pub(super) struct CertificateFiles {
    certificate: Result<Vec<u8>, CertificateError>,
    key: Result<LoadedSecret, SecretError>,
}

/// Tells one state of both files from another.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct FilesDigest([u8; digest::SHA256_OUTPUT_LEN]);

impl fmt::Debug for FilesDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("FilesDigest([hidden])")
    }
}

/// A certificate with its key, ready to be used.
#[derive(Debug)]
pub struct LoadedCertificate {
    /// TLS 1.2 and 1.3 with this certificate.
    pub(super) config: Arc<ServerConfig>,
    /// Until when clients refuse it.
    begins: SystemTime,
    /// From when on they refuse it again.
    pub(super) ends: SystemTime,
    pub(super) digest: FilesDigest,
    /// Key of the configuration below the listener's, and a sentence.
    pub warnings: Vec<(&'static str, String)>,
}

impl LoadedCertificate {
    /// Reads and judges both files; blocks.
    ///
    /// # Errors
    /// All that is wrong with them; at least one error.
    pub fn load(files: &ListenerTls, policy: FilePolicy) -> Result<Self, Vec<CertificateError>> {
        CertificateFiles::read(files, policy).judge()
    }

    /// Refuses what clients would refuse at this time.
    pub(super) fn judge_time(self, now: SystemTime) -> Result<Self, Vec<CertificateError>> {
        let begins = self.begins;
        match () {
            () if self.ends <= now => Err(vec![CertificateError::Expired]),
            () if begins > now => Err(vec![CertificateError::NotYetValid { begins }]),
            () => Ok(self),
        }
    }
}

impl CertificateFiles {
    /// Reads both files; blocks.
    pub(super) fn read(files: &ListenerTls, policy: FilePolicy) -> Self {
        Self {
            certificate: read(&files.certificate),
            key: secret::load_file(&files.key, policy),
        }
    }

    /// What they held, or why they could not be read, as one number.
    pub(super) fn digest(&self) -> FilesDigest {
        let mut context = digest::Context::new(&SHA256);
        match &self.certificate {
            Ok(bytes) => {
                context.update(&bytes.len().to_be_bytes());
                context.update(bytes);
            }
            Err(error) => context.update(format!("{error:?}").as_bytes()),
        }
        match &self.key {
            Ok(loaded) => context.update(loaded.secret.expose_secret()),
            Err(error) => context.update(format!("{error:?}").as_bytes()),
        }
        let mut octets = [0; digest::SHA256_OUTPUT_LEN];
        for (octet, computed) in octets.iter_mut().zip(context.finish().as_ref()) {
            *octet = *computed;
        }
        FilesDigest(octets)
    }

    /// Whether they are a certificate and its key.
    pub(super) fn judge(self) -> Result<LoadedCertificate, Vec<CertificateError>> {
        let digest = self.digest();
        let mut warnings = Vec::new();
        let certificate = self.certificate.and_then(|bytes| {
            let chain = parse_chain(&bytes)?;
            let span = judge_dates(&chain, &mut warnings)?;
            Ok((chain, span))
        });
        let key = match self.key {
            Ok(loaded) => {
                let told = loaded.warnings.into_iter();
                warnings.extend(told.map(|warning| ("tls.key", warning)));
                PrivateKeyDer::from_pem_slice(loaded.secret.expose_secret())
                    .map_err(|_| CertificateError::NoKey)
            }
            Err(error) => Err(error.into()),
        };
        let ((chain, (begins, ends)), key) = match (certificate, key) {
            (Ok(certificate), Ok(key)) => (certificate, key),
            (certificate, key) => {
                return Err(certificate.err().into_iter().chain(key.err()).collect());
            }
        };
        Ok(LoadedCertificate {
            config: server_config(chain, key).map_err(|error| vec![error])?,
            begins,
            ends,
            digest,
            warnings,
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    // Asked before it is opened: opening a pipe waits for its other end.
    let metadata = fs::metadata(path).map_err(CertificateError::Unreadable)?;
    if !metadata.is_file() {
        return Err(CertificateError::NotAFile);
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_CERTIFICATE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(CertificateError::Unreadable)?;
    match bytes.len() as u64 > MAX_CERTIFICATE_BYTES {
        true => Err(CertificateError::TooLong),
        false => Ok(bytes),
    }
}

fn parse_chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|_| CertificateError::NoCertificate)?;
    match chain.is_empty() {
        true => Err(CertificateError::NoCertificate),
        false => Ok(chain),
    }
}

/// When the chain is valid, which is when each of its certificates is.
fn judge_dates(
    chain: &[CertificateDer<'_>],
    warnings: &mut Vec<(&'static str, String)>,
) -> Result<(SystemTime, SystemTime), CertificateError> {
    let mut span: Option<(SystemTime, SystemTime)> = None;
    for der in chain {
        let certificate = Certificate::from_der(der).map_err(|_| CertificateError::Malformed)?;
        let validity = certificate.tbs_certificate().validity();
        let begins = validity.not_before.to_system_time();
        let ends = validity.not_after.to_system_time();
        span = Some(span.map_or((begins, ends), |span| {
            (span.0.max(begins), span.1.min(ends))
        }));
    }
    let (begins, ends) = span.ok_or(CertificateError::NoCertificate)?;
    let now = SystemTime::now();
    let date = humantime::format_rfc3339_seconds;
    let warning = match () {
        () if ends <= now => format!("it has expired, {}, and clients refuse it", date(ends)),
        () if begins > now => format!("clients refuse it before {}", date(begins)),
        () => return Ok((begins, ends)),
    };
    warnings.push(("tls.certificate", warning));
    Ok((begins, ends))
}

/// TLS 1.2 and 1.3 by one explicit provider with its secure suites, no early data.
///
/// Sessions are resumed by tickets, whose keys are made here and replaced every six hours: that takes
/// no memory for any client, however many there are. They end with the certificate, since a new one
/// comes with a new configuration: no session outlives a key that had to be replaced.
fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, CertificateError> {
    let rustls = Arc::new(provider::default_provider());
    let certified = CertifiedKey::from_der(chain, key, &rustls).map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            CertificateError::Mismatch
        }
        rustls::Error::InvalidCertificate(_) => CertificateError::Malformed,
        _ => CertificateError::UnusableKey,
    })?;
    let mut config = ServerConfig::builder_with_provider(rustls)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("the provider has suites for both versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // Without randomness for their keys there are no tickets, and every handshake is a full one.
    if let Ok(tickets) = provider::Ticketer::new() {
        config.ticketer = tickets;
    }
    Ok(Arc::new(config))
}
