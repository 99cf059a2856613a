//! The gateway's own parts, put together around memory.

use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use hyper_util::rt::TokioIo;
use moden_gateway::config::{self, Config, LoadOptions};
use moden_gateway::credentials::{Credential, Credentials};
use moden_gateway::limits::Limits;
use moden_gateway::proxy::{Proxy, Snapshot};
use moden_gateway::secret::Secret;
use moden_gateway::server::{ConnectionInfo, ListenerInfo, serve_connection};
use moden_gateway::telemetry::access_log::LineBuffer;
use moden_gateway::telemetry::metrics::Metrics;
use moden_gateway::upstream::{Origin, Upstream};
use tokio::io::DuplexStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::level_filters::LevelFilter;

use super::Course;
use super::upstream::Arrivals;

/// Nobody listens there, and nobody has to: connections are made of memory.
pub(super) const AUTHORITY: &str = "127.0.0.1:9";

/// What the upstream must be told, once.
pub(super) const CREDENTIAL: &str = "Basic bWVyY2hhbnQtNzc6czNjcjN0LU1BUktFUi92YWx1ZSs=";

/// The secret as it is, in Base64 (its middle, which does not depend on what stands before it), and
/// with its characters quoted.
pub(super) const SECRETS: [&str; 3] = [
    "s3cr3t-MARKER/value+",
    "bWVyY2hhbnQtNzc6czNjcjN0",
    "s3cr3t-MARKER%2Fvalue%2B",
];

/// Connections to the upstream; more than one input can use up.
const CONNECTIONS: usize = 8;

/// The secret's places are never read; the credential is put in by hand.
const CONFIGURATION: &str = r#"
environment = "sandbox"

[environments.sandbox]
base_url = "http://127.0.0.1:9/pay/sandbox"
app_id = { file = "/not/read" }
secret = { file = "/not/read" }

[[routes]]
name = "create-payment"
path = "/pay/gateway"

[[routes]]
name = "everything-else"
path = "/pay/*"
methods = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"]
"#;

/// One gateway of one connection.
pub(super) struct House {
    proxy: Arc<Proxy>,
    lines: LineBuffer,
    arrivals: Arrivals,
    exchanges: TaskTracker,
    upstreams: TaskTracker,
}

/// What does not change from input to input.
struct Ground {
    config: Config,
    origin: Arc<Origin>,
    metrics: Metrics,
    snapshot: Arc<ArcSwap<Snapshot>>,
}

impl House {
    pub(super) async fn build() -> Self {
        listen_to_logs();
        let ground = ground();
        let upstream = Upstream::new(
            Arc::clone(&ground.origin),
            CONNECTIONS,
            ground.metrics.upstream(),
        );
        let arrivals = Arrivals::default();
        let upstreams = TaskTracker::new();
        for _ in 0..CONNECTIONS {
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            upstream
                .adopt(TokioIo::new(ours))
                .await
                .expect("hyper starts");
            upstreams.spawn(arrivals.clone().serve(theirs));
        }
        let lines = LineBuffer::kept();
        let exchanges = TaskTracker::new();
        let snapshot = Arc::clone(&ground.snapshot);
        let proxy = Proxy::new(snapshot, upstream, lines.clone(), exchanges.clone());
        Self {
            proxy: Arc::new(proxy),
            lines,
            arrivals,
            exchanges,
            upstreams,
        }
    }

    /// Serves one client to its end.
    pub(super) fn serve(&self, io: DuplexStream) -> impl Future<Output = ()> + use<> {
        let listener = &ground().config.listeners[0];
        let connection = ConnectionInfo {
            peer: "127.0.0.1:40000".to_owned(),
            peer_address: Some(Ipv4Addr::LOCALHOST.into()),
            listener: Arc::new(ListenerInfo {
                name: "127.0.0.1:8080".to_owned(),
                header_timeout: listener.header_timeout,
                body_timeout: listener.body_timeout,
                idle_timeout: listener.idle_timeout,
                max_header_bytes: listener.max_header_bytes,
                max_body_bytes: listener.max_body_bytes,
            }),
        };
        serve_connection(
            TokioIo::new(io),
            |_| {},
            Arc::new(connection),
            Arc::clone(&self.proxy),
            CancellationToken::new(),
            Arc::default(),
        )
    }

    /// Waits for what still runs, and gathers what there is to see.
    pub(super) async fn close(self, replies: Vec<u8>) -> Course {
        self.exchanges.close();
        self.exchanges.wait().await;
        // The pool goes with the proxy, and with it the connections that the upstream reads.
        drop(self.proxy);
        self.upstreams.close();
        self.upstreams.wait().await;
        let lines = String::from_utf8(self.lines.take()).expect("the access log is text");
        Course {
            replies,
            arrived: self.arrivals.take(),
            lines,
            log: take_log(),
        }
    }
}

fn ground() -> &'static Ground {
    static GROUND: OnceLock<Ground> = OnceLock::new();
    GROUND.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("gateway.toml");
        std::fs::write(&file, CONFIGURATION).expect("the folder can be written");
        let options = LoadOptions {
            paths: vec![file],
            ..LoadOptions::default()
        };
        let config = config::load(&options).expect("a configuration").config;
        let origin = Origin::build(&config.selected().base_url, &config.upstream);
        let origin = Arc::new(origin.expect("an origin"));
        let credentials = Arc::new(Credentials::default());
        let [secret, ..] = SECRETS;
        let credential = Credential::build(&Secret::new("merchant-77"), &Secret::new(secret));
        credentials.replace(credential.expect("a credential"));
        let metrics = Metrics::build(config.environment);
        let limits = Limits::build(&config.limits, config.upstream.limit_max, &metrics);
        let snapshot = Arc::new(ArcSwap::from_pointee(Snapshot::build(
            &config,
            &origin,
            credentials,
            Arc::new(limits),
            Arc::default(),
            &metrics,
        )));
        Ground {
            config,
            origin,
            metrics,
            snapshot,
        }
    })
}

/// What the program has said since it was last asked; all threads together.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Keeps everything that is logged, at its most talkative; where somebody else keeps it already,
/// that one may look.
fn listen_to_logs() {
    static BEGIN: Once = Once::new();
    BEGIN.call_once(|| {
        let _ = tracing_subscriber::fmt()
            .with_max_level(LevelFilter::TRACE)
            .with_ansi(false)
            .with_writer(|| Sink)
            .try_init();
    });
}

fn take_log() -> String {
    let mut log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
    String::from_utf8_lossy(&std::mem::take(&mut *log)).into_owned()
}

struct Sink;

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
        log.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
