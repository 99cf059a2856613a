//! A secret from a file: Docker and Kubernetes mounts, or a file of the operator's.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
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

/// The mode of a folder in which others could put another file in this one's place, if there is one.
///
/// Looks at the folder of the path as given and, where that is a symlink, at the folder of the file
/// itself. A sticky folder does not count: in it only the owner of a file can replace it, and
/// Kubernetes mounts secrets in such folders.
///
/// # Errors
/// When the file or a folder cannot be looked at.
pub(super) fn open_folder_mode(path: &Path) -> io::Result<Option<u32>> {
    let file = path.canonicalize()?;
    for folder in [path.parent(), file.parent()].into_iter().flatten() {
        let metadata = fs::metadata(folder)?;
        let is_sticky = metadata.mode() & 0o1000 != 0;
        if !is_sticky && is_allowed_to_others(&metadata, 0o2) {
            return Ok(Some(metadata.mode() & 0o7777));
        }
    }
    Ok(None)
}

fn is_readable_by_others(metadata: &Metadata) -> bool {
    is_allowed_to_others(metadata, 0o4)
}

/// Whether accounts that do not share a group with this process have this permission, a bit of the
/// mode's last digit.
///
/// A group that the process belongs to is fine: that is how Kubernetes' `fsGroup` shares a mount.
fn is_allowed_to_others(metadata: &Metadata, permission: u32) -> bool {
    let allowed_to_all = metadata.mode() & permission != 0;
    let allowed_to_group = metadata.mode() & (permission << 3) != 0;
    allowed_to_all || (allowed_to_group && !is_own_group(metadata.gid()))
}

fn is_own_group(group: u32) -> bool {
    rustix::process::getegid().as_raw() == group
        || rustix::process::getgroups()
            .is_ok_and(|groups| groups.iter().any(|own| own.as_raw() == group))
}
