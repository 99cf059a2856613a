//! Sockets that listen, and what is known of a connection that came in by one.

use std::io;
use std::iter;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::accepted::{Accepted, Place};
use super::addresses::{Addresses, Refused};
use super::socket::{BACKLOG, Socket, Stream};
use super::tls::Tls;
use crate::config::{ListenAddress, ListenerConfig, OPEN_TO_OTHERS, TLS_ON_UNIX_SOCKET};
use crate::systemd::{PassedSocket, PassedSockets};
use crate::telemetry::metrics::ListenerMetrics;

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

impl ListenerInfo {
    /// Takes what connections need of a listener's configuration.
    pub fn new(name: String, config: &ListenerConfig) -> Self {
        Self {
            name,
            header_timeout: config.header_timeout,
            body_timeout: config.body_timeout,
            idle_timeout: config.idle_timeout,
            max_header_bytes: config.max_header_bytes,
            max_header_fields: config.max_header_fields,
            max_requests_per_connection: config.max_requests_per_connection,
            max_body_bytes: config.max_body_bytes,
        }
    }
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
    addresses: Option<Arc<Addresses>>,
    tls: Option<Arc<Tls>>,
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
    /// It shall speak TLS, and what was passed is a Unix socket.
    #[error("systemd passed {address}, and tls {TLS_ON_UNIX_SOCKET}")]
    TlsOnUnixSocket {
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

impl Listener {
    /// Binds the address and starts to listen; wants a tokio runtime.
    ///
    /// One for each socket, of which systemd may have passed several by one name; they share
    /// `max_connections`. A Unix socket that is left over from a process that no longer listens is
    /// replaced. `tls` is there if the listener shall speak it. `room` has a permit for each
    /// connection that all listeners may have together.
    ///
    /// # Errors
    /// When the address is taken or not allowed, or what was passed cannot be served.
    pub fn bind(
        config: &ListenerConfig,
        tls: Option<Arc<Tls>>,
        passed: &mut PassedSockets,
        room: &Arc<Semaphore>,
        metrics: ListenerMetrics,
    ) -> Result<Vec<Self>, BindError> {
        let connections = Arc::new(Semaphore::new(config.max_connections));
        let addresses = Addresses::build(config.max_connections_per_address);
        let listener = |(socket, address): (Socket, ListenAddress), is_passed| Self {
            info: Arc::new(ListenerInfo::new(address.to_string(), config)),
            socket,
            address,
            is_passed,
            connections: Arc::clone(&connections),
            addresses: addresses.clone(),
            tls: tls.clone(),
            room: Arc::clone(room),
            metrics: metrics.clone(),
        };
        match &config.address {
            ListenAddress::Tcp(address) => Ok(vec![listener(Socket::bind_tcp(*address)?, false)]),
            ListenAddress::Unix(path) => Ok(vec![listener(Socket::bind_unix(path)?, false)]),
            ListenAddress::Systemd(name) => claim(name, passed)?
                .into_iter()
                .map(|socket| {
                    let (socket, address) = Socket::adopt(socket)?;
                    check_openness(&address, config.allow_anonymous)?;
                    if tls.is_some() && matches!(address, ListenAddress::Unix(_)) {
                        return Err(BindError::TlsOnUnixSocket { address });
                    }
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
    /// ends; clients wait in the backlog. One of an address that has `max_connections_per_address`
    /// is accepted and closed with a reset: in the backlog it would stand in the way of others.
    pub async fn accept_until(self, draining: CancellationToken, deliver: impl Fn(Accepted)) {
        let Self {
            socket,
            address,
            is_passed,
            info,
            connections,
            addresses,
            tls,
            room,
            metrics,
        } = self;
        let deliver = |stream: Stream, place| {
            let admitted = match (&addresses, stream.peer_address()) {
                (Some(addresses), Some(peer)) => addresses.admit(peer).map(Some),
                _ => Ok(None),
            };
            match admitted {
                Ok(address_place) => {
                    metrics.accepted.inc();
                    deliver(Accepted::new(
                        stream,
                        Arc::clone(&info),
                        tls.clone(),
                        place,
                        address_place,
                        &metrics,
                    ));
                }
                Err(refused) => {
                    metrics.refused.inc();
                    tell(&address, refused);
                    stream.reset();
                }
            }
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

/// Says that an address has too many connections, if it is time to say so.
fn tell(listener: &ListenAddress, refused: Refused) {
    if let Some(count) = refused.to_tell {
        tracing::warn!(
            %listener,
            peer = %refused.network,
            count,
            "closed connections of addresses that have max_connections_per_address, this one last"
        );
    }
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
