//! Sockets that listen, and what is known of a connection that came in by one.

use std::io;
use std::iter;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::connection::{Service, serve_connection};
use super::socket_file::SocketFile;
use crate::config::{ListenAddress, ListenerConfig, OPEN_TO_OTHERS};
use crate::systemd::{PassedSocket, PassedSockets};
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
    /// `max_header_fields`: field lines of a head, and of trailers.
    pub max_header_fields: usize,
    /// `max_requests_per_connection`: the reply to this one is the last; 0 for no limit.
    pub max_requests_per_connection: u64,
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
    /// Opened by systemd, which keeps it when we are gone.
    is_passed: bool,
    info: Arc<ListenerInfo>,
    connections: Arc<Semaphore>,
    /// For the connections of all listeners together.
    room: Arc<Semaphore>,
    metrics: ListenerMetrics,
}

/// Why a listener cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address is taken, not allowed, or not there.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// No socket of the wanted name was passed.
    #[error(
        "systemd passed no socket of this name (FileDescriptorName= in the socket unit), but {}",
        if passed.is_empty() { "none at all" } else { passed.as_str() }
    )]
    NotPassed {
        /// The names of those that were, as they can stand in a sentence.
        passed: String,
    },
    /// A datagram socket, a single connection, or no socket.
    #[error(
        "systemd passed something of this name that accepts no connections; it takes \
         ListenStream= and Accept=no in the socket unit"
    )]
    NoListener,
    /// It asks nobody who they are and does not say so; its address was not known before.
    #[error("systemd passed {address}, which {OPEN_TO_OTHERS}")]
    OpenToOthers {
        /// Where it listens.
        address: ListenAddress,
    },
}

impl BindError {
    /// Whether another configuration is needed, here or in the socket unit.
    pub fn is_configuration(&self) -> bool {
        !matches!(self, Self::Io(_))
    }
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A socket's queue, emptied without waiting for more.
#[derive(Debug)]
enum Waiting {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

/// An accepted socket on its way to a core; it belongs to no runtime yet.
#[derive(Debug)]
pub struct Accepted {
    stream: Stream,
    listener: Arc<ListenerInfo>,
    _place: Place,
    _counted: Counted,
}

/// A connection's place, given back when it ends.
#[derive(Debug)]
struct Place {
    /// Among those of its listener; none for the last ones, which come when that no longer matters.
    _connection: Option<OwnedSemaphorePermit>,
    /// Among all.
    _room: OwnedSemaphorePermit,
}

#[derive(Debug)]
enum Stream {
    Tcp(std::net::TcpStream, SocketAddr),
    Unix(std::os::unix::net::UnixStream),
}

impl Listener {
    /// Binds the address and starts to listen; wants a tokio runtime.
    ///
    /// One for each socket, of which systemd may have passed several by one name; they share
    /// `max_connections`. A Unix socket that is left over from a process that no longer listens is
    /// replaced. `room` has a permit for each connection that all listeners may have together.
    ///
    /// # Errors
    /// When the address is taken or not allowed, or what was passed cannot be served.
    pub fn bind(
        config: &ListenerConfig,
        passed: &mut PassedSockets,
        room: &Arc<Semaphore>,
        metrics: ListenerMetrics,
    ) -> Result<Vec<Self>, BindError> {
        let connections = Arc::new(Semaphore::new(config.max_connections));
        let listener = |(socket, address): (Socket, ListenAddress), is_passed| {
            let info = ListenerInfo {
                name: address.to_string(),
                header_timeout: config.header_timeout,
                body_timeout: config.body_timeout,
                idle_timeout: config.idle_timeout,
                max_header_bytes: config.max_header_bytes,
                max_header_fields: config.max_header_fields,
                max_requests_per_connection: config.max_requests_per_connection,
                max_body_bytes: config.max_body_bytes,
            };
            Self {
                socket,
                address,
                is_passed,
                info: Arc::new(info),
                connections: Arc::clone(&connections),
                room: Arc::clone(room),
                metrics: metrics.clone(),
            }
        };
        match &config.address {
            ListenAddress::Tcp(address) => Ok(vec![listener(Socket::bind_tcp(*address)?, false)]),
            ListenAddress::Unix(path) => Ok(vec![listener(Socket::bind_unix(path)?, false)]),
            ListenAddress::Systemd(name) => claim(name, passed)?
                .into_iter()
                .map(|socket| {
                    let (socket, address) = Socket::adopt(socket)?;
                    check_openness(&address, config.allow_anonymous)?;
                    Ok(listener((socket, address), true))
                })
                .collect(),
        }
    }

    /// The address as bound: with the real port where port 0 was asked for.
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// Accepts connections and gives each to `deliver`, until `draining` is cancelled; then it
    /// takes what the kernel has already completed and closes the socket.
    ///
    /// A socket that systemd has passed is only let go: whoever waits in it is served by the next
    /// process that gets it, and none is turned away in between.
    ///
    /// At `max_connections`, or when there is no room in the process, it stops accepting until one
    /// ends; clients wait in the backlog.
    pub async fn accept_until(self, draining: CancellationToken, deliver: impl Fn(Accepted)) {
        let Self {
            socket,
            address,
            is_passed,
            info,
            connections,
            room,
            metrics,
        } = self;
        let deliver = |stream, place| {
            metrics.accepted.inc();
            deliver(Accepted {
                stream,
                listener: Arc::clone(&info),
                _place: place,
                _counted: Counted::new(&metrics.connections),
            });
        };
        let accept = async || {
            let place = Place::wait(&connections, &room).await;
            socket.accept().await.map(|stream| (stream, place))
        };
        loop {
            tokio::select! {
                biased;
                () = draining.cancelled() => break,
                accepted = accept() => match accepted {
                    Ok((stream, place)) => deliver(stream, place),
                    Err(error) => {
                        metrics.accept_failures.inc();
                        tracing::warn!(
                            listener = %address, error = %error, "failed to accept a connection"
                        );
                        let pause = tokio::time::sleep(ACCEPT_PAUSE);
                        draining.run_until_cancelled(pause).await;
                    }
                },
            }
        }
        if is_passed {
            return;
        }
        if let ListenAddress::Unix(path) = &address {
            // Before the socket is closed, so that it cannot be a successor's file.
            let _ = std::fs::remove_file(path);
        }
        // Beyond `max_connections` as well, as the kernel has promised them a server; but no more
        // than were waiting, however many go on coming, and none for whom there is no file.
        let places = iter::from_fn(|| Place::last(&connections, &room));
        let waiting = socket.close().into_iter().flatten();
        for (place, stream) in places.zip(waiting).take(BACKLOG as usize) {
            deliver(stream, place);
        }
    }
}

impl Place {
    async fn wait(connections: &Arc<Semaphore>, room: &Arc<Semaphore>) -> Self {
        let wait = async |permits: &Arc<Semaphore>| {
            let permit = Arc::clone(permits).acquire_owned().await;
            permit.expect("the semaphore is never closed")
        };
        Self {
            _connection: Some(wait(connections).await),
            _room: wait(room).await,
        }
    }

    /// For who has waited already when the listener closes.
    fn last(connections: &Arc<Semaphore>, room: &Arc<Semaphore>) -> Option<Self> {
        Some(Self {
            _connection: Arc::clone(connections).try_acquire_owned().ok(),
            _room: Arc::clone(room).try_acquire_owned().ok()?,
        })
    }
}

impl Socket {
    fn bind_tcp(address: SocketAddr) -> io::Result<(Self, ListenAddress)> {
        let listener = listen_tcp(address)?;
        let bound = listener.local_addr()?;
        Ok((Self::Tcp(listener), ListenAddress::Tcp(bound)))
    }

    fn bind_unix(path: &Path) -> io::Result<(Self, ListenAddress)> {
        remove_leftover(path)?;
        let listener = UnixListener::bind(path)?;
        Ok((Self::Unix(listener), ListenAddress::Unix(path.into())))
    }

    fn adopt(socket: PassedSocket) -> Result<(Self, ListenAddress), BindError> {
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

    /// What the kernel has completed and nobody has accepted yet; it is closed behind that.
    fn close(self) -> io::Result<Waiting> {
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

/// The sockets that systemd has passed by this name, one at least.
fn claim(name: &str, passed: &mut PassedSockets) -> Result<Vec<PassedSocket>, BindError> {
    let claimed = passed.claim(name);
    if claimed.is_empty() {
        let others: Vec<_> = passed.names().collect();
        let passed = others.join(", ");
        return Err(BindError::NotPassed { passed });
    }
    Ok(claimed)
}

/// As for a configured address: one that others can reach and that is open must be wanted.
fn check_openness(address: &ListenAddress, allow_anonymous: bool) -> Result<(), BindError> {
    if address.is_local() {
        return Ok(());
    }
    if !allow_anonymous {
        let address = address.clone();
        return Err(BindError::OpenToOthers { address });
    }
    tracing::warn!(
        listener = %address,
        "serves other machines without asking who they are; everybody who reaches it can make \
         payments"
    );
    Ok(())
}

/// Removes a socket file that nobody listens on; anything else in its place is left alone, and
/// makes the bind fail.
fn remove_leftover(path: &Path) -> io::Result<()> {
    match SocketFile::look(path) {
        Ok(SocketFile::LeftOver) => std::fs::remove_file(path),
        _ => Ok(()),
    }
}

impl Accepted {
    /// Serves the connection on the current core until it ends, as [`serve_connection`] does.
    pub async fn serve<S: Service>(
        self,
        service: S,
        draining: CancellationToken,
        dropped_idle: Arc<AtomicUsize>,
    ) {
        let Self {
            stream,
            listener,
            _place,
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
                let io = TokioIo::new(stream);
                serve_connection(io, abort, connection, service, draining, dropped_idle).await;
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
                let io = TokioIo::new(stream);
                serve_connection(io, |_| {}, connection, service, draining, dropped_idle).await;
            }
        }
    }
}
