//! TLS on a listener: the handshake, and the certificate that is renewed on disk.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::certificate::{CertificateError, CertificateFiles, FilesDigest, LoadedCertificate};
use super::silence;
use crate::config::ListenerTls;
use crate::secret::FilePolicy;
use crate::telemetry::metrics::ListenerTlsMetrics;

/// How many looks must find the same before it is refused: a file that is being written is none.
const LOOKS: u32 = 2;

/// The same for a certificate and a key that do not belong together: 30 s, at a look every two
/// seconds, are left to write one behind the other.
const LOOKS_FOR_A_PAIR: u32 = 15;

/// What one listener needs to speak TLS.
#[derive(Debug)]
pub struct Tls {
    /// Replaced with the certificate; connections keep the one that they began with.
    config: ArcSwap<ServerConfig>,
    /// `tls_timeout`.
    timeout: Duration,
    metrics: ListenerTlsMetrics,
}

impl Tls {
    /// With the certificate of the start.
    pub fn new(
        loaded: &LoadedCertificate,
        timeout: Duration,
        metrics: ListenerTlsMetrics,
    ) -> Arc<Self> {
        metrics.expiry.set(seconds(loaded.ends));
        Arc::new(Self {
            config: ArcSwap::new(Arc::clone(&loaded.config)),
            timeout,
            metrics,
        })
    }

    /// Shakes hands with a client that has sent its first byte; `None` if that failed.
    ///
    /// A failure is counted and not told: whoever can reach the listener could fill the log. A client
    /// that left without a byte has not failed: load balancers look so whether somebody listens.
    ///
    /// # Cancel safety
    /// Dropped before it ends, the connection is counted in `dropped_idle`.
    pub(super) async fn shake_hands(
        &self,
        stream: TcpStream,
        draining: &CancellationToken,
        dropped_idle: &AtomicUsize,
    ) -> Option<TlsStream<TcpStream>> {
        let handshake = async {
            match stream.peek(&mut [0]).await {
                Ok(0) | Err(_) => Ok(None),
                Ok(_) => {
                    let acceptor = TlsAcceptor::from(self.config.load_full());
                    acceptor.accept(stream).await.map(Some)
                }
            }
        };
        let shaken = silence::ends_in_time(handshake, self.timeout, draining, dropped_idle);
        // Behind a pointer, which is gone when the connection is served.
        let failures = &self.metrics.failures;
        let (failure, error) = match Box::pin(shaken).await {
            Some(Ok(stream)) => return stream,
            // rustls has sent its alert.
            Some(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                (&failures.protocol, Some(error))
            }
            Some(Err(error)) => (&failures.closed, Some(error)),
            None => (&failures.timeout, None),
        };
        failure.inc();
        tracing::debug!(
            error = error.map(tracing::field::display),
            "a TLS handshake failed"
        );
        None
    }

    fn take_up(&self, loaded: LoadedCertificate) {
        self.metrics.expiry.set(seconds(loaded.ends));
        self.metrics.renewed.inc();
        self.config.store(loaded.config);
    }
}

/// Looks for another certificate in the files of one listener, and takes it up.
#[derive(Debug)]
pub struct Renewal {
    /// The listener's key, such as `listeners[0]`.
    listener: String,
    tls: Arc<Tls>,
    files: ListenerTls,
    policy: FilePolicy,
    in_use: FilesDigest,
    /// What was refused last, so that it is told once.
    refused: Option<FilesDigest>,
    /// What could not be used at the last look, and how many looks in a row have found it.
    doubtful: Option<(FilesDigest, u32)>,
}

impl Renewal {
    /// For a listener that begins with this certificate.
    pub fn new(
        listener: String,
        tls: Arc<Tls>,
        files: ListenerTls,
        policy: FilePolicy,
        loaded: &LoadedCertificate,
    ) -> Self {
        Self {
            listener,
            tls,
            files,
            policy,
            in_use: loaded.digest,
            refused: None,
            doubtful: None,
        }
    }

    /// Looks once; blocks.
    ///
    /// A pair that can be used is taken up at once. One that cannot is refused when some looks have
    /// found it unchanged, and the old one stays in use: certificate and key may be written one after
    /// the other, and in between they do not belong together. What was refused is judged again at
    /// every look, since a certificate that is not valid yet will be.
    pub fn look(&mut self) {
        self.look_at(SystemTime::now());
    }

    fn look_at(&mut self, now: SystemTime) {
        let files = CertificateFiles::read(&self.files, self.policy);
        let digest = files.digest();
        let looks = match self.doubtful.take() {
            Some((doubtful, looks)) if doubtful == digest => looks + 1,
            _ => 1,
        };
        if digest == self.in_use {
            self.refused = None;
            return;
        }
        match files.judge().and_then(|loaded| loaded.judge_time(now)) {
            Ok(loaded) => {
                self.in_use = digest;
                self.refused = None;
                self.take_up(loaded);
            }
            Err(_) if self.refused == Some(digest) => {}
            Err(errors) if looks < looks_before_refusal(&errors) => {
                self.doubtful = Some((digest, looks));
            }
            Err(errors) => {
                self.refused = Some(digest);
                self.refuse(&errors);
            }
        }
    }

    fn take_up(&self, loaded: LoadedCertificate) {
        let listener = &self.listener;
        for (key, warning) in &loaded.warnings {
            tracing::warn!("{listener}.{key}: {warning}");
        }
        tracing::info!(
            %listener,
            expires = %humantime::format_rfc3339_seconds(loaded.ends),
            "took up a renewed certificate"
        );
        self.tls.take_up(loaded);
    }

    fn refuse(&self, errors: &[CertificateError]) {
        self.tls.metrics.refused.inc();
        for error in errors {
            let key = format!("{}.{}", self.listener, error.key());
            let cause = std::error::Error::source(error).map(tracing::field::display);
            tracing::error!(
                key,
                reason = %error,
                cause,
                "a changed certificate was refused; the old one stays in use"
            );
        }
    }
}

fn looks_before_refusal(errors: &[CertificateError]) -> u32 {
    let is_half = |error| matches!(error, &CertificateError::Mismatch);
    match errors.iter().any(is_half) {
        true => LOOKS_FOR_A_PAIR,
        false => LOOKS,
    }
}

/// Since 1970; as good as never for what lies beyond.
fn seconds(time: SystemTime) -> i64 {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(seconds.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
