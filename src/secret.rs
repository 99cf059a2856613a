//! Where a secret may come from, and the type that keeps it from being seen.
//!
//! For: [`Secret`], whose bytes cannot be printed, [`Source`], the place that the configuration
//! names, and [`TokenDigest`], all that is known of a token that others present. Never does: decide
//! when a secret is read again, or what it is used for. Called by: `config`, which only names
//! places, `app`, which loads from them, `credentials`, which builds the header, and `admin`, which
//! compares tokens. Start reading at [`Source::load`].
//!
//! ```text
//! file | env | systemd | command  ->  verbatim bytes  ->  check_text  ->  Secret
//! ```
//!
//! Everything here blocks. It runs at start and at rotation, never in a request's way.

use std::borrow::Cow;
use std::fmt;
use std::hint::black_box;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::{ExposeSecret, SecretSlice};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

mod command;
mod digest;
mod env;
mod file;
mod systemd;

pub use digest::TokenDigest;

/// The longest secret that is accepted, in bytes: 64 KiB, far above any real one, so that a
/// wrong path (a log file, a device) cannot fill the memory.
pub const MAX_SECRET_BYTES: usize = 64 * 1024;

/// How many bytes a source is asked for at most: enough to tell a secret of the longest length
/// and its final newline from one that is too long.
const READ_LIMIT_BYTES: usize = MAX_SECRET_BYTES + 3;

/// Bytes that nobody may see: not printable, not serializable, compared in constant time, wiped
/// on drop.
pub struct Secret(SecretSlice<u8>);

impl Secret {
    /// Takes over the bytes as they are, without a check; the buffer that they came in is wiped.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = Zeroizing::new(bytes.into());
        // A copy of exact length: shrinking the vector in place could leave its old memory behind.
        Self(SecretSlice::new(Box::from(bytes.as_slice())))
    }
}

impl ExposeSecret<[u8]> for Secret {
    /// The bytes themselves, for the one place that builds the `Basic` header.
    fn expose_secret(&self) -> &[u8] {
        self.0.expose_secret()
    }
}

impl PartialEq for Secret {
    /// Compares in a time that depends on the lengths only, not on where the bytes differ.
    fn eq(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.0.expose_secret(), other.0.expose_secret());
        let difference = ours
            .iter()
            .zip(theirs)
            .fold(0, |difference, (a, b)| black_box(difference | (a ^ b)));
        ours.len() == theirs.len() && difference == 0
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret([hidden])")
    }
}

/// Where a secret comes from; the configuration names the place and never holds the secret.
///
/// Written in TOML as a table of exactly one key, such as `{ file = "/run/secrets/moden-secret" }`.
/// A new kind of source is a new variant here and a new file beside `secret/file.rs`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A file, read anew at each rotation; symlinks are followed, as Kubernetes needs it.
    File(PathBuf),
    /// An environment variable, named in upper case.
    Env(String),
    /// A systemd credential: a file of this name in `$CREDENTIALS_DIRECTORY`.
    ///
    /// # Source
    /// systemd.exec(5), "Credentials".
    Credential(String),
    /// A program and its arguments, run without a shell; what it writes to stdout is the secret.
    Command(Vec<String>),
}

impl Source {
    /// Reads the secret now; blocks, at most ten seconds for a command.
    ///
    /// # Errors
    /// When the place cannot be read, `policy` forbids it, or what it holds is no secret. The
    /// caller refuses to start, or keeps the secret that it has.
    pub fn load(&self, policy: FilePolicy) -> Result<LoadedSecret, SecretError> {
        let mut warnings = Vec::new();
        let bytes = match self {
            Self::File(path) => file::load(path, policy, &mut warnings)?,
            Self::Env(name) => env::load(name)?,
            Self::Credential(name) => systemd::load(name)?,
            Self::Command(arguments) => command::load(arguments, command::DEADLINE)?,
        };
        Ok(LoadedSecret {
            secret: Secret::new(check_text(&bytes)?),
            warnings,
        })
    }

    /// The mode of a folder in which other accounts could put a file of theirs in the secret's
    /// place; `None` where there is no such folder, or the source is no file of the operator's.
    ///
    /// # Errors
    /// When the file or its folder cannot be looked at.
    pub fn open_folder_mode(&self) -> io::Result<Option<u32>> {
        match self {
            Self::File(path) => file::open_folder_mode(path),
            Self::Env(_) | Self::Credential(_) | Self::Command(_) => Ok(None),
        }
    }

    /// Judges the place's name alone, without looking there.
    ///
    /// It is strict, because the likeliest slip is to write the secret where its place should
    /// stand; a text that is no possible place is refused before any message could show it.
    ///
    /// # Errors
    /// What the name should have been, as "expected …".
    pub fn check(&self) -> Result<(), ImpossibleSource> {
        let (possible, expected) = match self {
            // A slash alone would not do: base64 has slashes, too.
            Self::File(path) => (
                ["/", "./", "../"].iter().any(|start| {
                    path.as_os_str()
                        .as_encoded_bytes()
                        .starts_with(start.as_bytes())
                }),
                "a file path that begins with /, ./ or ../",
            ),
            Self::Env(name) => (
                env::is_variable_name(name),
                "an environment variable's name, made of A-Z, 0-9 and _",
            ),
            Self::Credential(name) => (
                systemd::is_credential_name(name),
                "a systemd credential's name, without slashes",
            ),
            Self::Command(arguments) => (
                command::program(arguments).is_some(),
                "a program (an absolute path, or a name to look up in PATH) and its arguments",
            ),
        };
        possible.then_some(()).ok_or(ImpossibleSource(expected))
    }
}

impl Source {
    /// What kind of place it is, as the configuration writes it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Env(_) => "env",
            Self::Credential(_) => "credential",
            Self::Command(_) => "command",
        }
    }
}

impl fmt::Display for Source {
    /// Names the place; of a command only the program, since arguments may be confidential.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(formatter, "file {}", path.display()),
            Self::Env(name) => write!(formatter, "environment variable {name}"),
            Self::Credential(name) => write!(formatter, "systemd credential {name}"),
            Self::Command(arguments) => {
                let program = arguments.first().map_or("", String::as_str);
                write!(formatter, "command {program}")
            }
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Source({self})")
    }
}

impl JsonSchema for Source {
    fn schema_name() -> Cow<'static, str> {
        "Source".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Where the secret comes from: exactly one of the four.",
            "type": "object",
            "properties": {
                "file": { "type": "string", "description": "Path of a file." },
                "env": { "type": "string", "description": "Name of an environment variable." },
                "credential": { "type": "string", "description": "Name of a systemd credential." },
                "command": {
                    "type": "array",
                    "items": { "type": "string" },
                    "description": "Program and arguments; its stdout is the secret."
                }
            },
            "additionalProperties": false,
            "minProperties": 1,
            "maxProperties": 1,
            "x-expected": "a table with exactly one key that says where the value comes from: \
                { file = … }, { env = … }, { credential = … } or { command = … }; \
                the value itself never stands in the configuration"
        })
    }
}

/// Reads a file that is a secret as it is, such as a private key in PEM form; blocks.
///
/// # Errors
/// As [`Source::load`] for a file; of the text only the length is judged.
pub fn load_file(path: &Path, policy: FilePolicy) -> Result<LoadedSecret, SecretError> {
    let mut warnings = Vec::new();
    let bytes = file::load(path, policy, &mut warnings)?;
    if bytes.len() > MAX_SECRET_BYTES {
        return Err(TextFault::TooLong.into());
    }
    Ok(LoadedSecret {
        secret: Secret::new(bytes.as_slice()),
        warnings,
    })
}

/// What is done with a secret file that other accounts of the machine can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilePolicy {
    /// It is read, and a warning comes with it; for the sandbox.
    Warn,
    /// It is refused; for production.
    Refuse,
}

/// A secret together with what the operator should know about its place.
#[derive(Debug)]
pub struct LoadedSecret {
    /// The secret; of a source, its final newline dropped.
    pub secret: Secret,
    /// Sentences for the log, without the key; they tell neither the place nor the secret.
    pub warnings: Vec<String>,
}

/// A source whose name cannot be right; says what was expected, never what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}")]
pub struct ImpossibleSource(&'static str);

/// Why no secret could be taken from a source.
///
/// It tells neither what the place holds nor the place: where somebody wrote the secret itself in
/// its stead, that would be the secret. Whoever passes it on names the configuration key.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file is not there, or may not be read.
    #[error("the secret file could not be read")]
    FileUnreadable(#[source] io::Error),
    /// A folder, a pipe, a device or a socket stands where a file should.
    #[error("the secret file is not a regular file")]
    NotAFile,
    /// Accounts that are none of this process's business can read the file.
    #[error(
        "the secret file is readable by others (mode {mode:04o}); take that away, for example \
         with chmod 0400"
    )]
    ReadableByOthers {
        /// Its permission bits.
        mode: u32,
    },
    /// The environment variable is not set.
    #[error("the environment variable is not set")]
    VariableUnset,
    /// systemd passed no credentials to this process.
    #[error("the systemd credential is not there: CREDENTIALS_DIRECTORY is not set")]
    NoCredentials,
    /// The command could not be started, or its output could not be read.
    #[error("the secret command could not be run")]
    CommandNotRun(#[source] io::Error),
    /// The command said that it failed.
    #[error("the secret command failed ({status})")]
    CommandFailed {
        /// Exit code or signal.
        status: std::process::ExitStatus,
    },
    /// The command did not end in time and was killed.
    #[error("the secret command did not end within {} s and was killed", deadline.as_secs())]
    CommandTimedOut {
        /// How long it was given.
        deadline: Duration,
    },
    /// The source's name cannot be right.
    #[error(transparent)]
    Impossible(#[from] ImpossibleSource),
    /// The place was read, but what it holds is no secret.
    #[error("what was read {0}")]
    Unusable(#[from] TextFault),
}

/// What makes bytes unfit to be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextFault {
    /// Nothing is left once the final newline is dropped.
    #[error("is empty")]
    Empty,
    /// More than [`MAX_SECRET_BYTES`].
    #[error("is longer than {MAX_SECRET_BYTES} bytes")]
    TooLong,
    /// Bytes that are no text.
    #[error("is not UTF-8")]
    NotUtf8,
    /// A newline inside, a NUL, an escape: nothing that RFC 7617 lets into a credential.
    #[error("holds a control character")]
    ControlCharacter,
}

/// Drops one final newline (`\n` or `\r\n`) and judges the rest.
///
/// # Source
/// RFC 7617 section 2: user-id and password must not hold control characters.
fn check_text(bytes: &[u8]) -> Result<&str, TextFault> {
    let bytes = bytes
        .strip_suffix(b"\n")
        .map_or(bytes, |line| line.strip_suffix(b"\r").unwrap_or(line));
    if bytes.len() > MAX_SECRET_BYTES {
        return Err(TextFault::TooLong);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| TextFault::NotUtf8)?;
    if text.is_empty() {
        return Err(TextFault::Empty);
    }
    if text.chars().any(char::is_control) {
        return Err(TextFault::ControlCharacter);
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
