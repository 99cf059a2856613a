//! The control thread, which is the main thread: its runtime, and the signals it ends at.

use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::Failure;

/// Runs the control thread's work on this thread.
///
/// What is still being read when it is over (a secret from a command or a mount that hangs) is not
/// waited for: it has no part in the result and could hold up the end.
pub(crate) fn on_control_thread<T>(
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the control runtime")
        .map_err(|error| Failure::internal(&error))?;
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    result
}

/// How close SIGTERM and SIGINT have to come to be one wish: Ctrl-C reaches a gateway directly and, as
/// SIGTERM, by the program that started it.
const TOGETHER: Duration = Duration::from_secs(1);

/// The signals that tell the program to end: SIGTERM and SIGINT, from now on.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Ignored; `None` where SIGHUP ends the program, as is usual.
    hangup: Option<Signal>,
    /// The last one that counted, and when it came.
    last: Option<(SignalKind, Instant)>,
}

impl Signals {
    pub(crate) fn listen() -> Result<Self, Failure> {
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: None,
            last: None,
        })
    }

    /// As [`Self::listen`], and SIGHUP no longer ends the program: who sends it wants a reload, or has
    /// closed a terminal, and neither is a reason to break off a payment.
    pub(crate) fn listen_past_hangups() -> Result<Self, Failure> {
        let hangup = Some(listen(SignalKind::hangup())?);
        Ok(Self {
            hangup,
            ..Self::listen()?
        })
    }

    /// Ends at the next of them that counts: not one of the other kind within [`TOGETHER`].
    pub(crate) async fn next(&mut self) {
        loop {
            let kind = tokio::select! {
                _ = self.terminate.recv() => SignalKind::terminate(),
                _ = self.interrupt.recv() => SignalKind::interrupt(),
                () = recv(&mut self.hangup) => {
                    tracing::warn!(
                        "SIGHUP is ignored: reload is not built; restart to take up a changed \
                         configuration"
                    );
                    continue;
                }
            };
            let is_echo = self
                .last
                .is_some_and(|(last, came)| last != kind && came.elapsed() < TOGETHER);
            if !is_echo {
                self.last = Some((kind, Instant::now()));
                return;
            }
        }
    }
}

fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind)
        .context("failed to listen for signals")
        .map_err(|error| Failure::internal(&error))
}

/// Ends at the next signal; never without one to listen for.
async fn recv(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}
