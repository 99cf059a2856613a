//! The demo: simulator and gateway in one process, nothing to configure, nothing left behind.

use std::net::SocketAddr;

use anyhow::Context;
use tempfile::TempDir;

use super::{App, DrainReport};
use crate::config::{self, ListenAddress, LoadOptions};
use crate::domain::Environment;
use crate::simulator::{DEMO_APP_ID, DEMO_SECRET, Simulator, SimulatorOptions, reachable};
use crate::systemd::PassedSockets;

/// A gateway in front of a simulator of its own, both bound and ready to run.
#[derive(Debug)]
pub struct Demo {
    app: App,
    /// Stands in for MODEN, with TLS.
    simulator: Simulator,
    /// Holds the secret files and the certificate; gone with the demo.
    _folder: TempDir,
}

impl Demo {
    /// Starts the simulator and binds a gateway for its sandbox at the two addresses.
    ///
    /// The gateway is configured as an operator would do it: by a file, with the secrets in files
    /// of their own and the simulator's certificate authority as `upstream.ca_file`. An address
    /// that other machines can reach is served, too: there is nothing of value behind it, and in a
    /// container no other is of use.
    ///
    /// # Errors
    /// When an address is taken, or the temporary folder cannot be written.
    pub async fn bind(listener: SocketAddr, admin: SocketAddr) -> anyhow::Result<Self> {
        let folder = temporary_folder().context("failed to make a temporary folder")?;
        let options = SimulatorOptions {
            tls: true,
            ..SimulatorOptions::default()
        };
        let simulator = Simulator::start(options)
            .await
            .context("failed to start the simulator")?;

        let file = |name: &str, content: &str| -> anyhow::Result<String> {
            let path = folder.path().join(name);
            write_private(&path, content)
                .with_context(|| format!("failed to write {}", path.display()))?;
            path.to_str()
                .map(str::to_owned)
                .context("the temporary folder's name is not UTF-8")
        };
        let authority = simulator
            .ca_pem()
            .context("the simulator has no certificate")?;
        let configuration = format!(
            "environment = \"sandbox\"\n\
             [[listeners]]\n\
             address = \"{listener}\"\n\
             allow_anonymous = true\n\
             [admin]\n\
             address = \"{admin}\"\n\
             [environments.sandbox]\n\
             base_url = \"{base_url}\"\n\
             app_id = {{ file = {app_id:?} }}\n\
             secret = {{ file = {secret:?} }}\n\
             [upstream]\n\
             ca_file = {ca_file:?}\n",
            base_url = simulator.base_url(Environment::Sandbox),
            app_id = file("app-id", DEMO_APP_ID)?,
            secret = file("secret", DEMO_SECRET)?,
            ca_file = file("ca.pem", authority)?,
        );
        let path = file("demo.toml", &configuration)?;
        let options = LoadOptions {
            paths: vec![path.into()],
            ..LoadOptions::default()
        };
        let loaded = config::load(&options).context("failed to configure the demo")?;
        let app = App::bind(loaded.config, PassedSockets::none()).await?;
        Ok(Self {
            app,
            simulator,
            _folder: folder,
        })
    }

    /// What to tell somebody who has just started it: where things are, and lines to try.
    ///
    /// # Errors
    /// When the kernel no longer knows the admin address.
    pub fn greeting(&self) -> std::io::Result<String> {
        let addresses = self.app.addresses();
        let gateway = addresses.first().map(callable).unwrap_or_default();
        let admin = reachable(self.app.admin_address()?);
        let simulator = self.simulator.base_url(Environment::Sandbox);
        Ok(format!(
            r#"moden-gateway demo: nothing here talks to MODEN, and no money moves.

  gateway     http://{gateway}/pay/   (what services call, without a credential)
  admin       http://{admin}/   (a status page; also /readyz, /metrics)
  simulator   {simulator}   (stands in for MODEN, wants the credential)

Check the balance (200, Gateway-Outcome: answered):

  curl -i -X POST http://{gateway}/pay/inquire/wallet

Create a payment (200, Gateway-Outcome: answered):

  curl -i http://{gateway}/pay/gateway -H 'Content-Type: application/json' -d '{{"coin":"USDT","currency_code":"VND","amount":150000,"sn":"order-1","notify_url":"https://shop.example/notify","timestamp":1700000000}}'

Be refused by MODEN, since the amount is missing (412, Gateway-Outcome: answered):

  curl -i http://{gateway}/pay/gateway -H 'Content-Type: application/json' -d '{{"coin":"USDT","currency_code":"VND","sn":"order-2","notify_url":"https://shop.example/notify","timestamp":1700000000}}'

Lose MODEN's reply after it has acted (502, Gateway-Outcome: unknown):

  curl -i http://{gateway}/pay/gateway -H 'Simulator-Fault: lost-after-commit' -H 'Content-Type: application/json' -d '{{"coin":"USDT","currency_code":"VND","amount":150000,"sn":"order-3","notify_url":"https://shop.example/notify","timestamp":1700000000}}'

Ctrl-C ends it. Every request leaves one line of the access log below:
"#
        ))
    }

    /// Serves until told to end, then drains the gateway, as [`App::run_until`] does, and stops the
    /// simulator.
    pub async fn run_until(self, told_to_end: impl AsyncFnMut()) -> DrainReport {
        let report = self.app.run_until(told_to_end).await;
        self.simulator.stop().await;
        report
    }
}

/// A folder of the demo's own, gone with it.
///
/// An image of nothing but the program has no `/tmp`, and with a read-only root it could not be
/// written; containers have memory to share all the same.
fn temporary_folder() -> std::io::Result<TempDir> {
    const PREFIX: &str = "moden-gateway-demo-";
    TempDir::with_prefix(PREFIX)
        .or_else(|error| TempDir::with_prefix_in(PREFIX, "/dev/shm").map_err(|_| error))
}

/// The address to print for a listener: one that can be called.
fn callable(address: &ListenAddress) -> String {
    match address {
        ListenAddress::Tcp(address) => reachable(*address).to_string(),
        other => other.to_string(),
    }
}

/// Writes a file that only this account may read.
fn write_private(path: &std::path::Path, content: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(content.as_bytes())
}
