//! Instructions per request on the hot path, in process and without sockets.
//!
//! A client and an upstream made of memory stand on both sides of the real server, proxy and
//! connection pool; one request after the other goes through. The program runs itself under
//! callgrind twice, with few and with many requests, so that the difference is the requests alone.
//!
//! ```text
//! cargo bench --bench proxy              compare with benches/proxy.baseline
//! cargo bench --bench proxy -- --save    write the figure there
//! cargo bench --bench proxy -- --run N   only send N requests, for other tools
//! ```
//!
//! Wants valgrind. The figure depends on the compiler and the C library, so the baseline is only
//! good for comparisons on one machine; a change shows what it was before and after.

#![expect(clippy::print_stdout, reason = "a measurement is printed")]

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use arc_swap::ArcSwap;
use hyper_util::rt::TokioIo;
use moden_gateway::config::{self, LoadOptions, LogOutput};
use moden_gateway::credentials::{Credential, Credentials};
use moden_gateway::limits::Limits;
use moden_gateway::proxy::{Load, Proxy, Snapshot};
use moden_gateway::secret::Secret;
use moden_gateway::server::{ConnectionInfo, ListenerInfo, serve_connection};
use moden_gateway::telemetry::access_log::AccessLog;
use moden_gateway::telemetry::metrics::Metrics;
use moden_gateway::upstream::{Breaker, Origin, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

#[path = "support/arguments.rs"]
mod arguments;
#[path = "support/callgrind.rs"]
mod callgrind;

const FEW: u64 = 1_000;
const MANY: u64 = 6_000;

/// A create-payment request as a service sends it; its body is 200 bytes long.
const REQUEST: &str = concat!(
    "POST /pay/gateway HTTP/1.1\r\n",
    "Host: gateway\r\n",
    "User-Agent: shop/1.0\r\n",
    "Accept: application/json\r\n",
    "Authorization: Bearer of-the-client\r\n",
    "Content-Type: application/json\r\n",
    "Content-Length: 200\r\n",
    "\r\n",
    r#"{"coin":"USDT","currency_code":"VND","amount":150000,"sn":"order-000000000001","#,
    r#""notify_url":"https://shop.example/payments/notify","payment_provider":"bank-transfer-vn","#,
    r#""timestamp":1700000000,"n":"1"}"#,
);

/// What MODEN answers; its body is 90 bytes long.
const ANSWER: &str = concat!(
    "HTTP/1.1 200 OK\r\n",
    "Server: nginx\r\n",
    "Date: Sun, 01 Nov 2026 10:00:00 GMT\r\n",
    "Content-Type: application/json\r\n",
    "Content-Length: 90\r\n",
    "Connection: keep-alive\r\n",
    "\r\n",
    r#"{"status":"success","url":"https://pay.example/p/0123456789abcdef0123456789abcdef0123456"}"#,
);

fn main() -> anyhow::Result<()> {
    let arguments = arguments::given();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["--run", number] => run(number.parse().context("--run wants a number")?),
        [] => measure(false),
        ["--save"] => measure(true),
        _ => bail!("unknown arguments; see the top of benches/proxy.rs"),
    }
}

fn measure(is_saved: bool) -> anyhow::Result<()> {
    let figure = callgrind::instructions_per_turn(&["--run"], FEW, MANY)?;
    println!("{figure} instructions per request");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/proxy.baseline");
    if is_saved {
        std::fs::write(&path, format!("{figure}\n"))?;
    } else {
        let text = std::fs::read_to_string(&path).context("there is no baseline; use --save")?;
        let baseline: u64 = text.trim().parse().context("the baseline is no number")?;
        let change = (figure as f64 / baseline as f64 - 1.0) * 100.0;
        println!("{baseline} in benches/proxy.baseline: {change:+.2} %");
    }
    Ok(())
}

fn run(requests: u64) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let options = LoadOptions {
                environment: Some("sandbox".to_owned()),
                variables: [
                    (
                        "MODEN_GATEWAY__ENVIRONMENTS__SANDBOX__APP_ID__FILE",
                        "/not/read",
                    ),
                    (
                        "MODEN_GATEWAY__ENVIRONMENTS__SANDBOX__SECRET__FILE",
                        "/not/read",
                    ),
                    ("MODEN_GATEWAY__UPSTREAM__REUSE_WITHIN", "1h"),
                ]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec(),
                embedded_only: true,
                ..LoadOptions::default()
            };
            let config = config::load(&options)?.config;
            let origin = Arc::new(Origin::build(
                &config.selected().base_url,
                &config.upstream,
            )?);
            let credentials = Arc::new(Credentials::default());
            credentials.replace(Credential::build(
                &Secret::new("app"),
                &Secret::new("secret"),
            )?);
            let metrics = Metrics::build(config.environment);
            let breaker = Breaker::build(&config.upstream.breaker, metrics.breaker());
            let breaker = Arc::new(breaker);
            let limits = Limits::build(&config.limits, config.upstream.limit_max, &metrics);
            let load = Load::build(&config.server, &metrics);
            let snapshot = Arc::new(ArcSwap::from_pointee(Snapshot::build(
                &config,
                &origin,
                credentials,
                Arc::new(limits),
                Arc::default(),
                Arc::clone(&load),
                Arc::clone(&breaker),
                &metrics,
            )));
            let dropped = metrics.access_log_dropped.clone();
            let access_log = AccessLog::start(&LogOutput::File("/dev/null".into()), 1, dropped)?;

            let (ours, moden) = tokio::io::duplex(64 * 1024);
            let held = Arc::clone(load.held());
            let upstream = Upstream::new(origin, breaker, 1, held, metrics.upstream());
            upstream.adopt(TokioIo::new(ours)).await?;
            let tasks = TaskTracker::new();
            tasks.spawn(answer_all(moden));

            let proxy = Proxy::new(snapshot, upstream, access_log.buffer(0), TaskTracker::new());
            let listener = &config.listeners[0];
            let connection = ConnectionInfo {
                peer: "127.0.0.1:40000".to_owned(),
                peer_address: Some([127, 0, 0, 1].into()),
                listener: Arc::new(ListenerInfo {
                    // All requests go over one connection.
                    max_requests_per_connection: 0,
                    ..ListenerInfo::new("127.0.0.1:8080".to_owned(), listener)
                }),
            };
            let (client, server) = tokio::io::duplex(64 * 1024);
            tasks.spawn(serve_connection(
                TokioIo::new(server),
                |_| {},
                Arc::new(connection),
                Arc::new(proxy),
                CancellationToken::new(),
                Arc::default(),
            ));
            ask_all(client, requests).await
        })
}

/// Sends requests one after the other and wants the same kind of reply to each.
async fn ask_all(mut stream: DuplexStream, requests: u64) -> anyhow::Result<()> {
    let mut reply = vec![0; 4096];
    let mut length = None;
    for _ in 0..requests {
        stream.write_all(REQUEST.as_bytes()).await?;
        let mut received = 0;
        while received == 0 || length.is_some_and(|length| received < length) {
            received += stream.read(&mut reply[received..]).await?;
        }
        if length.is_none() {
            let text = String::from_utf8_lossy(&reply[..received]);
            ensure!(
                text.starts_with("HTTP/1.1 200 OK\r\n"),
                "not a 200:\n{text}"
            );
            ensure!(
                text.contains("gateway-outcome: answered\r\n"),
                "no verdict:\n{text}"
            );
            length = Some(received);
        }
    }
    Ok(())
}

/// Stands in for MODEN: wants the injected credential, and answers each request alike.
async fn answer_all(mut stream: DuplexStream) {
    let mut request = vec![0; 4096];
    let mut length = None;
    loop {
        let mut received = 0;
        while received == 0 || length.is_some_and(|length| received < length) {
            match stream.read(&mut request[received..]).await {
                Ok(bytes) if bytes > 0 => received += bytes,
                _ => return,
            }
        }
        if length.is_none() {
            let text = String::from_utf8_lossy(&request[..received]);
            assert!(
                text.contains("authorization: Basic YXBwOnNlY3JldA==\r\n"),
                "{text}"
            );
            assert!(!text.contains("of-the-client"), "{text}");
            assert!(text.ends_with('}'), "the request came in pieces:\n{text}");
            length = Some(received);
        }
        if stream.write_all(ANSWER.as_bytes()).await.is_err() {
            return;
        }
    }
}
