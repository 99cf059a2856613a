//! A secret from systemd's `LoadCredential=` or `SetCredentialEncrypted=`.
//!
//! # Source
//! systemd.exec(5), "Credentials".

use std::path::Path;

use zeroize::Zeroizing;

use super::{ImpossibleSource, SecretError, env, file};

/// Reads the credential that the service manager passed under this name.
///
/// Its permissions are not judged: the folder is made for this service alone, and the access list
/// on its files shows as a group permission that it is not.
///
/// # Errors
/// When no credentials were passed, or not this one.
pub(super) fn load(name: &str) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let folder = env::variable("CREDENTIALS_DIRECTORY").ok_or(SecretError::NoCredentials)?;
    load_from(Path::new(&folder), name)
}

/// As [`load`], from a folder given by the caller.
pub(super) fn load_from(folder: &Path, name: &str) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    if !is_credential_name(name) {
        return Err(ImpossibleSource("a systemd credential's name, without slashes").into());
    }
    file::load_trusted(&folder.join(name))
}

/// Whether a text can name a file directly in the credentials folder.
pub(super) fn is_credential_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0'])
}
