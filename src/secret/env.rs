//! A secret from an environment variable; the one place in this room that reads the environment.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use zeroize::Zeroizing;

use super::SecretError;

/// Reads the variable.
///
/// # Errors
/// When it is not set.
pub(super) fn load(name: &str) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let value = variable(name).ok_or(SecretError::VariableUnset)?;
    Ok(Zeroizing::new(value.into_vec()))
}

/// The value of a variable, if it is set; any bytes.
#[expect(clippy::disallowed_methods, reason = "this room reads the environment")]
pub(super) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// Whether a text can be a variable's name as POSIX writes them for programs: `[A-Z_][A-Z0-9_]*`.
///
/// # Source
/// POSIX.1-2017, Base Definitions, section 8.1.
pub(super) fn is_variable_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name
            .chars()
            .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}
