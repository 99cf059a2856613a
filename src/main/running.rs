//! The commands to a gateway that runs already; each returns what there is to say of it.

use std::fs::File;
use std::io;
use std::path::Path;

use moden_gateway::admin::{AdminClient, BearerToken, Switched, TokenError};
use moden_gateway::config;

use super::arguments::{GatewayArguments, SwitchArguments, WaitReadyArguments};
use super::control_thread::on_control_thread;
use super::failure::Failure;

/// Waits until the gateway is ready, or for so long that it is not.
pub(crate) fn wait_ready(arguments: WaitReadyArguments) -> Result<&'static str, Failure> {
    let client = client(arguments.gateway)?;
    on_control_thread(async {
        client.wait_ready(arguments.timeout).await?;
        Ok("ready")
    })
}

/// Has the gateway forward nothing from now on.
pub(crate) fn pause(arguments: SwitchArguments) -> Result<String, Failure> {
    let token = token(arguments.token_file.as_deref())?;
    let client = client(arguments.gateway)?;
    on_control_thread(async {
        let switched = client.pause(token.as_ref()).await?;
        let already = if switched.changed { "" } else { " already" };
        Ok(format!(
            "paused{already}{}: requests are answered 503 paused and not sent, what runs \
             finishes; resume or a restart ends this",
            since(switched)
        ))
    })
}

/// Has a paused gateway forward again.
pub(crate) fn resume(arguments: SwitchArguments) -> Result<&'static str, Failure> {
    let token = token(arguments.token_file.as_deref())?;
    let client = client(arguments.gateway)?;
    on_control_thread(async {
        let switched = client.resume(token.as_ref()).await?;
        Ok(match switched.changed {
            true => "resumed: requests are forwarded again",
            false => "not paused: requests are forwarded, as before",
        })
    })
}

/// Reads the configuration only if that has to name the address.
fn client(arguments: GatewayArguments) -> Result<AdminClient, Failure> {
    let address = match arguments.admin {
        Some(address) => address,
        None => config::load_admin(&arguments.config.options())?.address,
    };
    if address.port() == 0 {
        let text = "the admin address has port 0, so that only the gateway's log knows the real \
                    one: give it with --admin";
        return Err(Failure::usage(text));
    }
    Ok(AdminClient::new(address))
}

/// Reads the token from its file, or from stdin where that is called `-`.
fn token(path: Option<&Path>) -> Result<Option<BearerToken>, Failure> {
    let Some(path) = path else {
        return Ok(None);
    };
    let token = match path.as_os_str() == "-" {
        true => BearerToken::read(io::stdin().lock()),
        false => File::open(path)
            .map_err(TokenError::Unreadable)
            .and_then(BearerToken::read),
    };
    Ok(Some(token?))
}

/// The beginning of a pause, as a part of a sentence.
fn since(switched: Switched) -> String {
    switched
        .paused_since
        .map(|since| format!(" since {}", humantime::format_rfc3339_seconds(since)))
        .unwrap_or_default()
}
