//! The gateway's own parts, put together around memory: the real server, proxy and pool, between a
//! client and an upstream that are tasks, under a clock that only moves when nobody has anything
//! to do.

use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use hyper_util::rt::TokioIo;
use moden_gateway::config::{self, Config, LoadOptions};
use moden_gateway::credentials::{Credential, Credentials};
use moden_gateway::limits::Limits;
use moden_gateway::proxy::{Load, Proxy, Snapshot};
use moden_gateway::secret::Secret;
use moden_gateway::server::{ConnectionInfo, ListenerInfo, serve_connection};
use moden_gateway::telemetry::access_log::LineBuffer;
use moden_gateway::telemetry::metrics::Metrics;
use moden_gateway::upstream::{Breaker, Origin, Upstream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::level_filters::LevelFilter;

/// Nobody listens there, and nobody has to: connections are made of memory.
pub(super) const AUTHORITY: &str = "127.0.0.1:9";

/// What the upstream must be told, once.
pub(super) const CREDENTIAL: &str = "Basic bWVyY2hhbnQtNzc6czNjcjN0LU1BUktFUi92YWx1ZSs=";

/// The secret as it is, in Base64 (its beginning, which does not depend on what follows), and with
/// its characters quoted.
const SECRETS: [&str; 3] = [
    "s3cr3t-MARKER/value+",
    "bWVyY2hhbnQtNzc6czNjcjN0",
    "s3cr3t-MARKER%2Fvalue%2B",
];

/// What a side may have on its way unread, in bytes.
const ROOM: usize = 64 * 1024;

/// How much of a body is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// More than any input has.
    All,
    /// So little that most bodies are streamed, both ways.
    Little,
}

/// How somebody sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// All at once, and then the sending side is closed.
    AtOnce,
    /// In small pieces, and then silence.
    InPieces,
}

/// One gateway with connections to one upstream.
pub(super) struct Gateway {
    ground: &'static Ground,
    proxy: Arc<Proxy>,
    lines: LineBuffer,
    exchanges: TaskTracker,
    upstreams: TaskTracker,
}

/// What a gateway has written when it is closed.
pub(super) struct Logs {
    /// The access log.
    pub(super) lines: String,
    /// What the program said of itself.
    pub(super) said: String,
}

/// What does not change from input to input.
struct Ground {
    config: Config,
    origin: Arc<Origin>,
    metrics: Metrics,
    snapshot: Arc<ArcSwap<Snapshot>>,
}

impl Gateway {
    /// `upstream` serves one connection that the gateway sends requests on; there are this many.
    /// When they are used up, no request is sent any more.
    pub(super) async fn build<F>(
        hold: Hold,
        connections: usize,
        upstream: impl Fn(DuplexStream) -> F,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        listen_to_logs();
        let ground = ground(hold);
        let origin = Arc::clone(&ground.origin);
        // What one input does must not decide about the next.
        let breaker = Arc::new(Breaker::off());
        let held = Arc::clone(ground.snapshot.load().load().held());
        let metrics = ground.metrics.upstream();
        let pool = Upstream::new(origin, breaker, connections, held, metrics);
        let upstreams = TaskTracker::new();
        for _ in 0..connections {
            let (ours, theirs) = tokio::io::duplex(ROOM);
            let adopted = pool.adopt(TokioIo::new(ours)).await;
            adopted.expect("hyper starts");
            upstreams.spawn(upstream(theirs));
        }
        let lines = LineBuffer::kept();
        let exchanges = TaskTracker::new();
        let snapshot = Arc::clone(&ground.snapshot);
        let proxy = Proxy::new(snapshot, pool, lines.clone(), exchanges.clone());
        Self {
            ground,
            proxy: Arc::new(proxy),
            lines,
            exchanges,
            upstreams,
        }
    }

    /// Connects a client, and serves it to its end.
    pub(super) fn connect(&self) -> (DuplexStream, impl Future<Output = ()> + use<>) {
        let listener = &self.ground.config.listeners[0];
        let connection = ConnectionInfo {
            peer: "127.0.0.1:40000".to_owned(),
            peer_address: Some(Ipv4Addr::LOCALHOST.into()),
            listener: Arc::new(ListenerInfo::new("127.0.0.1:8080".to_owned(), listener)),
        };
        let (client, server) = tokio::io::duplex(ROOM);
        let serving = serve_connection(
            TokioIo::new(server),
            |_| {},
            Arc::new(connection),
            Arc::clone(&self.proxy),
            CancellationToken::new(),
            Arc::default(),
        );
        (client, serving)
    }

    /// Waits for what still runs, and gathers what was written.
    pub(super) async fn close(self) -> Logs {
        self.exchanges.close();
        self.exchanges.wait().await;
        // The pool goes with the proxy, and with it the connections that the upstream reads.
        drop(self.proxy);
        self.upstreams.close();
        self.upstreams.wait().await;
        Logs {
            lines: String::from_utf8(self.lines.take()).expect("the access log is text"),
            said: take_log(),
        }
    }
}

impl Logs {
    /// Each line is an object with an outcome, without a raw control character.
    pub(super) fn check(&self) {
        for line in self.lines.lines() {
            let value: serde_json::Value = serde_json::from_str(line).expect("a line is JSON");
            assert!(value["outcome"].is_string(), "{line}");
            assert!(!line.chars().any(char::is_control), "{line:?}");
        }
    }

    /// Nothing of the credential is in the logs, nor in what clients have read. Who knows it
    /// already, as `data` shows, may say it.
    pub(super) fn check_secret(&self, data: &[u8], replies: &[u8]) {
        for secret in SECRETS {
            let shows = |bytes: &[u8]| count_of(bytes, secret.as_bytes()) > 0;
            let seen = [replies, self.lines.as_bytes(), self.said.as_bytes()];
            let is_shown = !shows(data) && seen.into_iter().any(shows);
            assert!(!is_shown, "the credential was shown");
        }
    }
}

/// How often a text stands in bytes.
pub(super) fn count_of(bytes: &[u8], text: &[u8]) -> usize {
    let windows = bytes.windows(text.len());
    windows.filter(|window| *window == text).count()
}

/// Runs under a clock that only moves when nobody has anything to do.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .enable_io()
        .start_paused(true)
        .build()
        .expect("a runtime")
        .block_on(future)
}

/// Sends everything in a manner; whoever is not listening any more is left alone.
pub(super) async fn send(writer: &mut (impl AsyncWrite + Unpin), data: &[u8], manner: Manner) {
    let mut rest = data;
    while !rest.is_empty() {
        let size = match manner {
            Manner::AtOnce => rest.len(),
            Manner::InPieces => piece(rest).min(rest.len()),
        };
        let (now, later) = rest.split_at(size);
        if writer.write_all(now).await.is_err() {
            return;
        }
        rest = later;
        // So that the other side sees this piece alone.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
    }
    if manner == Manner::AtOnce {
        let _ = writer.shutdown().await;
    }
}

/// Reads to the end, be it a reset.
pub(super) async fn receive(reader: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut received = Vec::new();
    let _ = reader.read_to_end(&mut received).await;
    received
}

/// How much is sent next, from what is left: any size from one byte, small ones mostly.
fn piece(rest: &[u8]) -> usize {
    let mixed = rest.iter().take(8).fold(rest.len(), |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(usize::from(*byte))
    });
    match mixed % 8 {
        0..=3 => 1,
        4..=5 => 2 + mixed / 8 % 6,
        _ => 8 + mixed / 8 % 64,
    }
}

/// The secret's places are never read; the credential is put in by hand. A wait that an upstream
/// asks for would hold for the inputs that follow; and no connection is made but those of memory.
const CONFIGURATION: &str = r#"
environment = "sandbox"

[environments.sandbox]
base_url = "http://127.0.0.1:9/pay/sandbox"
app_id = { file = "/not/read" }
secret = { file = "/not/read" }

[upstream]
limit_max = "0s"
reuse_within = "24h"

[[routes]]
name = "create-payment"
path = "/pay/gateway"

[[routes]]
name = "everything-else"
path = "/pay/*"
methods = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"]
"#;

fn ground(hold: Hold) -> &'static Ground {
    static ALL: OnceLock<Ground> = OnceLock::new();
    static LITTLE: OnceLock<Ground> = OnceLock::new();
    match hold {
        Hold::All => ALL.get_or_init(|| break_ground("64KiB")),
        Hold::Little => LITTLE.get_or_init(|| break_ground("8B")),
    }
}

fn break_ground(hold: &str) -> Ground {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("gateway.toml");
    std::fs::write(&file, CONFIGURATION).expect("the folder can be written");
    let variables = ["HOLD_BODY", "HOLD_ANSWER"].map(|name| {
        let name = format!("{}UPSTREAM__{name}", config::VARIABLE_PREFIX);
        (name, hold.to_owned())
    });
    let options = LoadOptions {
        paths: vec![file],
        variables: variables.to_vec(),
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
        Load::build(&config.server, &metrics),
        Arc::new(Breaker::off()),
        &metrics,
    )));
    Ground {
        config,
        origin,
        metrics,
        snapshot,
    }
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
