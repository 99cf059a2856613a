//! The file of a Unix socket: does anybody listen behind it?

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// What stands where a Unix socket shall be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketFile {
    /// Nothing.
    Absent,
    /// The socket of a process that is gone.
    LeftOver,
    /// The socket of a process that listens.
    InUse,
}

impl SocketFile {
    /// Looks at a path, by connecting to it; never waits.
    ///
    /// An owner that is stuck with a full queue counts as listening: the connect that would wait
    /// for it is not made.
    ///
    /// # Errors
    /// When something else stands there, or nobody may look.
    ///
    /// # Source
    /// unix(7), connect(2): a non-blocking connect to a full queue fails with `EAGAIN`.
    pub fn look(path: &Path) -> io::Result<Self> {
        let address = SocketAddrUnix::new(path)?;
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        match rustix::net::connect(&socket, &address) {
            Ok(()) | Err(Errno::AGAIN) => Ok(Self::InUse),
            Err(Errno::CONNREFUSED) if is_socket(path) => Ok(Self::LeftOver),
            Err(Errno::NOENT) => Ok(Self::Absent),
            Err(error) => Err(error.into()),
        }
    }
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn tells_an_owner_that_listens_from_one_that_is_gone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("gateway.sock");
        let look = || SocketFile::look(&path).expect("it can be looked at");
        assert_eq!(look(), SocketFile::Absent);
        let owner = UnixListener::bind(&path).expect("a socket");
        assert_eq!(look(), SocketFile::InUse);
        drop(owner);
        assert_eq!(look(), SocketFile::LeftOver);
    }

    #[test]
    fn an_owner_with_a_full_queue_listens_still() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("gateway.sock");
        let owner = UnixListener::bind(&path).expect("a socket");
        rustix::net::listen(&owner, 0).expect("a short queue");
        for _ in 0..4 {
            assert_eq!(SocketFile::look(&path).ok(), Some(SocketFile::InUse));
        }
    }

    #[test]
    fn anything_else_is_no_socket_to_replace() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        assert!(SocketFile::look(file.path()).is_err());
    }
}
