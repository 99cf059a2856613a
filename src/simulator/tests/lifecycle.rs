//! TLS, start and stop.

use std::io;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::client::Client;
use super::*;

async fn connect_tls(
    simulator: &Simulator,
    name: &'static str,
) -> anyhow::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    let pem = simulator.ca_pem().expect("TLS is on");
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes())?)?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = TcpStream::connect(simulator.address()).await?;
    let connector = TlsConnector::from(Arc::new(config));
    Ok(connector
        .connect(ServerName::try_from(name)?, stream)
        .await?)
}

async fn start_tls(extra_sans: Vec<String>) -> Result<Simulator, SimulatorError> {
    let options = SimulatorOptions {
        tls: true,
        extra_sans,
        ..SimulatorOptions::default()
    };
    Simulator::start(options).await
}

#[tokio::test]
async fn speaks_tls_under_its_loopback_names_and_those_added() -> TestResult {
    let simulator = start_tls(vec!["simulator".to_owned()]).await?;
    for name in ["localhost", "127.0.0.1", "::1", "simulator"] {
        let stream = connect_tls(&simulator, name).await?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!(
            Client::over(stream).ask(submit(name, None)).await?.status,
            200
        );
    }
    assert!(connect_tls(&simulator, "api.modenpay.io").await.is_err());
    Ok(())
}

#[tokio::test]
async fn does_the_same_violence_to_a_tls_connection() -> TestResult {
    let simulator = start_tls(Vec::new()).await?;

    let mut lost = Client::over(connect_tls(&simulator, "localhost").await?);
    lost.send(submit("A-1", Some("lost-after-commit"))).await?;
    assert_eq!(lost.rest().await?.0, b"");
    assert_eq!(committed(&simulator, "A-1"), 1);

    let mut during = Client::over(connect_tls(&simulator, "localhost").await?);
    during.send(submit("A-2", Some("reset-during"))).await?;
    let (content, end) = during.rest().await?;
    assert!(content.starts_with(b"HTTP/1.1 200 OK\r\n"));
    assert!(is_reset(&end), "{end:?}");

    let mut after = Client::over(connect_tls(&simulator, "localhost").await?);
    after.send(submit("A-3", Some("reset-after"))).await?;
    assert_eq!(after.answer().await?.json()?["status"], "success");
    assert!(is_reset(&after.rest().await?.1));
    Ok(())
}

#[tokio::test]
async fn names_the_base_url_of_each_environment() -> TestResult {
    let plain = start().await?;
    let port = plain.address().port();
    let sandbox = plain.base_url(Environment::Sandbox);
    assert_eq!(sandbox, format!("http://127.0.0.1:{port}/pay/sandbox"));
    let tls = start_tls(Vec::new()).await?;
    let production = tls.base_url(Environment::Production);
    assert_eq!(
        production,
        format!("https://127.0.0.1:{}/pay", tls.address().port())
    );
    assert_eq!(
        reachable(([0, 0, 0, 0], 80).into()),
        ([127, 0, 0, 1], 80).into()
    );
    Ok(())
}

#[tokio::test]
async fn stops_listening_and_closes_what_is_open() -> TestResult {
    let simulator = start().await?;
    let address = simulator.address();
    let mut client = connect(&simulator).await?;
    client.ask(submit("A-1", None)).await?;
    client.send(submit("A-2", Some("delay=1h"))).await?;
    recorded(&simulator, 2).await?;
    simulator.stop().await;
    assert_eq!(client.rest().await?.0, b"");
    let refused = TcpStream::connect(address).await;
    assert_eq!(
        refused.map_err(|error| error.kind()).err(),
        Some(io::ErrorKind::ConnectionRefused)
    );
    Ok(())
}

#[tokio::test]
async fn says_why_it_cannot_start() -> TestResult {
    let running = start().await?;
    let options = |address, app_id: &str, secret: &str, san: &str| SimulatorOptions {
        address,
        app_id: app_id.to_owned(),
        secret: secret.into(),
        tls: true,
        extra_sans: vec![san.to_owned()],
        ..SimulatorOptions::default()
    };
    let free = SimulatorOptions::default().address;
    let taken = Simulator::start(options(running.address(), "a", "s", "x"))
        .await
        .err();
    assert!(matches!(taken, Some(SimulatorError::Bind { .. })));
    let colon = Simulator::start(options(free, "a:b", "s", "x")).await.err();
    assert!(matches!(colon, Some(SimulatorError::AppIdInvalid)));
    let empty = Simulator::start(options(free, "a", "", "x")).await.err();
    assert!(matches!(empty, Some(SimulatorError::SecretInvalid)));
    let no_name = Simulator::start(options(free, "a", "s", "ä")).await.err();
    assert!(matches!(no_name, Some(SimulatorError::Certificate(_))));
    Ok(())
}

#[test]
fn prints_its_options_without_the_secret() {
    let options = SimulatorOptions {
        secret: "marker-4711".into(),
        ..SimulatorOptions::default()
    };
    assert!(!format!("{options:?}").contains("marker"));
}
