//! A socket that listens: bound by us or passed by systemd, TCP or Unix.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};

use super::listener::BindError;
use super::socket_file::SocketFile;
use crate::config::ListenAddress;
use crate::systemd::PassedSocket;

/// Connections that the kernel holds for us until they are accepted; capped by its own
/// `net.core.somaxconn`.
pub(super) const BACKLOG: u32 = 4096;

#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A socket's queue, emptied without waiting for more.
#[derive(Debug)]
pub(super) enum Waiting {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

/// An accepted socket that belongs to no runtime yet, and the other end's address.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(std::net::TcpStream, SocketAddr),
    Unix(std::os::unix::net::UnixStream),
}

/// One that belongs to the runtime of a core.
#[derive(Debug)]
pub(super) enum AdoptedStream {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

impl Stream {
    /// The other end's address; `None` on a Unix socket.
    pub(super) fn peer_address(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(_, peer) => Some(peer.ip()),
            Self::Unix(_) => None,
        }
    }

    /// Closes it with a reset, so that nothing of it stays behind; a Unix socket has none.
    pub(super) fn reset(self) {
        if let Self::Tcp(stream, _) = self {
            let _ = sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
        }
    }

    /// Gives it to the current runtime.
    pub(super) fn adopt(self) -> io::Result<AdoptedStream> {
        Ok(match self {
            Self::Tcp(stream, peer) => AdoptedStream::Tcp(TcpStream::from_std(stream)?, peer),
            Self::Unix(stream) => AdoptedStream::Unix(UnixStream::from_std(stream)?),
        })
    }
}

impl AdoptedStream {
    /// Whether there is something to read, be it the end; reads nothing.
    pub(super) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream, _peer) => stream.poll_read_ready(context),
            Self::Unix(stream) => stream.poll_read_ready(context),
        }
    }
}

impl Socket {
    pub(super) fn bind_tcp(address: SocketAddr) -> io::Result<(Self, ListenAddress)> {
        let listener = listen_tcp(address)?;
        let bound = listener.local_addr()?;
        Ok((Self::Tcp(listener), ListenAddress::Tcp(bound)))
    }

    pub(super) fn bind_unix(path: &Path) -> io::Result<(Self, ListenAddress)> {
        remove_leftover(path)?;
        let listener = UnixListener::bind(path)?;
        Ok((Self::Unix(listener), ListenAddress::Unix(path.into())))
    }

    pub(super) fn adopt(socket: PassedSocket) -> Result<(Self, ListenAddress), BindError> {
        match socket {
            PassedSocket::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                let address = ListenAddress::Tcp(listener.local_addr()?);
                Ok((Self::Tcp(TcpListener::from_std(listener)?), address))
            }
            PassedSocket::Unix(listener) => {
                listener.set_nonblocking(true)?;
                let address = listener.local_addr()?;
                // A socket without a path has an abstract name; what it is, is systemd's affair.
                let path = address.as_pathname().unwrap_or(Path::new("(abstract)"));
                let address = ListenAddress::Unix(path.into());
                Ok((Self::Unix(UnixListener::from_std(listener)?), address))
            }
            PassedSocket::Other => Err(BindError::NoListener),
        }
    }

    /// Takes the next connection out of this runtime's hands, for a core to adopt.
    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok(Stream::Tcp(stream.into_std()?, peer))
            }
            Self::Unix(listener) => {
                let (stream, _unnamed) = listener.accept().await?;
                Ok(Stream::Unix(stream.into_std()?))
            }
        }
    }

    /// What the kernel has completed and nobody has accepted yet; it is closed behind that.
    pub(super) fn close(self) -> io::Result<Waiting> {
        Ok(match self {
            Self::Tcp(listener) => Waiting::Tcp(listener.into_std()?),
            Self::Unix(listener) => Waiting::Unix(listener.into_std()?),
        })
    }
}

impl Iterator for Waiting {
    type Item = Stream;

    fn next(&mut self) -> Option<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().ok()?;
                stream.set_nonblocking(true).ok()?;
                Some(Stream::Tcp(stream, peer))
            }
            Self::Unix(listener) => {
                let (stream, _unnamed) = listener.accept().ok()?;
                stream.set_nonblocking(true).ok()?;
                Some(Stream::Unix(stream))
            }
        }
    }
}

/// Binds an address and listens, with a long queue; wants a tokio runtime.
///
/// # Errors
/// When the address is taken or not allowed.
pub fn listen_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A restart must not wait for connections of the last process to time out.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Removes a socket file that nobody listens on; anything else in its place is left alone, and
/// makes the bind fail.
fn remove_leftover(path: &Path) -> io::Result<()> {
    match SocketFile::look(path) {
        Ok(SocketFile::LeftOver) => std::fs::remove_file(path),
        _ => Ok(()),
    }
}
