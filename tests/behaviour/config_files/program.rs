//! The real binary as a process of its own, and the shell beside it.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long the program may take for anything that is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// The program while it runs; dropping it kills it.
pub(super) struct Program {
    child: Child,
    pub(super) stdout: Lines,
    pub(super) stderr: Lines,
}

/// How the program ended, and what it has printed since nobody looked.
pub(super) struct Ended {
    pub(super) code: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

pub(super) fn start(arguments: &[&str], variables: &[(String, String)]) -> Program {
    start_in(Path::new("/"), arguments, variables)
}

/// Starts the program with these variables and no others but PATH.
pub(super) fn start_in(
    folder: &Path,
    arguments: &[&str],
    variables: &[(String, String)],
) -> Program {
    let mut child = Command::new(env!("CARGO_BIN_EXE_moden-gateway"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("PATH", path())
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program was built for this test");
    Program {
        stdout: Lines::of(child.stdout.take().expect("it is piped")),
        stderr: Lines::of(child.stderr.take().expect("it is piped")),
        child,
    }
}

impl Program {
    pub(super) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it still runs");
    }

    /// Waits for its end.
    pub(super) fn end(mut self) -> Ended {
        let (stdout, stderr) = (self.stdout.rest(), self.stderr.rest());
        let status = self.child.wait().expect("it was started here");
        Ended {
            code: status.code().expect("no signal ends it"),
            stdout,
            stderr,
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the program prints, line by line.
pub(super) struct Lines(Receiver<String>);

impl Lines {
    fn of(output: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            lines.for_each(|line| drop(sender.send(line)));
        });
        Self(receiver)
    }

    /// The next line that holds a text.
    pub(super) fn until(&mut self, text: &str) -> String {
        self.up_to(text).pop().expect("the line was found")
    }

    /// All lines up to and with the one that holds a text.
    pub(super) fn up_to(&mut self, text: &str) -> Vec<String> {
        let give_up = Instant::now() + PATIENCE;
        let mut lines = Vec::new();
        while !lines
            .last()
            .is_some_and(|line: &String| line.contains(text))
        {
            match self
                .0
                .recv_timeout(give_up.saturating_duration_since(Instant::now()))
            {
                Ok(line) => lines.push(line),
                Err(error) => panic!("no {text}: {error}; instead:\n{}", lines.join("\n")),
            }
        }
        lines
    }

    /// All lines until the program closes its end.
    fn rest(&mut self) -> String {
        let give_up = Instant::now() + PATIENCE;
        let mut text = String::new();
        loop {
            match self
                .0
                .recv_timeout(give_up.saturating_duration_since(Instant::now()))
            {
                Ok(line) => text.extend([line.as_str(), "\n"]),
                Err(RecvTimeoutError::Disconnected) => return text,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end; instead:\n{text}"),
            }
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "commands are found as the test's own are"
)]
fn path() -> String {
    std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".into())
}

/// What curl prints; the line is run as somebody would who pastes it.
pub(super) fn curl(line: &str) -> String {
    let output = sh(line);
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).expect("a reply in UTF-8")
}

pub(super) fn sh(line: &str) -> Output {
    let output = Command::new("sh")
        .args(["-c", line])
        .env_clear()
        .env("PATH", path())
        .output()
        .expect("there is a shell");
    let is_there = output.status.code() != Some(127);
    assert!(
        is_there,
        "curl is needed here: apt-get install curl ca-certificates"
    );
    output
}
