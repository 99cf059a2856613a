//! The way to MODEN: the name, TCP, TLS, and the certificates that it shows.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode;

use super::report::{Check, Finding, Report, Status};
use crate::telemetry::metrics::UpstreamMetrics;
use crate::upstream::{Failure, Handshake, Origin, Probe};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A certificate that ends sooner has not been renewed when others would have been.
const WARN_BELOW: Duration = Duration::from_secs(21 * 24 * 60 * 60);

/// A certificate that ends sooner may end before somebody has acted.
const FAIL_BELOW: Duration = Duration::from_secs(3 * 24 * 60 * 60);

/// Walks the way as far as it goes; whether it goes to its end.
pub(super) async fn examine(
    origin: &Arc<Origin>,
    metrics: &Arc<UpstreamMetrics>,
    report: &mut Report,
) -> bool {
    let probe = Probe::new(Arc::clone(origin), Arc::clone(metrics));
    match walk(&probe, report).await {
        Ok(()) => true,
        Err((check, failure)) => {
            let finding = Finding::bad(check, Status::Fail, failure.to_string(), advice(&failure));
            report.extend([finding]);
            false
        }
    }
}

/// Adds a finding for each step that succeeds; the check of the one that does not.
async fn walk(probe: &Probe, report: &mut Report) -> Result<(), (Check, Failure)> {
    let began = Instant::now();
    let addresses = probe
        .resolve()
        .await
        .map_err(|failure| (Check::Dns, failure))?;
    let listed: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let (host, listed) = (probe.host(), listed.join(", "));
    let seen = if host == listed {
        format!("{host} is an address and needs no name server")
    } else {
        format!("{host} is {listed}, after {}", since(began))
    };
    report.extend([Finding::ok(Check::Dns, seen)]);

    let began = Instant::now();
    let tcp = probe.connect(&addresses).await;
    let tcp = tcp.map_err(|failure| (Check::Connection, failure))?;
    let peer = tcp.peer_addr();
    let peer = peer.map_or_else(|_| "a connection".to_owned(), |peer| peer.to_string());
    let seen = format!("{peer}, after {}", since(began));
    report.extend([Finding::ok(Check::Connection, seen)]);

    let began = Instant::now();
    let handshake = probe.shake_hands(tcp).await;
    match handshake.map_err(|failure| (Check::Tls, failure))? {
        None => {
            let reason = "the base URL is http://, which only a simulator on this machine has";
            report.extend([Check::Tls, Check::Certificate].map(|c| Finding::skipped(c, reason)));
        }
        Some(Handshake {
            version,
            cipher,
            certificates,
        }) => {
            let seen = format!("{version}, {cipher}, verified, after {}", since(began));
            report.extend([Finding::ok(Check::Tls, seen)]);
            let now = SystemTime::now();
            report.extend(certificates.iter().map(|der| certificate(der, now)));
        }
    }
    Ok(())
}

/// Judges how long a certificate is still good.
fn certificate(der: &CertificateDer<'_>, now: SystemTime) -> Finding {
    let Ok(certificate) = Certificate::from_der(der) else {
        let seen = "it was verified, but its dates cannot be read";
        return Finding::bad(Check::Certificate, Status::Warn, seen, None);
    };
    let content = certificate.tbs_certificate();
    let end = content.validity().not_after.to_system_time();
    let left = end.duration_since(now).unwrap_or_default();
    let subject: String = content
        .subject()
        .to_string()
        .chars()
        .filter(|character| !character.is_control())
        .collect();
    let days = left.as_secs() / DAY.as_secs();
    let end = humantime::format_rfc3339_seconds(end);
    let seen = format!("{subject}: expires in {days} days, {end}");
    let status = if left < FAIL_BELOW {
        Status::Fail
    } else if left < WARN_BELOW {
        Status::Warn
    } else {
        return Finding::ok(Check::Certificate, seen);
    };
    let advice = "only MODEN, or who runs the proxy in between, can renew it: tell them; from its \
                  end on nothing is sent";
    Finding::bad(Check::Certificate, status, seen, advice)
}

/// What an operator can do about a step that failed.
fn advice(failure: &Failure) -> &'static str {
    match failure {
        Failure::Dns(_) => {
            "check the name (base_url, upstream.proxy), /etc/resolv.conf and /etc/hosts"
        }
        Failure::ConnectTimeout => {
            "check name servers, firewall and routes, or whether an egress proxy (upstream.proxy) \
             is needed"
        }
        Failure::Refused | Failure::Unreachable(_) => {
            "check the address, firewall and routes, or whether an egress proxy (upstream.proxy) \
             is needed"
        }
        Failure::Tunnel(_) => "check whether upstream.proxy allows CONNECT to MODEN",
        Failure::Certificate(_) => {
            "check upstream.roots and upstream.ca_file, this machine's clock, and who answers at \
             this address; nothing is sent meanwhile"
        }
        Failure::Tls(_) => {
            "check who answers at this address, and whether it speaks TLS 1.2 or 1.3"
        }
        _ => "see the table of errors in README.md",
    }
}

fn since(began: Instant) -> String {
    format!("{} ms", began.elapsed().as_millis())
}
