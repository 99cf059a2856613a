//! A connection from the accept to its end on a core.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::addresses::AddressPlace;
use super::connection::{Service, serve_connection};
use super::listener::{ConnectionInfo, ListenerInfo};
use super::silence;
use super::socket::{AdoptedStream, Stream};
use super::tls::Tls;
use crate::telemetry::metrics::{Counted, ListenerMetrics};

/// An accepted socket on its way to a core; it belongs to no runtime yet.
#[derive(Debug)]
pub struct Accepted {
    stream: Stream,
    listener: Arc<ListenerInfo>,
    /// How the listener speaks TLS, if it does.
    tls: Option<Arc<Tls>>,
    place: Place,
    /// Among those of its address, where they are bounded.
    address_place: Option<AddressPlace>,
    counted: Counted,
}

/// A connection's place, given back when it ends.
#[derive(Debug)]
pub(super) struct Place {
    /// Among those of its listener; none for the last ones, which come when that no longer matters.
    _connection: Option<OwnedSemaphorePermit>,
    /// Among all.
    _room: OwnedSemaphorePermit,
}

impl Accepted {
    pub(super) fn new(
        stream: Stream,
        listener: Arc<ListenerInfo>,
        tls: Option<Arc<Tls>>,
        place: Place,
        address_place: Option<AddressPlace>,
        metrics: &ListenerMetrics,
    ) -> Self {
        Self {
            stream,
            listener,
            tls,
            place,
            address_place,
            counted: Counted::new(&metrics.connections),
        }
    }

    /// Serves the connection on the current core until it ends, as [`serve_connection`] does, and
    /// then drops `ended`.
    ///
    /// What a connection needs is made when its first byte has come: one that is silent costs its
    /// socket and a task of some hundred bytes.
    ///
    /// # Cancel safety
    /// As [`serve_connection`]; dropped while it is silent, it is counted in `dropped_idle`.
    #[expect(
        clippy::manual_async_fn,
        reason = "an async fn keeps its arguments twice, for the whole life of the connection"
    )]
    pub fn serve<S: Service>(
        self,
        service: S,
        draining: CancellationToken,
        dropped_idle: Arc<AtomicUsize>,
        ended: impl Send,
    ) -> impl Future<Output = ()> + Send {
        async move {
            let Ok(stream) = self.stream.adopt() else {
                return;
            };
            let is_served = silence::ends_in_time(
                poll_fn(|context| stream.poll_readable(context)),
                self.listener.idle_timeout,
                &draining,
                &dropped_idle,
            )
            .await
            // An error is found again by whoever reads, and told there.
            .is_some();
            if is_served {
                let listener = self.listener;
                begin(stream, listener, self.tls, service, draining, dropped_idle).await;
            }
            drop((self.place, self.address_place, self.counted, ended));
        }
    }
}

/// All that a connection needs once it is more than a socket; behind a pointer, so that silent ones
/// do not keep room for it.
fn begin<S: Service>(
    stream: AdoptedStream,
    listener: Arc<ListenerInfo>,
    tls: Option<Arc<Tls>>,
    service: S,
    draining: CancellationToken,
    dropped_idle: Arc<AtomicUsize>,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    match stream {
        AdoptedStream::Tcp(stream, peer) => {
            let connection = Arc::new(ConnectionInfo {
                peer: peer.to_string(),
                peer_address: Some(peer.ip()),
                listener,
            });
            // Replies are written whole; waiting for acknowledgements would only delay them.
            let _ = stream.set_nodelay(true);
            let Some(tls) = tls else {
                let abort = |io: &TokioIo<TcpStream>| reset_on_close(io.inner());
                let io = TokioIo::new(stream);
                return Box::pin(serve_connection(
                    io,
                    abort,
                    connection,
                    service,
                    draining,
                    dropped_idle,
                ));
            };
            Box::pin(async move {
                let stream = tls.shake_hands(stream, &draining, &dropped_idle).await;
                let Some(stream) = stream else {
                    return;
                };
                // Nor is there a close_notify, without which no client takes a reply for whole.
                let abort = |io: &TokioIo<TlsStream<TcpStream>>| {
                    reset_on_close(io.inner().get_ref().0);
                };
                let io = TokioIo::new(stream);
                serve_connection(io, abort, connection, service, draining, dropped_idle).await;
            })
        }
        AdoptedStream::Unix(stream) => {
            let connection = Arc::new(ConnectionInfo {
                peer: "unix".to_owned(),
                peer_address: None,
                listener,
            });
            // A Unix socket has no reset.
            let abort = |_: &TokioIo<UnixStream>| {};
            let io = TokioIo::new(stream);
            Box::pin(serve_connection(
                io,
                abort,
                connection,
                service,
                draining,
                dropped_idle,
            ))
        }
    }
}

/// Makes the close of the connection a reset: nothing is left to linger for.
fn reset_on_close(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

impl Place {
    pub(super) async fn wait(connections: &Arc<Semaphore>, room: &Arc<Semaphore>) -> Self {
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
    pub(super) fn last(connections: &Arc<Semaphore>, room: &Arc<Semaphore>) -> Option<Self> {
        Some(Self {
            _connection: Arc::clone(connections).try_acquire_owned().ok(),
            _room: Arc::clone(room).try_acquire_owned().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use prometheus::{IntCounter, IntGauge};

    use super::super::connection::tests::Nobody;
    use super::*;
    use crate::config::ListenerConfig;

    /// What a silent connection may cost beside its socket: this, and what tokio adds to a task.
    const SILENT_BYTES: usize = 640;

    #[tokio::test]
    async fn a_silent_connection_is_a_small_task() {
        let counter = || IntCounter::new("a", "b").expect("a name");
        let metrics = ListenerMetrics {
            connections: IntGauge::new("a", "b").expect("a name"),
            accepted: counter(),
            refused: counter(),
            accept_failures: counter(),
        };
        let info = ListenerInfo::new("test".to_owned(), &ListenerConfig::default());
        let permits = Arc::new(Semaphore::new(1));
        let place = Place::wait(&permits, &Arc::new(Semaphore::new(1))).await;
        let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = socket.local_addr().expect("it is bound");
        let stream = std::net::TcpStream::connect(address).expect("it listens");
        let stream = Stream::Tcp(stream, address);
        let accepted = Accepted::new(stream, Arc::new(info), None, place, None, &metrics);
        let serving = accepted.serve(Nobody, CancellationToken::new(), Arc::default(), ());
        let size = size_of_val(&serving);
        assert!(size <= SILENT_BYTES, "{size} bytes");
    }
}
