//! The composition root: a checked configuration becomes a running gateway, and ends in order.
//!
//! For: building and binding every part, starting the cores, and the drain. Never does: parse
//! arguments or print. Called by: `main` and the tests. Start reading at [`App::bind`] and
//! [`App::run_until`].
//!
//! ```text
//! control thread   listeners (accept), admin, credential and certificate loading, signals
//! core 0..n        one thread and one current_thread runtime each: connections, proxy, pool
//! access-log       the writer of finished lines
//! ```

mod certificates;
mod core;
mod credential;
mod demo;
mod inspect;
mod open_files;
mod watchdog;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use tokio::sync::Semaphore;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{self, Admin, Health};
use crate::config::{Config, ListenAddress, ServerConfig};
use crate::credentials::Credentials;
use crate::domain::Environment;
use crate::limits::Limits;
use crate::proxy::{Control, Load, Snapshot};
use crate::server::{Accepted, Listener, Renewal};
use crate::systemd::{Notifier, PassedSockets};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::Metrics;
use crate::upstream::{Breaker, Origin};

pub use crate::server::{BindError, CertificateError};
pub use crate::upstream::OriginError;
pub use demo::Demo;
pub use inspect::{Inspection, check, inspect};
pub use open_files::OpenFiles;

use self::core::Core;
use self::credential::Loading;

/// How long the cores have to end after the drain was given up.
const GIVE_UP_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the access log's output may take to open before that is told.
const OPENED_BY: Duration = Duration::from_secs(1);

/// How long the service manager has to hear of the end, from the beginning of the drain; no longer
/// than [`GIVE_UP_TIMEOUT`], so that it never makes the end later.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(1);

/// How often limits forget keys that are whole again; until then they only cost memory.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// What may come on top of the two times of the drain: [`GIVE_UP_TIMEOUT`], and a second for the
/// last lines of either log.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// A gateway with everything bound and built, not yet serving.
#[derive(Debug)]
pub struct App {
    listeners: Vec<Listener>,
    renewals: Vec<Renewal>,
    admin: Admin,
    cores: Vec<Core>,
    access_log: AccessLog,
    notifier: Arc<Notifier>,
    health: Arc<Health>,
    credentials: Arc<Credentials>,
    limits: Arc<Limits>,
    metrics: Arc<Metrics>,
    config: Arc<Config>,
    /// Cancelled when the drain begins.
    draining: CancellationToken,
    /// Cancelled when the drain has taken too long.
    give_up: CancellationToken,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainReport {
    /// Requests that were cut off at the end of the drain; each is named in the application log.
    pub unfinished: usize,
    /// Connections that were cut off, those of the requests included.
    pub cut_connections: usize,
    /// Those of the connections that had no request, not even the beginning of one.
    pub idle_connections: usize,
}

impl DrainReport {
    /// Whether nothing was cut off but connections without a request.
    pub fn is_clean(&self) -> bool {
        self.unfinished == 0 && self.cut_connections == self.idle_connections
    }
}

impl App {
    /// Builds every part and binds every listener; nothing is accepted yet.
    ///
    /// Wants a tokio runtime, which becomes the control thread's. `passed` are the sockets for
    /// listeners with a `systemd:` address. A credential that cannot be
    /// loaded now does not stop the start: the gateway comes up not ready, answers 503
    /// `credential-unavailable`, and tries again until it succeeds.
    ///
    /// # Errors
    /// When a listener cannot be bound ([`BindError`]) or its certificate not used
    /// ([`CertificateError`]), the access log not opened, or a root of trust not read
    /// ([`OriginError`]); the message names the configuration key.
    pub async fn bind(config: Config, mut passed: PassedSockets) -> anyhow::Result<Self> {
        let config = Arc::new(config);
        let origin =
            Origin::build(&config.selected().base_url, &config.upstream).map_err(|error| {
                let key = error.key();
                anyhow::Error::new(error).context(format!("failed to use {key}"))
            })?;
        let origin = Arc::new(origin);
        let credentials = Arc::new(Credentials::default());
        let metrics = Arc::new(Metrics::build(config.environment));
        let limits = Arc::new(Limits::build(
            &config.limits,
            config.upstream.limit_max,
            &metrics,
        ));
        let control = Arc::new(Control::default());
        let load = Load::build(&config.server, &metrics);
        let breaker = Breaker::build(&config.upstream.breaker, metrics.breaker());
        let breaker = Arc::new(breaker);
        let snapshot = Snapshot::build(
            &config,
            &origin,
            Arc::clone(&credentials),
            Arc::clone(&limits),
            Arc::clone(&control),
            Arc::clone(&load),
            Arc::clone(&breaker),
            &metrics,
        );
        metrics.set_config_generation(snapshot.generation());
        let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));

        let core_count = core_count(config.server.threads);
        let health = Arc::new(Health::new(core_count, Arc::clone(&credentials)));
        let room = Arc::new(Semaphore::new(0));
        let (tls, renewals) = certificates::load(&config, &metrics)?;
        let listeners = config
            .listeners
            .iter()
            .zip(tls)
            .enumerate()
            .map(|(index, (listener, tls))| {
                let metrics = metrics.listener(index);
                Listener::bind(listener, tls, &mut passed, &room, metrics).with_context(|| {
                    format!(
                        "failed to bind listeners[{index}].address {}",
                        listener.address
                    )
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let listeners: Vec<Listener> = listeners.into_iter().flatten().collect();
        for name in passed.names() {
            tracing::warn!(
                socket = name,
                "systemd passed a socket that no listener names; nobody is served there"
            );
        }
        let parts = admin::Parts {
            health: Arc::clone(&health),
            metrics: Arc::clone(&metrics),
            credentials: Arc::clone(&credentials),
            control,
            breaker: Arc::clone(&breaker),
            snapshot: Arc::clone(&snapshot),
            listeners: listeners
                .iter()
                .map(|listener| listener.address().to_string())
                .collect(),
        };
        let admin = Admin::bind(&config.admin, parts)
            .with_context(|| format!("failed to bind admin.address {}", config.admin.address))?;
        let access_log = open_access_log(&config, core_count, &metrics)
            .await
            .context("failed to open access_log.output")?;

        let notifier = Notifier::start().context("failed to start a thread")?;
        let draining = CancellationToken::new();
        let give_up = CancellationToken::new();
        let cores = (0..core_count)
            .map(|index| {
                Core::start(core::Parts {
                    index,
                    snapshot: Arc::clone(&snapshot),
                    origin: Arc::clone(&origin),
                    breaker: Arc::clone(&breaker),
                    max_upstream_connections: share(
                        config.upstream.max_connections,
                        index,
                        core_count,
                    ),
                    access_log: access_log.buffer(index),
                    held: Arc::clone(load.held()),
                    upstream_metrics: metrics.upstream(),
                    health: Arc::clone(&health),
                    draining: draining.clone(),
                    give_up: give_up.clone(),
                })
            })
            .collect::<std::io::Result<Vec<_>>>()
            .context("failed to start a core")?;
        let open_files = OpenFiles::raise(&config);
        if let Some(warning) = open_files.warning() {
            tracing::warn!("{warning}");
        }
        room.add_permits(open_files.client_room());
        Ok(Self {
            listeners,
            renewals,
            admin,
            cores,
            access_log,
            notifier: Arc::new(notifier),
            health,
            credentials,
            limits,
            metrics,
            config,
            draining,
            give_up,
        })
    }

    /// The addresses of the listeners as bound, in the order of the configuration; several of one
    /// listener where systemd passed several sockets.
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

    /// Serves until told to end, then drains: readiness fails, `server.drain_delay` passes,
    /// listeners close, running exchanges finish inside `server.drain_timeout`.
    ///
    /// `told_to_end` is awaited twice: its first end begins the drain, its second cuts it short.
    pub async fn run_until(self, mut told_to_end: impl AsyncFnMut()) -> DrainReport {
        let control = TaskTracker::new();
        let stop_control = CancellationToken::new();
        control.spawn(
            stop_control
                .clone()
                .run_until_cancelled_owned(self.admin.serve()),
        );
        let sweeping = sweep(self.limits);
        control.spawn(stop_control.clone().run_until_cancelled_owned(sweeping));
        let renewing = certificates::renew(self.renewals);
        control.spawn(stop_control.clone().run_until_cancelled_owned(renewing));
        let has_started = CancellationToken::new();
        let start = start(
            Loading::new(Arc::clone(&self.config), self.credentials, self.metrics),
            Arc::clone(&self.config),
            Arc::clone(&self.health),
            Arc::clone(&self.notifier),
            has_started.clone(),
        );
        control.spawn(stop_control.clone().run_until_cancelled_owned(start));
        let watchdog = watchdog::keep_alive(Arc::clone(&self.health), Arc::clone(&self.notifier));
        control.spawn(stop_control.clone().run_until_cancelled_owned(watchdog));

        let accepting = TaskTracker::new();
        let cores: Arc<[Core]> = self.cores.into();
        for listener in self.listeners {
            let cores = Arc::clone(&cores);
            let deliver = move |accepted| deliver(&cores, accepted);
            let (has_started, draining) = (has_started.clone(), self.draining.clone());
            accepting.spawn(async move {
                draining.run_until_cancelled(has_started.cancelled()).await;
                listener.accept_until(draining.clone(), deliver).await;
            });
        }
        accepting.close();

        told_to_end().await;
        let ServerConfig {
            drain_delay,
            drain_timeout,
            ..
        } = self.config.server;
        tracing::info!(
            drain_delay = %humantime::format_duration(drain_delay),
            drain_timeout = %humantime::format_duration(drain_timeout),
            "draining"
        );
        self.health.draining();
        let stopping = self.notifier.stopping("draining");
        let stopping = tokio::time::timeout(NOTIFY_TIMEOUT, stopping);
        let close = async || {
            self.draining.cancel();
            accepting.wait().await;
            for core in cores.iter() {
                core.close();
            }
        };
        let finished = async || {
            for core in cores.iter() {
                core.finished().await;
            }
        };
        let drained = async {
            tokio::time::sleep(drain_delay).await;
            let drained = async {
                close().await;
                finished().await;
            };
            tokio::time::timeout(drain_timeout, drained).await.is_ok()
        };
        let is_drained = tokio::select! {
            is_drained = drained => is_drained,
            () = told_to_end() => {
                tracing::warn!("told to end a second time; the drain is cut short");
                false
            }
        };
        if !is_drained {
            // Before anything is given up: what a core has not been handed must not be taken out of
            // a socket. Accepting ends at its next turn, whatever the cores do.
            close().await;
            self.give_up.cancel();
            // Cores that turn end at once; for one that is stuck nothing more can be done.
            let _ = tokio::time::timeout(GIVE_UP_TIMEOUT, finished()).await;
        }
        // It began with the drain: in the normal case it was over long ago.
        let _ = stopping.await;
        let mut report = DrainReport::default();
        for cut_off in cores.iter().map(Core::join) {
            report.unfinished += cut_off.requests;
            report.cut_connections += cut_off.connections;
            report.idle_connections += cut_off.idle_connections;
        }
        if report == DrainReport::default() {
            tracing::info!("drained");
        } else if report.is_clean() {
            tracing::info!(
                connections = report.cut_connections,
                "drained; connections without a request were still open"
            );
        } else {
            tracing::warn!(
                requests = report.unfinished,
                connections = report.cut_connections,
                idle = report.idle_connections,
                "the drain ended before every request did"
            );
        }
        stop_control.cancel();
        control.close();
        control.wait().await;
        self.access_log.close();
        report
    }
}

/// Starts the access log, on a thread that may block: a FIFO opens when somebody reads it, a file on a
/// mount that is gone when that is back.
async fn open_access_log(
    config: &Config,
    cores: usize,
    metrics: &Metrics,
) -> std::io::Result<AccessLog> {
    let output = config.access_log.output.clone();
    let dropped = metrics.access_log_dropped.clone();
    let mut opening =
        tokio::task::spawn_blocking(move || AccessLog::start(&output, cores, dropped));
    let opened = match tokio::time::timeout(OPENED_BY, &mut opening).await {
        Ok(opened) => opened,
        Err(_) => {
            tracing::warn!(
                "access_log.output is still being opened, and the start waits for it; a FIFO needs \
                 a reader"
            );
            opening.await
        }
    };
    opened?
}

/// Tries to load the credential, lets the listeners accept, says so, and goes on trying if need be.
///
/// The first attempt is waited for: who waits in the queue of a socket that outlived the last process
/// must not be answered 503 for coming a moment too early. More are not: a failed start would not
/// bring the credential. Once the drain has begun nothing is said any more.
async fn start(
    mut loading: Loading,
    config: Arc<Config>,
    health: Arc<Health>,
    notifier: Arc<Notifier>,
    has_started: CancellationToken,
) {
    let environment = config.environment;
    let has_credential = loading.attempt().await;
    has_started.cancel();
    health.serving();
    // Told to end in the meantime, nobody wants to hear of a start any more.
    if !health.is_draining() {
        announce(&config.server, environment, has_credential, &notifier);
    }
    if !has_credential {
        loading.keep_trying().await;
        if !health.is_draining() {
            notifier.status(&format!("serving {environment}"));
        }
    }
}

/// Says to the log and the service manager that the start is over.
fn announce(
    server: &ServerConfig,
    environment: Environment,
    has_credential: bool,
    notifier: &Notifier,
) {
    // What a supervisor must grant after SIGTERM before it kills.
    let ends_within = server.drain_delay + server.drain_timeout + LAST_WORDS;
    tracing::info!(
        %environment,
        ends_within = %humantime::format_duration(ends_within),
        "serving"
    );
    let wanting = match has_credential {
        true => "",
        false => ", waiting for the credential",
    };
    notifier.ready(&format!("serving {environment}{wanting}"));
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

/// Forgets, again and again, whom the limits need not remember.
async fn sweep(limits: Arc<Limits>) {
    let mut rounds = tokio::time::interval(SWEEP_EVERY);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        limits.sweep().await;
    }
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
