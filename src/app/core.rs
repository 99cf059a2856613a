//! One core: a thread, its runtime, and everything that lives on it.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::Health;
use crate::body::HeldBytes;
use crate::proxy::{Proxy, Snapshot};
use crate::server::Accepted;
use crate::telemetry::access_log::LineBuffer;
use crate::telemetry::metrics::UpstreamMetrics;
use crate::upstream::{Breaker, Origin, Upstream};

/// How often a core gives a sign of life and sweeps its pool.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// What a core is made of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) index: usize,
    pub(super) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(super) origin: Arc<Origin>,
    pub(super) breaker: Arc<Breaker>,
    pub(super) max_upstream_connections: usize,
    pub(super) access_log: LineBuffer,
    pub(super) held: Arc<HeldBytes>,
    pub(super) upstream_metrics: Arc<UpstreamMetrics>,
    pub(super) health: Arc<Health>,
    pub(super) draining: CancellationToken,
    pub(super) give_up: CancellationToken,
}

/// The control thread's end of a core.
#[derive(Debug)]
pub(super) struct Core {
    /// Taken away when no more connections will come.
    sockets: Mutex<Option<mpsc::UnboundedSender<Accepted>>>,
    connections: Arc<AtomicUsize>,
    finished: CancellationToken,
    thread: Mutex<Option<JoinHandle<CutOff>>>,
}

/// What a core left unfinished when the drain was given up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CutOff {
    /// Requests without a complete reply, each named in the log.
    pub(super) requests: usize,
    /// Connections, those of the requests included.
    pub(super) connections: usize,
    /// Those of the connections that had no request.
    pub(super) idle_connections: usize,
}

impl Core {
    /// Starts the thread and its runtime.
    pub(super) fn start(parts: Parts) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        // Bounded by the permits of the listeners, which every socket in it carries.
        let (sender, sockets) = mpsc::unbounded_channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let finished = CancellationToken::new();
        let thread = {
            let (connections, finished) = (Arc::clone(&connections), finished.clone());
            thread::Builder::new()
                .name(format!("core-{}", parts.index))
                .spawn(move || {
                    let _finished = finished.drop_guard();
                    let (index, health) = (parts.index, Arc::clone(&parts.health));
                    let dropped_idle = Arc::new(AtomicUsize::new(0));
                    let work = run(parts, sockets, connections, Arc::clone(&dropped_idle));
                    let (proxy, connections) = runtime.block_on(work);
                    health.ended(index);
                    // With it go all tasks that are left, and each names its request.
                    drop(runtime);
                    CutOff {
                        requests: proxy.cut_off(),
                        connections,
                        idle_connections: dropped_idle.load(Ordering::Relaxed),
                    }
                })?
        };
        Ok(Self {
            sockets: Mutex::new(Some(sender)),
            connections,
            finished,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// How many connections it serves.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Hands it a connection.
    pub(super) fn serve(&self, accepted: Accepted) {
        let sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sockets) = sockets.as_ref() {
            self.connections.fetch_add(1, Ordering::Relaxed);
            // A core that is gone has dropped its receiver; the connection is closed with it.
            let _ = sockets.send(accepted);
        }
    }

    /// Says that no more connections will come.
    pub(super) fn close(&self) {
        self.sockets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    /// Waits until everything on it has ended.
    pub(super) async fn finished(&self) {
        self.finished.cancelled().await;
    }

    /// Ends the thread; what was cut off.
    ///
    /// A thread that has not finished is stuck and left behind, for the end of the process.
    pub(super) fn join(&self) -> CutOff {
        if !self.finished.is_cancelled() {
            let connections = self.connections().max(1);
            tracing::error!(
                connections,
                "a core is stuck; its requests end without a line in any log"
            );
            return CutOff {
                requests: 0,
                connections,
                idle_connections: 0,
            };
        }
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // A panic of the core was already reported by the panic hook.
        thread.map_or_else(CutOff::default, |thread| thread.join().unwrap_or_default())
    }
}

/// Serves what comes until all has ended or is given up; then, how many connections are left.
async fn run(
    parts: Parts,
    mut sockets: mpsc::UnboundedReceiver<Accepted>,
    connections: Arc<AtomicUsize>,
    dropped_idle: Arc<AtomicUsize>,
) -> (Arc<Proxy>, usize) {
    let serving = TaskTracker::new();
    let exchanges = TaskTracker::new();
    let upstream = Upstream::new(
        parts.origin,
        parts.breaker,
        parts.max_upstream_connections,
        parts.held,
        parts.upstream_metrics,
    );
    let proxy = Proxy::new(
        parts.snapshot,
        upstream,
        parts.access_log,
        exchanges.clone(),
    );
    let proxy = Arc::new(proxy);
    let all_ended = async {
        while let Some(accepted) = sockets.recv().await {
            let ended = Ended(Arc::clone(&connections));
            let connection = accepted.serve(
                Arc::clone(&proxy),
                parts.draining.clone(),
                Arc::clone(&dropped_idle),
                ended,
            );
            serving.spawn(connection);
        }
        serving.close();
        serving.wait().await;
        // Only a connection can leave an exchange behind, so none can come any more.
        exchanges.close();
        exchanges.wait().await;
    };
    let heart = async {
        let mut beats = tokio::time::interval(HEARTBEAT);
        loop {
            beats.tick().await;
            parts.health.beat(parts.index);
            proxy.upstream().sweep();
        }
    };
    tokio::select! {
        () = all_ended => {}
        () = heart => {}
        () = parts.give_up.cancelled() => proxy.give_up(),
    }
    // What was handed over and not begun is cut off like the rest.
    let left = serving.len() + sockets.len();
    (proxy, left)
}

/// Counts a connection out, however it ends.
struct Ended(Arc<AtomicUsize>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
