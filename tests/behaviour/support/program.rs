//! The real binary as a process of its own, and the shell beside it.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long the program may take for anything that is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// The program while it runs; dropping it kills it.
pub(crate) struct Program {
    child: Child,
    /// Empty if somebody else has the other end; so is `stderr`.
    pub(crate) stdout: Lines,
    pub(crate) stderr: Lines,
}

/// How the program ended, and what it has printed since nobody looked.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) fn start(arguments: &[&str], variables: &[(String, String)]) -> Program {
    start_in(Path::new("/"), arguments, variables)
}

/// A sandbox at `base_url` on free ports, with the simulator's credential from commands.
pub(crate) fn running_configuration(base_url: &str) -> String {
    format!(
        "environment = \"sandbox\"\n[server]\nthreads = 1\n\
         [[listeners]]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
         [environments.sandbox]\nbase_url = \"{base_url}\"\n\
         app_id = {{ command = [\"printf\", \"demo-app\"] }}\n\
         secret = {{ command = [\"/bin/sh\", \"-c\", \"echo demo-secret\"] }}\n"
    )
}

/// Starts the program with these variables and no others but PATH.
pub(crate) fn start_in(
    folder: &Path,
    arguments: &[&str],
    variables: &[(String, String)],
) -> Program {
    start_with(folder, arguments, variables, Stdio::piped(), Stdio::piped())
}

/// As [`start_in`], with outputs of the caller's.
pub(crate) fn start_with(
    folder: &Path,
    arguments: &[&str],
    variables: &[(String, String)],
    stdout: impl Into<Stdio>,
    stderr: impl Into<Stdio>,
) -> Program {
    let mut child = Command::new(env!("CARGO_BIN_EXE_moden-gateway"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("PATH", path())
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .expect("the program was built for this test");
    Program {
        stdout: child.stdout.take().map_or_else(Lines::none, Lines::of),
        stderr: child.stderr.take().map_or_else(Lines::none, Lines::of),
        child,
    }
}

/// As [`start_with`], by a shell that runs `script`; in it `"$@"` is the program and its arguments.
pub(crate) fn start_by_shell(
    script: &str,
    folder: &Path,
    arguments: &[&str],
    stdin: impl Into<Stdio>,
    stdout: impl Into<Stdio>,
) -> Program {
    let mut child = Command::new("sh")
        .args(["-c", script, "sh", env!("CARGO_BIN_EXE_moden-gateway")])
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("PATH", path())
        .stdin(stdin)
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .expect("there is a shell");
    Program {
        stdout: child.stdout.take().map_or_else(Lines::none, Lines::of),
        stderr: child.stderr.take().map_or_else(Lines::none, Lines::of),
        child,
    }
}

impl Program {
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it still runs");
    }

    /// Waits this long for its end, whatever becomes of its outputs; `None` while it runs.
    pub(crate) fn end_within(&mut self, patience: Duration) -> Option<ExitStatus> {
        let give_up = Instant::now() + patience;
        loop {
            let ended = self.child.try_wait().expect("it was started here");
            if ended.is_some() || Instant::now() >= give_up {
                return ended;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ended {
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
pub(crate) struct Lines(Receiver<String>);

impl Lines {
    fn of(output: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            lines.for_each(|line| drop(sender.send(line)));
        });
        Self(receiver)
    }

    fn none() -> Self {
        Self(mpsc::channel().1)
    }

    /// The next line that holds a text.
    pub(crate) fn until(&mut self, text: &str) -> String {
        self.up_to(text).pop().expect("the line was found")
    }

    /// All lines up to and with the one that holds a text.
    pub(crate) fn up_to(&mut self, text: &str) -> Vec<String> {
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
pub(crate) fn curl(line: &str) -> String {
    let output = sh(line);
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).expect("a reply in UTF-8")
}

pub(crate) fn sh(line: &str) -> Output {
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
