//! Sockets that listen, and what is known of a connection that came in by one.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::connection::{Service, serve_connection};
use crate::config::{ListenAddress, ListenerConfig};
use crate::telemetry::metrics::{Counted, ListenerMetrics};

/// Connections that the kernel holds for us until they are accepted; capped by its own
/// `net.core.somaxconn`.
const BACKLOG: u32 = 4096;

/// The pause after `accept` failed for lack of something, such as file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all connections of one listener have in common.
#[derive(Debug)]
pub struct ListenerInfo {
    /// The address as it is really bound, for log lines.
    pub name: String,
    /// `header_timeout`: a head must be complete this long after its first byte.
    pub header_timeout: Duration,
    /// `body_timeout`: a request body must be complete this long after its head.
    pub body_timeout: Duration,
    /// `idle_timeout`: a connection without a request ends after this long.
    pub idle_timeout: Duration,
    /// `max_header_bytes`: the largest head.
    pub max_header_bytes: usize,
    /// `max_body_bytes`: the longest request body.
    pub max_body_bytes: u64,
}

/// What is known of one connection.
#[derive(Debug)]
pub struct ConnectionInfo {
    /// The other end, as the access log shows it.
    pub peer: String,
    /// Its IP address; `None` on a Unix socket.
    pub peer_address: Option<IpAddr>,
    /// Where it came in.
    pub listener: Arc<ListenerInfo>,
}

/// A socket that accepts connections for all cores.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: ListenAddress,
    info: Arc<ListenerInfo>,
    connections: Arc<Semaphore>,
    metrics: ListenerMetrics,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// An accepted socket on its way to a core; it belongs to no runtime yet.
#[derive(Debug)]
pub struct Accepted {
    stream: Stream,
    listener: Arc<ListenerInfo>,
    _permit: Option<OwnedSemaphorePermit>,
    _counted: Counted,
}

#[derive(Debug)]
enum Stream {
    Tcp(std::net::TcpStream, SocketAddr),
    Unix(std::os::unix::net::UnixStream),
}

impl Listener {
    /// Binds the address and starts to listen; wants a tokio runtime.
    ///
    /// A Unix socket that is left over from a process that no longer listens is replaced.
    ///
    /// # Errors
    /// When the address is taken or not allowed.
    pub fn bind(config: &ListenerConfig, metrics: ListenerMetrics) -> io::Result<Self> {
        let (socket, address) = Socket::open(&config.address)?;
        let info = ListenerInfo {
            name: address.to_string(),
            header_timeout: config.header_timeout,
            body_timeout: config.body_timeout,
            idle_timeout: config.idle_timeout,
            max_header_bytes: config.max_header_bytes,
            max_body_bytes: config.max_body_bytes,
        };
        let connections = Arc::new(Semaphore::new(config.max_connections));
        Ok(Self {
            socket,
            address,
            info: Arc::new(info),
            connections,
            metrics,
        })
    }

    /// The address as bound: with the real port where port 0 was asked for.
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// Accepts connections and gives each to `deliver`, until `draining` is cancelled; then it
    /// takes what the kernel has already completed and closes the socket.
    ///
    /// At `max_connections` it stops accepting until one ends; clients wait in the backlog.
    pub async fn accept_until(self, draining: CancellationToken, deliver: impl Fn(Accepted)) {
        let Self {
            socket,
            address,
            info,
            connections,
            metrics,
        } = self;
        let deliver = |stream, permit| {
            metrics.accepted.inc();
            deliver(Accepted {
                stream,
                listener: Arc::clone(&info),
                _permit: permit,
                _counted: Counted::new(&metrics.connections),
            });
        };
        let accept = async || {
            let permit = Arc::clone(&connections).acquire_owned().await;
            let permit = permit.expect("the semaphore is never closed");
            socket.accept().await.map(|stream| (stream, permit))
        };
        loop {
            tokio::select! {
                biased;
                () = draining.cancelled() => break,
                accepted = accept() => match accepted {
                    Ok((stream, permit)) => deliver(stream, Some(permit)),
                    Err(error) => {
                        metrics.accept_failures.inc();
                        tracing::warn!(
                            listener = %address, error = %error, "failed to accept a connection"
                        );
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        if let ListenAddress::Unix(path) = &address {
            // Before the socket is closed, so that it cannot be a successor's file.
            let _ = std::fs::remove_file(path);
        }
        for stream in socket.close() {
            // Beyond `max_connections` as well: the kernel has promised them a server.
            deliver(stream, Arc::clone(&connections).try_acquire_owned().ok());
        }
    }
}

impl Socket {
    fn open(address: &ListenAddress) -> io::Result<(Self, ListenAddress)> {
        match address {
            ListenAddress::Tcp(address) => {
                let socket = match address {
                    SocketAddr::V4(_) => TcpSocket::new_v4()?,
                    SocketAddr::V6(_) => TcpSocket::new_v6()?,
                };
                // A restart must not wait for connections of the last process to time out.
                socket.set_reuseaddr(true)?;
                socket.bind(*address)?;
                let listener = socket.listen(BACKLOG)?;
                let bound = listener.local_addr()?;
                Ok((Self::Tcp(listener), ListenAddress::Tcp(bound)))
            }
            ListenAddress::Unix(path) => {
                remove_leftover(path)?;
                Ok((
                    Self::Unix(UnixListener::bind(path)?),
                    ListenAddress::Unix(path.clone()),
                ))
            }
        }
    }

    /// Takes the next connection out of this runtime's hands, for a core to adopt.
    async fn accept(&self) -> io::Result<Stream> {
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

    /// What the kernel has completed and nobody has accepted yet; closes the socket behind it.
    fn close(self) -> Vec<Stream> {
        let mut waiting = Vec::new();
        match self {
            Self::Tcp(listener) => {
                let Ok(listener) = listener.into_std() else {
                    return waiting;
                };
                while let Ok((stream, peer)) = listener.accept() {
                    if stream.set_nonblocking(true).is_ok() {
                        waiting.push(Stream::Tcp(stream, peer));
                    }
                }
            }
            Self::Unix(listener) => {
                let Ok(listener) = listener.into_std() else {
                    return waiting;
                };
                while let Ok((stream, _unnamed)) = listener.accept() {
                    if stream.set_nonblocking(true).is_ok() {
                        waiting.push(Stream::Unix(stream));
                    }
                }
            }
        }
        waiting
    }
}

/// Removes a socket file that nobody listens on; anything else in its place is left alone, and
/// makes the bind fail.
fn remove_leftover(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    use std::os::unix::net::UnixStream;
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if is_socket
        && UnixStream::connect(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

impl Accepted {
    /// Serves the connection on the current core until it ends.
    pub async fn serve<S: Service>(self, service: S, draining: CancellationToken) {
        let Self {
            stream,
            listener,
            _permit,
            _counted,
        } = self;
        match stream {
            Stream::Tcp(stream, peer) => {
                let connection = Arc::new(ConnectionInfo {
                    peer: peer.to_string(),
                    peer_address: Some(peer.ip()),
                    listener,
                });
                let Ok(stream) = tokio::net::TcpStream::from_std(stream) else {
                    return;
                };
                // Replies are written whole; waiting for acknowledgements would only delay them.
                let _ = stream.set_nodelay(true);
                let abort = |io: &TokioIo<tokio::net::TcpStream>| {
                    // Closing with nothing left to linger for resets the connection.
                    let _ = io.inner().set_zero_linger();
                };
                serve_connection(TokioIo::new(stream), abort, connection, service, draining).await;
            }
            Stream::Unix(stream) => {
                let connection = Arc::new(ConnectionInfo {
                    peer: "unix".to_owned(),
                    peer_address: None,
                    listener,
                });
                let Ok(stream) = tokio::net::UnixStream::from_std(stream) else {
                    return;
                };
                // A Unix socket has no reset.
                serve_connection(TokioIo::new(stream), |_| {}, connection, service, draining).await;
            }
        }
    }
}
