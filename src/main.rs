//! The command line: arguments, a subcommand, an exit code; the only place that prints.
//!
//! Start reading at [`main()`]. What a subcommand needs beside the library stands in `main/`.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser};
use clap_complete::Shell;
use serde::Serialize;

use moden_gateway::app::{self, App, Demo, DrainReport};
use moden_gateway::config::{self, Loaded, LogConfig};
use moden_gateway::domain::Environment;
use moden_gateway::systemd::PassedSockets;
use moden_gateway::telemetry::log;
use moden_gateway::{doctor, explain};

use self::main::arguments::{
    Arguments, Command, ConfigArguments, DemoArguments, DoctorArguments, ExplainArguments,
    SimulateArguments,
};
use self::main::control_thread::{Signals, on_control_thread};
use self::main::failure::{CONFIGURATION, Failure, INTERNAL, UNAVAILABLE, USAGE};
use self::main::{running, simulate};

/// Gives memory back after a rush, which the C library's keeps; `.cargo/config.toml` sets it up.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The room's furniture: declared in here, its files are found in `main/`, beside this one.
mod main {
    pub(super) mod arguments;
    pub(super) mod control_thread;
    pub(super) mod failure;
    pub(super) mod running;
    pub(super) mod simulate;
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
    match execute(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(text) = failure.text {
                let _ = writeln!(io::stderr(), "{text}");
            }
            ExitCode::from(failure.code)
        }
    }
}

fn execute(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(arguments) => run(arguments)?,
        Command::Check(arguments) => check(arguments)?,
        Command::Doctor(arguments) => doctor(arguments)?,
        Command::Explain(arguments) => explain(arguments)?,
        Command::Demo(arguments) => demo(&arguments)?,
        Command::Simulate(arguments) => simulate(arguments)?,
        Command::WaitReady(arguments) => print_line(running::wait_ready(arguments)?),
        Command::Pause(arguments) => print_line(running::pause(arguments)?),
        Command::Resume(arguments) => print_line(running::resume(arguments)?),
        Command::Schema => print_line(format_args!("{:#}", config::schema())),
        Command::Completions { shell } => print_line(completions(shell).trim_end()),
    }
    Ok(())
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
        let mut signals = Signals::listen_past_hangups()?;
        let app = tokio::select! {
            app = App::bind(config, passed) => app.map_err(|error| Failure::start(&error))?,
            () = signals.next() => {
                tracing::info!("told to end before the start was over");
                return Ok(());
            }
        };
        for address in app.addresses() {
            tracing::info!(%address, "listening");
        }
        let address = app
            .admin_address()
            .map_err(|error| Failure::internal(&error.into()))?;
        tracing::info!(%address, "admin listening");
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

fn doctor(arguments: DoctorArguments) -> Result<(), Failure> {
    on_control_thread(async {
        let report = doctor::examine(&arguments.config.options(), arguments.production).await;
        print_report(&report, arguments.json);
        match report.status() {
            _ if report.is_configuration_faulty() => Err(Failure::silent(CONFIGURATION)),
            doctor::Status::Fail => Err(Failure::silent(UNAVAILABLE)),
            _ => Ok(()),
        }
    })
}

fn explain(arguments: ExplainArguments) -> Result<(), Failure> {
    let Loaded { config, .. } = config::load(&arguments.config.options())?;
    let report = explain::explain(&config, &arguments.method, &arguments.path);
    print_report(&report, arguments.json);
    Ok(())
}

fn demo(arguments: &DemoArguments) -> Result<(), Failure> {
    let _log = log::start(&LogConfig::default(), config::rust_log().as_deref());
    on_control_thread(async {
        let mut signals = Signals::listen()?;
        let demo = Demo::bind(arguments.address, arguments.admin_address)
            .await
            .map_err(|error| Failure::unavailable(&error))?;
        print_line(
            demo.greeting()
                .map_err(|error| Failure::internal(&error.into()))?,
        );
        finish(demo.run_until(async || signals.next().await).await)
    })
}

fn simulate(mut arguments: SimulateArguments) -> Result<(), Failure> {
    let ca_out = arguments.ca_out.take();
    let options = simulate::options(arguments)?;
    on_control_thread(async {
        let mut signals = Signals::listen()?;
        let simulator = simulate::start(options, ca_out.as_deref()).await?;
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

fn finish(report: DrainReport) -> Result<(), Failure> {
    if report.is_clean() {
        return Ok(());
    }
    // Not printed: a reader of stderr that has stalled must not hold up the end.
    Err(Failure::silent(INTERNAL))
}

fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    let mut command = Arguments::command();
    clap_complete::generate(shell, &mut command, "moden-gateway", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

fn print_report(report: &(impl Display + Serialize), json: bool) {
    if json {
        let report = serde_json::to_value(report).expect("a report is plain data");
        print_line(format_args!("{report:#}"));
    } else {
        print_line(report);
    }
}

/// Prints a line; a reader that has gone away is no fault of ours.
fn print_line(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}
