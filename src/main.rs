//! The command line: arguments, a subcommand, an exit code; the only place that prints.

use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};
use http::{Method, StatusCode};
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};

use moden_gateway::admin::{AdminClient, BearerToken, ClientError, Switched, TokenError};
use moden_gateway::app::{self, App, BindError, Demo, OriginError};
use moden_gateway::config::{self, ConfigFaults, LoadOptions, Loaded, LogConfig};
use moden_gateway::domain::Environment;
use moden_gateway::simulator::{Simulator, SimulatorOptions, SimulatorSecret};
use moden_gateway::systemd::PassedSockets;
use moden_gateway::telemetry::log;
use moden_gateway::{doctor, explain};

/// Exit codes beside 0, after sysexits.h.
const USAGE: u8 = 64;
const UNAVAILABLE: u8 = 69;
const INTERNAL: u8 = 70;
const CONFIGURATION: u8 = 78;

/// The same for people, below `--help`.
const EXIT_CODES: &str = "Exit codes: 0 (also after a clean drain), 64 usage, 69 unavailable, \
                          70 internal, 78 configuration.";

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
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway until SIGTERM or SIGINT.
    Run(ConfigArguments),
    /// Check the configuration and the credential; report all faults at once.
    Check(ConfigArguments),
    /// Look at everything that a payment needs, up to MODEN's answer to a check of the balance.
    Doctor {
        #[command(flatten)]
        config: ConfigArguments,
        /// In production, ask MODEN for the balance, too; that changes nothing there.
        #[arg(long)]
        production: bool,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Say what would happen to a request, without sending it.
    Explain {
        #[command(flatten)]
        config: ConfigArguments,
        /// The request's method, such as POST; letter case counts.
        method: Method,
        /// Its target, such as /pay/gateway or http://gateway/pay/gateway?a=b.
        path: String,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Run a simulator of MODEN and a gateway in front of it; nothing to configure.
    Demo {
        /// Where the demo's gateway listens.
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
        address: SocketAddr,
        /// Where the demo's admin listener listens.
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9090")]
        admin_address: SocketAddr,
    },
    /// Run the simulator of MODEN alone.
    Simulate {
        /// Where to listen; port 0 takes a free one.
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081")]
        address: SocketAddr,
        /// The APP ID to accept.
        #[arg(long, value_name = "ID", default_value = "demo-app")]
        app_id: String,
        /// The secret to accept; for tests only, as other accounts can see arguments.
        #[arg(
            long,
            value_name = "SECRET",
            default_value = "demo-secret",
            requires = "app_id"
        )]
        secret: String,
        /// Read the secret to accept from this file; one final newline is dropped.
        #[arg(long, value_name = "PATH", conflicts_with = "secret")]
        secret_file: Option<PathBuf>,
        /// Serve TLS with a certificate made at start.
        #[arg(long)]
        tls: bool,
        /// A DNS name or address for the certificate beside the loopback ones; may be repeated.
        #[arg(long, value_name = "NAME", requires = "tls")]
        tls_name: Vec<String>,
        /// Write the certificate authority of --tls to this file, whole or not at all.
        #[arg(long, value_name = "PATH", requires = "tls")]
        ca_out: Option<PathBuf>,
        /// A host beside the loopback ones under which /simulator/… answers; may be repeated.
        #[arg(long, value_name = "NAME")]
        control_host: Vec<String>,
    },
    /// Wait until a gateway is ready: serving, with a credential, not draining.
    WaitReady {
        #[command(flatten)]
        gateway: GatewayArguments,
        /// How long to wait before giving up with exit code 69.
        #[arg(
            long,
            value_name = "DURATION",
            default_value = "30s",
            value_parser = humantime::parse_duration
        )]
        timeout: Duration,
    },
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
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, clap::Args)]
struct ConfigArguments {
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
    fn options(self) -> LoadOptions {
        LoadOptions::from_process(self.config, self.environment)
    }
}

/// Which running gateway is meant.
#[derive(Debug, clap::Args)]
struct GatewayArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// The address of its admin listener; without it, the configuration's admin.address.
    #[arg(long, value_name = "ADDR")]
    admin: Option<SocketAddr>,
}

impl GatewayArguments {
    /// Reads the configuration only if that has to name the address.
    fn client(self) -> Result<AdminClient, Failure> {
        let address = match self.admin {
            Some(address) => address,
            None => config::load_admin(&self.config.options())?.address,
        };
        if address.port() == 0 {
            let text = "the admin address has port 0, so that only the gateway's log knows the real \
                        one: give it with --admin";
            return Err(Failure::usage(text));
        }
        Ok(AdminClient::new(address))
    }
}

#[derive(Debug, clap::Args)]
struct SwitchArguments {
    #[command(flatten)]
    gateway: GatewayArguments,
    /// A file with the token that admin.token_sha256 is of; - reads it from stdin.
    ///
    /// Never an argument itself, as other accounts can see arguments.
    #[arg(long, value_name = "PATH")]
    token_file: Option<PathBuf>,
}

impl SwitchArguments {
    fn token(&self) -> Result<Option<BearerToken>, Failure> {
        let Some(path) = self.token_file.as_deref() else {
            return Ok(None);
        };
        let token = match path.as_os_str() == "-" {
            true => BearerToken::read(io::stdin().lock()),
            false => File::open(path)
                .map_err(TokenError::Unreadable)
                .and_then(BearerToken::read),
        };
        token.map(Some).map_err(|error| {
            let code = match error {
                TokenError::Unreadable(_) => UNAVAILABLE,
                TokenError::Empty | TokenError::TooLong | TokenError::NotVisible => USAGE,
            };
            let error = anyhow::Error::new(error).context("failed to use --token-file");
            Failure {
                text: Some(format!("{error:#}")),
                code,
            }
        })
    }
}

/// Why the program ends early: a text for stderr and an exit code.
struct Failure {
    /// Gone to the application log already where there is none.
    text: Option<String>,
    code: u8,
}

impl Failure {
    /// The gateway could not be started with a configuration that is well-formed.
    fn start(error: &anyhow::Error) -> Self {
        let bind_error = error.downcast_ref::<BindError>();
        let is_configuration = bind_error.is_some_and(BindError::is_configuration);
        let code = match error.is::<OriginError>() || is_configuration {
            true => CONFIGURATION,
            false => UNAVAILABLE,
        };
        Self {
            text: Some(format!("{error:#}")),
            code,
        }
    }

    /// The arguments are well-formed and cannot be what was meant.
    fn usage(text: &str) -> Self {
        Self {
            text: Some(text.to_owned()),
            code: USAGE,
        }
    }

    fn unavailable(error: &anyhow::Error) -> Self {
        Self {
            text: Some(format!("{error:#}")),
            code: UNAVAILABLE,
        }
    }

    fn internal(error: &anyhow::Error) -> Self {
        Self {
            text: Some(format!("{error:#}")),
            code: INTERNAL,
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let (code, advice) = match &error {
            ClientError::Refused {
                status: StatusCode::UNAUTHORIZED,
                ..
            } => (USAGE, "; give the right token with --token-file"),
            ClientError::Refused {
                status: StatusCode::FORBIDDEN,
                ..
            } => (CONFIGURATION, ""),
            _ => (UNAVAILABLE, ""),
        };
        let error = anyhow::Error::new(error);
        Self {
            text: Some(format!("{error:#}{advice}")),
            code,
        }
    }
}

impl From<ConfigFaults> for Failure {
    fn from(faults: ConfigFaults) -> Self {
        Self {
            text: Some(faults.to_string()),
            code: CONFIGURATION,
        }
    }
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version come this way too; only a real error goes to stderr.
            let code = if error.use_stderr() { USAGE } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let result = match arguments.command {
        Command::Run(arguments) => run(arguments),
        Command::Check(arguments) => check(arguments),
        Command::Doctor {
            config,
            production,
            json,
        } => doctor(config, production, json),
        Command::Explain {
            config,
            method,
            path,
            json,
        } => explain(config, &method, &path, json),
        Command::Demo {
            address,
            admin_address,
        } => demo(address, admin_address),
        Command::Simulate {
            address,
            app_id,
            secret,
            secret_file,
            tls,
            tls_name,
            ca_out,
            control_host,
        } => {
            let options = SimulatorOptions {
                address,
                app_id,
                secret: secret.into(),
                tls,
                extra_sans: tls_name,
                control_hosts: control_host,
                ..Default::default()
            };
            simulate(options, secret_file.as_deref(), ca_out.as_deref())
        }
        Command::WaitReady { gateway, timeout } => wait_ready(gateway, timeout),
        Command::Pause(arguments) => pause(arguments),
        Command::Resume(arguments) => resume(arguments),
        Command::Schema => {
            print_line(format_args!("{:#}", config::schema()));
            Ok(())
        }
        Command::Completions { shell } => {
            let name = "moden-gateway";
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), name, &mut script);
            print_line(String::from_utf8_lossy(&script).trim_end());
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(text) = failure.text {
                let _ = writeln!(io::stderr(), "{text}");
            }
            ExitCode::from(failure.code)
        }
    }
}

fn run(arguments: ConfigArguments) -> Result<(), Failure> {
    // First of all, while this is the only thread.
    let passed = PassedSockets::take()
        .context("failed to take the sockets that systemd passed (LISTEN_FDS)")
        .map_err(|error| Failure::unavailable(&error))?;
    let Loaded {
        config, warnings, ..
    } = config::load(&arguments.options())?;
    let _log = log::start(&config.log, config::rust_log().as_deref());
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    on_control_thread(async {
        let mut signals = Signals::listen()?;
        let app = App::bind(config, passed)
            .await
            .map_err(|error| Failure::start(&error))?;
        for address in app.addresses() {
            tracing::info!(%address, "listening");
        }
        finish(app.run_until(async || signals.next().await).await)
    })
}

fn check(arguments: ConfigArguments) -> Result<(), Failure> {
    let Loaded {
        config,
        warnings,
        files,
    } = app::check(&arguments.options())?;
    for file in files {
        print_line(format_args!("read {}", file.display()));
    }
    for warning in warnings {
        print_line(format_args!("warning: {warning}"));
    }
    print_line(format_args!(
        "ok: the configuration is valid for {}",
        config.environment
    ));
    Ok(())
}

fn doctor(arguments: ConfigArguments, production: bool, json: bool) -> Result<(), Failure> {
    on_control_thread(async {
        let report = doctor::examine(&arguments.options(), production).await;
        print_report(&report, json);
        let code = match report.status() {
            _ if report.is_configuration_faulty() => CONFIGURATION,
            doctor::Status::Fail => UNAVAILABLE,
            _ => return Ok(()),
        };
        Err(Failure { text: None, code })
    })
}

fn explain(
    arguments: ConfigArguments,
    method: &Method,
    target: &str,
    json: bool,
) -> Result<(), Failure> {
    let Loaded { config, .. } = config::load(&arguments.options())?;
    print_report(&explain::explain(&config, method, target), json);
    Ok(())
}

fn print_report(report: &(impl Display + Serialize), json: bool) {
    if json {
        let report = serde_json::to_value(report).expect("a report is plain data");
        print_line(format_args!("{report:#}"));
    } else {
        print_line(report);
    }
}

fn demo(address: SocketAddr, admin_address: SocketAddr) -> Result<(), Failure> {
    let _log = log::start(&LogConfig::default(), config::rust_log().as_deref());
    on_control_thread(async {
        let mut signals = Signals::listen()?;
        let demo = Demo::bind(address, admin_address)
            .await
            .map_err(|error| Failure::unavailable(&error))?;
        print_line(
            demo.greeting()
                .map_err(|error| Failure::internal(&error.into()))?,
        );
        finish(demo.run_until(async || signals.next().await).await)
    })
}

fn simulate(
    mut options: SimulatorOptions,
    secret_file: Option<&Path>,
    ca_out: Option<&Path>,
) -> Result<(), Failure> {
    if let Some(path) = secret_file {
        options.secret = SimulatorSecret::load(path)
            .with_context(|| format!("failed to read {}", path.display()))
            .map_err(|error| Failure::unavailable(&error))?;
    }
    on_control_thread(async {
        let mut signals = Signals::listen()?;
        let simulator = Simulator::start(options)
            .await
            .context("failed to start the simulator")
            .map_err(|error| Failure::unavailable(&error))?;
        if let (Some(path), Some(authority)) = (ca_out, simulator.ca_pem()) {
            write_whole(path, authority)
                .with_context(|| format!("failed to write {}", path.display()))
                .map_err(|error| Failure::unavailable(&error))?;
        }
        for environment in [Environment::Sandbox, Environment::Production] {
            let base_url = simulator.base_url(environment);
            print_line(format_args!(
                "simulating MODEN's {environment} at {base_url}"
            ));
        }
        signals.next().await;
        simulator.stop().await;
        Ok(())
    })
}

fn wait_ready(gateway: GatewayArguments, timeout: Duration) -> Result<(), Failure> {
    let client = gateway.client()?;
    on_control_thread(async {
        client.wait_ready(timeout).await?;
        print_line("ready");
        Ok(())
    })
}

fn pause(arguments: SwitchArguments) -> Result<(), Failure> {
    let token = arguments.token()?;
    let client = arguments.gateway.client()?;
    on_control_thread(async {
        let switched = client.pause(token.as_ref()).await?;
        let already = if switched.changed { "" } else { " already" };
        print_line(format_args!(
            "paused{already}{}: requests are answered 503 paused and not sent, what runs \
             finishes; resume or a restart ends this",
            since(switched)
        ));
        Ok(())
    })
}

fn resume(arguments: SwitchArguments) -> Result<(), Failure> {
    let token = arguments.token()?;
    let client = arguments.gateway.client()?;
    on_control_thread(async {
        let switched = client.resume(token.as_ref()).await?;
        print_line(match switched.changed {
            true => "resumed: requests are forwarded again",
            false => "not paused: requests are forwarded, as before",
        });
        Ok(())
    })
}

/// The beginning of a pause, as a part of a sentence.
fn since(switched: Switched) -> String {
    switched
        .paused_since
        .map(|since| format!(" since {}", humantime::format_rfc3339_seconds(since)))
        .unwrap_or_default()
}

/// Writes a file that others may read, in one step: who finds it under its name finds all of it.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    let mut unfinished = name.to_os_string();
    unfinished.push(".unfinished");
    let unfinished = path.with_file_name(unfinished);
    fs::write(&unfinished, text)?;
    fs::rename(unfinished, path)
}

/// Runs the control thread's work on this thread.
fn on_control_thread(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the control runtime")
        .map_err(|error| Failure::internal(&error))?;
    runtime.block_on(work)
}

/// The signals that tell the program to end: SIGTERM and SIGINT, from now on.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind)
                .context("failed to listen for signals")
                .map_err(|error| Failure::internal(&error))
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// Ends at the next of them.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn finish(report: app::DrainReport) -> Result<(), Failure> {
    if report.is_clean() {
        return Ok(());
    }
    // Not printed: a reader of stderr that has stalled must not hold up the end.
    Err(Failure {
        text: None,
        code: INTERNAL,
    })
}

/// Prints a line; a reader that has gone away is no fault of ours.
fn print_line(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}
