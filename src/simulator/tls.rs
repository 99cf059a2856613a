//! Where do the simulator's certificates come from? They are made at start and die with it.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

use super::SimulatorError;

/// The names that every certificate of a simulator holds.
const USUAL_SANS: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// What TLS needs: the side that accepts, and the authority that peers must trust.
pub(super) struct Tls {
    pub(super) acceptor: TlsAcceptor,
    pub(super) ca_pem: String,
}

/// Makes an authority and one certificate by it; the authority's key is dropped right after.
///
/// The certificates name no realistic end of validity: the authority can sign nothing any more,
/// and a simulator that expires in a long test run would be one fault too many.
///
/// # Errors
/// An extra name is no DNS name, or the TLS library refuses what was made.
pub(super) fn build(extra_sans: &[String]) -> Result<Tls, SimulatorError> {
    let (ca_pem, chain, key) =
        make_certificates(extra_sans).map_err(SimulatorError::Certificate)?;

    // The provider is named: a process-wide default is not the simulator's to set or to trust.
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(SimulatorError::Tls)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(SimulatorError::Tls)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];

    Ok(Tls {
        acceptor: TlsAcceptor::from(Arc::new(config)),
        ca_pem,
    })
}

/// The authority as PEM, the server's chain and the server's key.
type Certificates = (
    String,
    Vec<rustls::pki_types::CertificateDer<'static>>,
    PrivateKeyDer<'static>,
);

fn make_certificates(extra_sans: &[String]) -> Result<Certificates, rcgen::Error> {
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.distinguished_name = named("moden-gateway simulator CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_key = KeyPair::generate()?;
    let ca_pem = ca.self_signed(&ca_key)?.pem();

    let sans = USUAL_SANS
        .map(str::to_owned)
        .into_iter()
        .chain(extra_sans.iter().cloned());
    let mut server = CertificateParams::new(sans.collect::<Vec<_>>())?;
    server.distinguished_name = named("moden-gateway simulator");
    server.is_ca = IsCa::ExplicitNoCa;
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.use_authority_key_identifier_extension = true;
    let server_key = KeyPair::generate()?;
    let certificate = server.signed_by(&server_key, &Issuer::new(ca, ca_key))?;

    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(server_key.serialize_der()));
    Ok((ca_pem, vec![certificate.der().clone()], key))
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}
