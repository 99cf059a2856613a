//! A connection from the accept to its end on a core.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::Context;

use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::connection::{Service, serve_connection};
use super::listener::{ConnectionInfo, ListenerInfo};
use super::silence;
use super::socket::Stream;
use crate::telemetry::metrics::{Counted, ListenerMetrics};

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
        place: Place,
        metrics: &ListenerMetrics,
    ) -> Self {
        Self {
            stream,
            listener,
            _place: place,
            _counted: Counted::new(&metrics.connections),
        }
    }

    /// Serves the connection on the current core until it ends, as [`serve_connection`] does.
    ///
    /// What a connection needs is made when its first byte has come: one that is silent costs its
    /// socket and a task of some hundred bytes.
    ///
    /// # Cancel safety
    /// As [`serve_connection`]; dropped while it is silent, it is counted in `dropped_idle`.
    pub async fn serve<S: Service>(
        self,
        service: S,
        draining: CancellationToken,
        dropped_idle: Arc<AtomicUsize>,
    ) {
        let idle_timeout = self.listener.idle_timeout;
        match self.stream {
            Stream::Tcp(stream, peer) => {
                let Ok(stream) = TcpStream::from_std(stream) else {
                    return;
                };
                let readable = |context: &mut Context<'_>| stream.poll_read_ready(context);
                if !silence::ends_in_time(readable, idle_timeout, &draining, &dropped_idle).await {
                    return;
                }
                let connection = ConnectionInfo {
                    peer: peer.to_string(),
                    peer_address: Some(peer.ip()),
                    listener: self.listener,
                };
                // Replies are written whole; waiting for acknowledgements would only delay them.
                let _ = stream.set_nodelay(true);
                let abort = |io: &TokioIo<TcpStream>| {
                    // Closing with nothing left to linger for resets the connection.
                    let _ = io.inner().set_zero_linger();
                };
                Box::pin(serve_connection(
                    TokioIo::new(stream),
                    abort,
                    Arc::new(connection),
                    service,
                    draining,
                    dropped_idle,
                ))
                .await;
            }
            Stream::Unix(stream) => {
                let Ok(stream) = UnixStream::from_std(stream) else {
                    return;
                };
                let readable = |context: &mut Context<'_>| stream.poll_read_ready(context);
                if !silence::ends_in_time(readable, idle_timeout, &draining, &dropped_idle).await {
                    return;
                }
                let connection = ConnectionInfo {
                    peer: "unix".to_owned(),
                    peer_address: None,
                    listener: self.listener,
                };
                Box::pin(serve_connection(
                    TokioIo::new(stream),
                    // A Unix socket has no reset.
                    |_| {},
                    Arc::new(connection),
                    service,
                    draining,
                    dropped_idle,
                ))
                .await;
            }
        }
    }
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
