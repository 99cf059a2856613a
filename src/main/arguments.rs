//! The arguments as clap reads them; what they ask for is done elsewhere.
//!
//! The comments of commands and arguments are what `--help` says.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use http::Method;

use moden_gateway::config::LoadOptions;

use super::failure::EXIT_CODES;

const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("MODEN_GATEWAY_COMMIT"),
    ")"
);

/// The one process in a merchant's network that knows the MODEN payment secret.
///
/// Services call http://gateway/pay/<endpoint> without a credential; the gateway adds it, forwards
/// to MODEN's sandbox or production, and says with every reply what became of the request.
#[derive(Debug, Parser)]
#[command(name = "moden-gateway", version = VERSION, after_long_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the gateway until SIGTERM or SIGINT.
    Run(ConfigArguments),
    /// Check the configuration and the credential; report all faults at once.
    Check(ConfigArguments),
    /// Look at everything that a payment needs, up to MODEN's answer to a check of the balance.
    Doctor(DoctorArguments),
    /// Say what would happen to a request, without sending it.
    Explain(ExplainArguments),
    /// Run a simulator of MODEN and a gateway in front of it; nothing to configure.
    Demo(DemoArguments),
    /// Run the simulator of MODEN alone.
    Simulate(SimulateArguments),
    /// Wait until a gateway is ready: serving, with a credential, not draining.
    WaitReady(WaitReadyArguments),
    /// Have a running gateway forward nothing from now on; what runs already finishes.
    ///
    /// Requests are answered 503 `paused`, outcome not-sent. `resume` ends it, and so does a restart.
    Pause(SwitchArguments),
    /// Have a paused gateway forward again.
    Resume(SwitchArguments),
    /// Print the JSON Schema of the configuration.
    Schema,
    /// Print shell completions.
    Completions {
        /// The shell to print them for.
        shell: Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArguments {
    /// A configuration file, or a folder with base.toml and <environment>.toml; the later wins.
    ///
    /// Without it: ./config if it is there, else /etc/moden-gateway.
    #[arg(long, value_name = "PATH")]
    config: Vec<PathBuf>,
    /// The environment to serve: sandbox or production.
    #[arg(long, value_name = "NAME")]
    environment: Option<String>,
}

impl ConfigArguments {
    pub(crate) fn options(self) -> LoadOptions {
        LoadOptions::from_process(self.config, self.environment)
    }
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArguments,
    /// In production, ask MODEN for the balance, too; that changes nothing there.
    #[arg(long)]
    pub(crate) production: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArguments,
    /// The request's method, such as POST; letter case counts.
    pub(crate) method: Method,
    /// Its target, such as /pay/gateway or http://gateway/pay/gateway?a=b.
    pub(crate) path: String,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArguments {
    /// Where the demo's gateway listens.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(crate) address: SocketAddr,
    /// Where the demo's admin listener listens.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9090")]
    pub(crate) admin_address: SocketAddr,
}

#[derive(Debug, Args)]
pub(crate) struct SimulateArguments {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081")]
    pub(crate) address: SocketAddr,
    /// The APP ID to accept.
    #[arg(long, value_name = "ID", default_value = "demo-app")]
    pub(crate) app_id: String,
    /// The secret to accept; for tests only, as other accounts can see arguments.
    #[arg(
        long,
        value_name = "SECRET",
        default_value = "demo-secret",
        requires = "app_id"
    )]
    pub(crate) secret: String,
    /// Read the secret to accept from this file; one final newline is dropped.
    #[arg(long, value_name = "PATH", conflicts_with = "secret")]
    pub(crate) secret_file: Option<PathBuf>,
    /// Serve TLS with a certificate made at start.
    #[arg(long)]
    pub(crate) tls: bool,
    /// A DNS name or address for the certificate beside the loopback ones; may be repeated.
    #[arg(long, value_name = "NAME", requires = "tls")]
    pub(crate) tls_name: Vec<String>,
    /// Write the certificate authority of --tls to this file, whole or not at all.
    #[arg(long, value_name = "PATH", requires = "tls")]
    pub(crate) ca_out: Option<PathBuf>,
    /// A host beside the loopback ones under which /simulator/… answers; may be repeated.
    #[arg(long, value_name = "NAME")]
    pub(crate) control_host: Vec<String>,
}

/// Which running gateway is meant.
#[derive(Debug, Args)]
pub(crate) struct GatewayArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArguments,
    /// The address of its admin listener; without it, the configuration's admin.address.
    #[arg(long, value_name = "ADDR")]
    pub(crate) admin: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct WaitReadyArguments {
    #[command(flatten)]
    pub(crate) gateway: GatewayArguments,
    /// How long to wait before giving up with exit code 69.
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "30s",
        value_parser = humantime::parse_duration
    )]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct SwitchArguments {
    #[command(flatten)]
    pub(crate) gateway: GatewayArguments,
    /// A file with the token that admin.token_sha256 is of; - reads it from stdin.
    ///
    /// Never an argument itself, as other accounts can see arguments.
    #[arg(long, value_name = "PATH")]
    pub(crate) token_file: Option<PathBuf>,
}
