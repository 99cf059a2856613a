//! `[access_log]`: one JSON line a request.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Expected;

/// Where the access log goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccessLogConfig {
    /// `stdout` (the default), `stderr`, `off`, or a file's path.
    pub output: LogOutput,
}

/// Where lines go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("x-expected" = "\"stdout\", \"stderr\", \"off\" or a file path"))]
pub enum LogOutput {
    /// The process's standard output.
    #[default]
    Stdout,
    /// The process's standard error.
    Stderr,
    /// A file, appended to; written with at least one slash, so that a misspelt word is no file.
    File(PathBuf),
    /// Nowhere.
    Off,
}

impl TryFrom<String> for LogOutput {
    type Error = Expected;

    fn try_from(text: String) -> Result<Self, Expected> {
        match text.as_str() {
            "stdout" => Ok(Self::Stdout),
            "stderr" => Ok(Self::Stderr),
            "off" => Ok(Self::Off),
            path if path.contains('/') && !path.ends_with('/') && !path.contains('\0') => {
                Ok(Self::File(path.into()))
            }
            _ => Err(Expected(
                "\"stdout\", \"stderr\", \"off\" or a file path with a slash in it, \
                 found another string",
            )),
        }
    }
}

impl From<LogOutput> for String {
    fn from(output: LogOutput) -> Self {
        match output {
            LogOutput::Stdout => "stdout".into(),
            LogOutput::Stderr => "stderr".into(),
            LogOutput::Off => "off".into(),
            LogOutput::File(path) => path.to_string_lossy().into_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_three_words_from_paths() {
        let parse = |text: &str| LogOutput::try_from(text.to_owned());
        assert_eq!(parse("stdout"), Ok(LogOutput::Stdout));
        assert_eq!(parse("stderr"), Ok(LogOutput::Stderr));
        assert_eq!(parse("off"), Ok(LogOutput::Off));
        assert_eq!(
            parse("/var/log/a"),
            Ok(LogOutput::File("/var/log/a".into()))
        );
        for text in ["", "stduot", "STDOUT", "none", "/var/log/", "/a\0b"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
