//! The control thread, which is the main thread: its runtime, and the signals it ends at.

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

/// The signals that tell the program to end: SIGTERM and SIGINT, from now on.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn listen() -> Result<Self, Failure> {
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
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
