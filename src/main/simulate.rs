//! `simulate`: from its arguments to a simulator that runs.

use std::path::Path;
use std::{fs, io};

use anyhow::Context;

use moden_gateway::simulator::{Simulator, SimulatorOptions, SimulatorSecret};

use super::arguments::SimulateArguments;
use super::failure::Failure;

/// Reads the secret if a file has it.
pub(crate) fn options(arguments: SimulateArguments) -> Result<SimulatorOptions, Failure> {
    let secret = match arguments.secret_file {
        Some(path) => SimulatorSecret::load(&path)
            .with_context(|| format!("failed to read {}", path.display()))
            .map_err(|error| Failure::unavailable(&error))?,
        None => arguments.secret.into(),
    };
    Ok(SimulatorOptions {
        address: arguments.address,
        app_id: arguments.app_id,
        secret,
        tls: arguments.tls,
        extra_sans: arguments.tls_name,
        control_hosts: arguments.control_host,
        ..Default::default()
    })
}

/// Starts the simulator and writes its certificate authority to `ca_out`.
pub(crate) async fn start(
    options: SimulatorOptions,
    ca_out: Option<&Path>,
) -> Result<Simulator, Failure> {
    let simulator = Simulator::start(options)
        .await
        .context("failed to start the simulator")
        .map_err(|error| Failure::unavailable(&error))?;
    if let (Some(path), Some(authority)) = (ca_out, simulator.ca_pem()) {
        write_whole(path, authority)
            .with_context(|| format!("failed to write {}", path.display()))
            .map_err(|error| Failure::unavailable(&error))?;
    }
    Ok(simulator)
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
