//! A secret from a program: a vault's client, a decryption tool.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use zeroize::Zeroizing;

use super::{ImpossibleSource, READ_LIMIT_BYTES, SecretError};

/// How long a command may take: ten seconds, ample for a vault behind a network, and short enough
/// that a hanging one is noticed at start.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);

/// What systemd says to this process alone; a program that is started takes it for its own.
const MEANT_FOR_US: [&str; 6] = [
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// How often a command that has closed its stdout is asked whether it has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The program that a command names, if it can be one: an absolute path, or a bare name that is
/// looked up in `PATH`. A relative path would depend on where the gateway was started.
pub(super) fn program(arguments: &[String]) -> Option<&str> {
    let program = arguments.first()?;
    let findable = program.starts_with('/') || !program.contains('/');
    let passable = arguments.iter().all(|argument| !argument.contains('\0'));
    (!program.is_empty() && findable && passable).then_some(program)
}

/// Runs the command without a shell and returns what it wrote to stdout.
///
/// Its stdin and stderr are closed off; what it prints in its distress may hold the secret. It
/// inherits the environment but for what systemd says to this process alone. It runs in a process group of its own, so that a kill reaches what it started, too.
///
/// # Errors
/// When it cannot be run, takes longer than `deadline`, or exits with anything but success.
pub(super) fn load(
    arguments: &[String],
    deadline: Duration,
) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let program = program(arguments).ok_or(ImpossibleSource("a program and its arguments"))?;
    let not_run = SecretError::CommandNotRun;
    let timed_out = || SecretError::CommandTimedOut { deadline };
    let ends_by = Instant::now() + deadline;

    let mut command = Command::new(program);
    for variable in MEANT_FOR_US {
        command.env_remove(variable);
    }
    let mut running = Running {
        child: command
            .args(arguments.iter().skip(1))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(not_run)?,
        is_reaped: false,
    };
    let stdout = running
        .child
        .stdout
        .take()
        .expect("stdout was asked for above");
    let output = read_until(stdout, ends_by)
        .map_err(not_run)?
        .ok_or_else(timed_out)?;
    let status = running
        .wait_until(ends_by)
        .map_err(not_run)?
        .ok_or_else(timed_out)?;
    if !status.success() {
        return Err(SecretError::CommandFailed { status });
    }
    Ok(output)
}

/// Reads in a thread of its own, since a read from a pipe has no deadline; `None` when time is up.
///
/// The thread ends with the pipe: when the command ends, is killed, or has written too much.
fn read_until(stdout: ChildStdout, ends_by: Instant) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new()
        .name("secret-command".into())
        .spawn(move || {
            let mut bytes = Zeroizing::new(Vec::with_capacity(READ_LIMIT_BYTES));
            let read = stdout
                .take(READ_LIMIT_BYTES as u64 - 1)
                .read_to_end(&mut bytes);
            // Nobody listens any more once time was up.
            let _ = sender.send(read.map(|_| bytes));
        })?;
    match receiver.recv_timeout(ends_by.saturating_duration_since(Instant::now())) {
        Ok(read) => read.map(Some),
        Err(RecvTimeoutError::Timeout) => Ok(None),
        Err(RecvTimeoutError::Disconnected) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// A started command; whichever way it is left, it is reaped, and what it started is killed.
struct Running {
    child: Child,
    is_reaped: bool,
}

impl Running {
    /// Waits for the end; `None` when time is up first.
    fn wait_until(&mut self, ends_by: Instant) -> io::Result<Option<ExitStatus>> {
        loop {
            let ended = self.child.try_wait()?;
            self.is_reaped = ended.is_some();
            if self.is_reaped || Instant::now() >= ends_by {
                return Ok(ended);
            }
            thread::sleep(POLL_INTERVAL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Once reaped, its number may be another group's.
        if !self.is_reaped {
            // The group is gone only if the command was its last member and has just ended.
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            // Fails only for a child that is reaped already.
            let _ = self.child.wait();
        }
    }
}
