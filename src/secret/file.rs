//! A secret from a file: Docker and Kubernetes mounts, or a file of the operator's.

use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use zeroize::Zeroizing;

use super::{FilePolicy, READ_LIMIT_BYTES, SecretError};

/// Reads the file and judges who else can.
///
/// # Errors
/// When it cannot be read, is no regular file, or is readable by others and `policy` refuses.
pub(super) fn load(
    path: &Path,
    policy: FilePolicy,
    warnings: &mut Vec<String>,
) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let (file, metadata) = open(path)?;
    if is_readable_by_others(&metadata) {
        let mode = metadata.mode() & 0o7777;
        let refusal = SecretError::ReadableByOthers { mode };
        match policy {
            FilePolicy::Refuse => return Err(refusal),
            FilePolicy::Warn => warnings.push(refusal.to_string()),
        }
    }
    read(file)
}

/// Reads the file and leaves the judgement of its permissions to whoever put it there.
///
/// # Errors
/// When it cannot be read, or is no regular file.
pub(super) fn load_trusted(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let (file, _) = open(path)?;
    read(file)
}

/// Opens a regular file; anything else is refused before it is opened, since opening a pipe
/// waits for its other end.
fn open(path: &Path) -> Result<(File, Metadata), SecretError> {
    let metadata = fs::metadata(path).map_err(SecretError::FileUnreadable)?;
    if !metadata.is_file() {
        return Err(SecretError::NotAFile);
    }
    let file = File::open(path).map_err(SecretError::FileUnreadable)?;
    // Asked again of the open file: the path may have been swapped in between.
    let metadata = file.metadata().map_err(SecretError::FileUnreadable)?;
    if !metadata.is_file() {
        return Err(SecretError::NotAFile);
    }
    Ok((file, metadata))
}

/// Reads into one buffer of full size: a growing one would leave copies behind that nobody wipes.
fn read(file: File) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(READ_LIMIT_BYTES));
    file.take(READ_LIMIT_BYTES as u64 - 1)
        .read_to_end(&mut bytes)
        .map_err(SecretError::FileUnreadable)?;
    Ok(bytes)
}

/// Whether accounts that do not share a group with this process can read the file.
///
/// A group that the process belongs to is fine: that is how Kubernetes' `fsGroup` shares a mount.
fn is_readable_by_others(metadata: &Metadata) -> bool {
    let readable_by_all = metadata.mode() & 0o004 != 0;
    let readable_by_group = metadata.mode() & 0o040 != 0;
    readable_by_all || (readable_by_group && !is_own_group(metadata.gid()))
}

fn is_own_group(group: u32) -> bool {
    rustix::process::getegid().as_raw() == group
        || rustix::process::getgroups()
            .is_ok_and(|groups| groups.iter().any(|own| own.as_raw() == group))
}
