//! The composition root: a checked configuration becomes a running gateway, and ends in order.
//!
//! For: building and binding every part, starting the cores, and the drain. Never does: parse
//! arguments or print. Called by: `main` and the tests. Start reading at [`App::bind`] and
//! [`App::run_until`].
//!
//! ```text
//! control thread   listeners (accept), admin, credential loading, signals
//! core 0..n        one thread and one current_thread runtime each: connections, proxy, pool
//! access-log       the writer of finished lines
//! ```

mod core;
mod credential;
mod demo;
mod inspect;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{Admin, Health};
use crate::config::{Config, ListenAddress};
use crate::credentials::Credentials;
use crate::proxy::Snapshot;
use crate::server::{Accepted, Listener};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::Metrics;
use crate::upstream::Origin;

pub use crate::upstream::OriginError;
pub use demo::Demo;
pub use inspect::{Inspection, check, inspect};

use self::core::Core;

/// How long the cores have to end after the drain was given up.
const GIVE_UP_TIMEOUT: Duration = Duration::from_secs(1);

/// A gateway with everything bound and built, not yet serving.
#[derive(Debug)]
pub struct App {
    listeners: Vec<Listener>,
    admin: Admin,
    cores: Vec<Core>,
    access_log: AccessLog,
    health: Arc<Health>,
    credentials: Arc<Credentials>,
    config: Arc<Config>,
    /// Cancelled when the drain begins.
    draining: CancellationToken,
    /// Cancelled when the drain has taken too long.
    give_up: CancellationToken,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainReport {
    /// Connections and exchanges that were cut off at the end of `server.drain_timeout`.
    pub unfinished: usize,
}

impl App {
    /// Builds every part and binds every listener; nothing is accepted yet.
    ///
    /// Wants a tokio runtime, which becomes the control thread's. A credential that cannot be
    /// loaded now does not stop the start: the gateway comes up not ready, answers 503
    /// `credential-unavailable`, and tries again until it succeeds.
    ///
    /// # Errors
    /// When a listener cannot be bound, the access log not opened, or a root of trust not read
    /// ([`OriginError`]); the message names the configuration key.
    pub async fn bind(config: Config) -> anyhow::Result<Self> {
        let config = Arc::new(config);
        let origin =
            Origin::build(&config.selected().base_url, &config.upstream).map_err(|error| {
                let key = error.key();
                anyhow::Error::new(error).context(format!("failed to use {key}"))
            })?;
        let origin = Arc::new(origin);
        let credentials = Arc::new(Credentials::default());
        let snapshot = Snapshot::build(&config, &origin, Arc::clone(&credentials));
        let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));

        let metrics = Arc::new(Metrics::build(&config));
        let core_count = core_count(config.server.threads);
        let health = Arc::new(Health::new(core_count, Arc::clone(&credentials)));
        let listeners = config
            .listeners
            .iter()
            .enumerate()
            .map(|(index, listener)| {
                Listener::bind(listener).with_context(|| {
                    format!(
                        "failed to bind listeners[{index}].address {}",
                        listener.address
                    )
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let admin = Admin::bind(config.admin.address, Arc::clone(&health), metrics)
            .await
            .with_context(|| format!("failed to bind admin.address {}", config.admin.address))?;
        let access_log = AccessLog::start(&config.access_log.output, core_count)
            .context("failed to open access_log.output")?;

        let draining = CancellationToken::new();
        let give_up = CancellationToken::new();
        let cores = (0..core_count)
            .map(|index| {
                Core::start(core::Parts {
                    index,
                    snapshot: Arc::clone(&snapshot),
                    origin: Arc::clone(&origin),
                    max_upstream_connections: share(
                        config.upstream.max_connections,
                        index,
                        core_count,
                    ),
                    access_log: access_log.buffer(index),
                    health: Arc::clone(&health),
                    draining: draining.clone(),
                    give_up: give_up.clone(),
                })
            })
            .collect::<std::io::Result<Vec<_>>>()
            .context("failed to start a core")?;
        Ok(Self {
            listeners,
            admin,
            cores,
            access_log,
            health,
            credentials,
            config,
            draining,
            give_up,
        })
    }

    /// The addresses of the listeners as bound, in the order of the configuration.
    pub fn addresses(&self) -> Vec<ListenAddress> {
        self.listeners
            .iter()
            .map(|listener| listener.address().clone())
            .collect()
    }

    /// The address of the admin listener as bound.
    ///
    /// # Errors
    /// When the kernel no longer knows it.
    pub fn admin_address(&self) -> std::io::Result<SocketAddr> {
        self.admin.address()
    }

    /// Serves until `shutdown` ends, then drains: readiness fails, listeners close, running
    /// exchanges finish inside `server.drain_timeout`.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> DrainReport {
        let control = TaskTracker::new();
        let stop_control = CancellationToken::new();
        control.spawn(
            stop_control
                .clone()
                .run_until_cancelled_owned(self.admin.serve()),
        );
        let loading = credential::keep_loading(Arc::clone(&self.config), self.credentials);
        control.spawn(stop_control.clone().run_until_cancelled_owned(loading));

        let accepting = TaskTracker::new();
        let cores: Arc<[Core]> = self.cores.into();
        for listener in self.listeners {
            let cores = Arc::clone(&cores);
            let deliver = move |accepted| deliver(&cores, accepted);
            accepting.spawn(listener.accept_until(self.draining.clone(), deliver));
        }
        accepting.close();
        self.health.serving();
        tracing::info!(environment = %self.config.environment, "serving");

        shutdown.await;
        let deadline = tokio::time::Instant::now() + self.config.server.drain_timeout;
        tracing::info!(
            drain_timeout = %humantime::format_duration(self.config.server.drain_timeout),
            "draining"
        );
        self.health.draining();
        self.draining.cancel();
        accepting.wait().await;
        for core in cores.iter() {
            core.close();
        }
        let finished = async || {
            for core in cores.iter() {
                core.finished().await;
            }
        };
        if tokio::time::timeout_at(deadline, finished()).await.is_err() {
            self.give_up.cancel();
            // Cores that turn end at once; for one that is stuck nothing more can be done.
            let _ = tokio::time::timeout(GIVE_UP_TIMEOUT, finished()).await;
        }
        let unfinished = cores.iter().map(Core::join).sum();
        if unfinished > 0 {
            tracing::warn!(unfinished, "the drain ended before every exchange did");
        } else {
            tracing::info!("drained");
        }
        stop_control.cancel();
        control.close();
        control.wait().await;
        self.access_log.close();
        DrainReport { unfinished }
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Gives a connection to the core that has the fewest.
///
/// The kernel's own spreading (`SO_REUSEPORT`) hashes a handful of long-lived clients unevenly and
/// does not exist for Unix sockets.
fn deliver(cores: &[Core], accepted: Accepted) {
    if let Some(core) = cores.iter().min_by_key(|core| core.connections()) {
        core.serve(accepted);
    }
}

/// One core's share of a number that is configured for the process; at least 1.
fn share(total: usize, core: usize, cores: usize) -> usize {
    (total / cores + usize::from(core < total % cores)).max(1)
}

fn core_count(threads: usize) -> usize {
    match threads {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        threads => threads,
    }
}
