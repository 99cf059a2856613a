//! Every metric of the gateway, in one file: what exists, with which labels, and how it is shown.
//!
//! A metric is a documented field here and nowhere else. Rooms are handed their handles, resolved
//! once when the configuration is loaded; nothing on a request's way looks a label up. Label values
//! come from closed sets (routes, policies, listeners of the configuration; words of the code),
//! never from what a client sent, so the number of series is fixed when the process starts.
//!
//! All counts are shared by the cores: one relaxed addition each, a histogram five.
//! `docs/metrics.md` is made from here; a behaviour test says how when the two differ.

mod reading;

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use crate::config::{LimitMode, NO_ROUTE, UPSTREAM_LIMIT};
use crate::domain::{Environment, Outcome};
use reading::{ReadElsewhere, Readings};

/// The media type of [`Metrics::render`].
///
/// # Source
/// Prometheus text exposition format, version 0.0.4.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of durations, in seconds.
///
/// From a millisecond, below which only refusals and reused local connections are, to a minute,
/// the longest exchange by default. Dense between 10 ms and 1 s, where a payments API answers, so
/// that a quantile there is true to a factor of 2.5. What ran into `upstream.response_timeout`
/// (30 s by default) is just above 30, what ran into `exchange_timeout` (60 s) above 60.
const SECONDS: [f64; 14] = [
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// All metrics of one process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Whether there is a credential to send, as 0 or 1.
    pub credentials_available: IntGauge,
    /// Whether an operator has stopped the forwarding, as 0 or 1.
    pub paused: IntGauge,
    config_generation: IntGauge,
    /// Access-log lines that were lost, because a buffer was full or the output failed.
    pub access_log_dropped: IntCounter,
    proxy_requests: IntCounterVec,
    proxy_request_duration: HistogramVec,
    proxy_requests_in_flight: IntGauge,
    proxy_request_bytes: IntCounter,
    proxy_reply_bytes: IntCounter,
    proxy_errors: IntCounterVec,
    proxy_shed: IntCounterVec,
    upstream: Arc<UpstreamMetrics>,
    breaker: BreakerMetrics,
    server_connections: IntGaugeVec,
    server_connections_accepted: IntCounterVec,
    server_connections_refused: IntCounterVec,
    server_accept_failures: IntCounterVec,
    server_tls_failures: IntCounterVec,
    server_certificate_changes: IntCounterVec,
    server_certificate_expiry: IntGaugeVec,
    limits_admitted: IntCounterVec,
    limits_denied: IntCounterVec,
    limits_lost_races: IntCounterVec,
    limits_overflows: IntCounterVec,
    limits_keys: IntGaugeVec,
}

/// The handles of one configuration generation's requests.
#[derive(Debug)]
pub struct ProxyMetrics {
    /// Requests that came in and whose access-log line is not written yet.
    pub in_flight: IntGauge,
    request_bytes: IntCounter,
    reply_bytes: IntCounter,
    /// In the order of the configuration's routes.
    routes: Vec<RouteMetrics>,
    no_route: RouteMetrics,
    /// In the order in which the codes were given.
    errors: Vec<IntCounter>,
}

/// What is counted of a request that has ended; the same as its access-log line says.
#[derive(Debug)]
pub struct EndedRequest {
    /// The route's position in the configuration, if there was one.
    pub route: Option<u16>,
    /// The status of the reply.
    pub status: StatusCode,
    /// What became of it at MODEN.
    pub outcome: Outcome,
    /// The position of the error's code among those given to [`Metrics::proxy`], if the reply was
    /// the gateway's own.
    pub error: Option<usize>,
    /// From its head to its line.
    pub took: Duration,
    /// Bytes of its body that came in.
    pub request_bytes: u64,
    /// Bytes of the reply's body.
    pub reply_bytes: u64,
}

/// The handles of one route.
#[derive(Debug)]
struct RouteMetrics {
    /// By class of status, then by outcome.
    requests: [[IntCounter; OUTCOMES.len()]; STATUS_CLASSES.len()],
    duration: Histogram,
}

/// Values of the label `status`; the first stands for what has no class of its own.
const STATUS_CLASSES: [&str; 5] = ["other", "2xx", "3xx", "4xx", "5xx"];

/// Values of the label `outcome`.
const OUTCOMES: [Outcome; 3] = [Outcome::NotSent, Outcome::Answered, Outcome::Unknown];

/// The handles of the way to MODEN.
#[derive(Debug)]
pub struct UpstreamMetrics {
    /// How long requests waited for a connection, those that had to.
    pub queue: Histogram,
    /// How long DNS, TCP and the egress proxy's tunnel took, each time a connection was opened.
    pub connect: Histogram,
    /// How long the TLS handshake took, each time a connection was opened.
    pub tls: Histogram,
    /// From the last byte of the request to the final head of the answer.
    pub response: Histogram,
    /// From the head of the answer to its last byte.
    pub answer: Histogram,
    /// Open connections that carry an exchange, or are about to.
    pub busy: IntGauge,
    /// Open connections that wait for a request.
    pub idle: IntGauge,
    /// Connections opened.
    pub opened: IntCounter,
    /// Requests handed to a connection that had served one before.
    pub reused: IntCounter,
    /// Idle connections given up because they were not proven recently enough.
    pub aged: IntCounter,
    /// Idle connections given up because MODEN had closed them, or sent what nobody asked for.
    pub ended: IntCounter,
    /// Attempts to connect that failed.
    pub connect_failures: ConnectFailures,
}

/// Failures to connect, by the step that failed.
#[derive(Debug)]
pub struct ConnectFailures {
    /// The name did not resolve.
    pub dns: IntCounter,
    /// Every address refused.
    pub refused: IntCounter,
    /// No address could be reached, for another reason.
    pub unreachable: IntCounter,
    /// A deadline passed.
    pub timeout: IntCounter,
    /// The egress proxy opened no tunnel.
    pub tunnel: IntCounter,
    /// MODEN's certificate was not accepted.
    pub certificate: IntCounter,
    /// The TLS handshake failed for another reason.
    pub tls: IntCounter,
}

/// The handles of the process's load.
#[derive(Clone, Debug)]
pub struct LoadMetrics {
    /// Requests turned away because `server.max_in_flight` others were on their way.
    pub shed_in_flight: IntCounter,
    /// Requests turned away because `server.max_held_bytes` were held.
    pub shed_held_bytes: IntCounter,
}

/// The circuit breaker's handles.
#[derive(Clone, Debug)]
pub struct BreakerMetrics {
    /// What it does: 0 closed or turned off, 1 half-open, 2 open.
    pub state: IntGauge,
    /// Turns to open, from closed or from half-open.
    pub openings: IntCounter,
}

/// One listener's handles.
#[derive(Clone, Debug)]
pub struct ListenerMetrics {
    /// Connections open at present.
    pub connections: IntGauge,
    /// Connections accepted.
    pub accepted: IntCounter,
    /// Connections closed at once, because their address had as many as it may have.
    pub refused: IntCounter,
    /// Calls to accept that failed, such as for want of file descriptors.
    pub accept_failures: IntCounter,
}

/// The handles of a listener that speaks TLS.
#[derive(Clone, Debug)]
pub struct ListenerTlsMetrics {
    /// When the certificate in use ends, in seconds since 1970.
    pub expiry: IntGauge,
    /// Changed certificates that were taken up.
    pub renewed: IntCounter,
    /// Changed certificates that were refused.
    pub refused: IntCounter,
    /// Handshakes that failed.
    pub failures: HandshakeFailures,
}

/// Failures of a listener's TLS handshakes, by how they ended.
#[derive(Clone, Debug)]
pub struct HandshakeFailures {
    /// `tls_timeout` passed, or the drain did not wait.
    pub timeout: IntCounter,
    /// The client left.
    pub closed: IntCounter,
    /// What the client sent was no TLS, or none that is spoken here, or it refused the certificate.
    pub protocol: IntCounter,
}

/// One policy's handles.
#[derive(Clone, Debug)]
pub struct PolicyMetrics {
    /// Requests that had room in this policy and were admitted by all.
    pub admitted: IntCounter,
    /// Requests that it denied, or with `mode = "observe"` admitted ones that it had no room for.
    pub denied: IntCounter,
    /// Of the denied, those that had room when looked at and none when taking it, because another
    /// request came between.
    pub lost_races: IntCounter,
    /// Requests whose key was new when `max_keys` were there already, and shared an allowance.
    pub overflows: IntCounter,
    /// Keys kept, as of the last sweep.
    pub keys: IntGauge,
}

/// One of the things that a gauge counts; dropping it counts it out.
#[derive(Debug)]
pub struct Counted(IntGauge);

impl Metrics {
    /// Makes all metrics, with the environment as a label of each.
    pub fn build(environment: Environment) -> Self {
        let labels = [("environment".to_owned(), environment.as_str().to_owned())];
        let registry =
            Registry::new_custom(None, Some(labels.into())).expect("one label with a valid name");
        build_info(&registry);
        registry
            .register(Box::new(Readings::new()))
            .expect("names of their own");
        let listener = &["listener"];
        let policy = &["policy", "mode"];
        Self {
            credentials_available: gauge(
                &registry,
                "gateway_credentials_available",
                "Whether there is a credential to send: 1, or 0 while nothing is forwarded.",
            ),
            paused: gauge(
                &registry,
                "gateway_paused",
                "Whether an operator has stopped the forwarding: 1 from pause to resume, else 0.",
            ),
            config_generation: gauge(
                &registry,
                "gateway_config_generation",
                "The generation of the configuration in use, counted from 1.",
            ),
            access_log_dropped: counter(
                &registry,
                "gateway_access_log_dropped_lines_total",
                "Access-log lines that were lost, because a buffer was full or the output failed.",
            ),
            proxy_requests: counters(
                &registry,
                "gateway_proxy_requests_total",
                "Requests that have ended, by route (none where no route matched), class of the \
                 reply's status, and outcome; as many as access-log lines.",
                &["route", "status", "outcome"],
            ),
            proxy_request_duration: histograms(
                &registry,
                "gateway_proxy_request_duration_seconds",
                "From a request's head to its access-log line, refusals included.",
                &["route"],
            ),
            proxy_requests_in_flight: gauge(
                &registry,
                "gateway_proxy_requests_in_flight",
                "Requests that came in and have not ended, whether their client is still there or \
                 not.",
            ),
            proxy_request_bytes: counter(
                &registry,
                "gateway_proxy_request_bytes_total",
                "Bytes of the bodies of requests; of a held one that broke off, none.",
            ),
            proxy_reply_bytes: counter(
                &registry,
                "gateway_proxy_reply_bytes_total",
                "Bytes of the bodies of replies.",
            ),
            proxy_errors: counters(
                &registry,
                "gateway_proxy_errors_total",
                "Requests that ended with an error of the gateway's own, by its code.",
                &["code"],
            ),
            proxy_shed: counters(
                &registry,
                "gateway_proxy_shed_requests_total",
                "Requests answered 503 overloaded because the process was full: server.max_in_flight \
                 requests on their way, or server.max_held_bytes held.",
                &["reason"],
            ),
            upstream: Arc::new(UpstreamMetrics::build(&registry)),
            breaker: BreakerMetrics {
                state: gauge(
                    &registry,
                    "gateway_upstream_breaker_state",
                    "The circuit breaker: 0 closed or turned off, 1 half-open, 2 open.",
                ),
                openings: counter(
                    &registry,
                    "gateway_upstream_breaker_openings_total",
                    "How often the circuit breaker opened, the times included when a request that was \
                     let through to try failed; the requests that it refused have the code \
                     upstream-unavailable in gateway_proxy_errors_total.",
                ),
            },
            server_connections: gauges(
                &registry,
                "gateway_server_connections",
                "Client connections open at present, by the listener's position in the \
                 configuration, from 0.",
                listener,
            ),
            server_connections_accepted: counters(
                &registry,
                "gateway_server_connections_accepted_total",
                "Client connections accepted.",
                listener,
            ),
            server_connections_refused: counters(
                &registry,
                "gateway_server_connections_refused_total",
                "Client connections closed as soon as they were accepted, because their address \
                 had max_connections_per_address.",
                listener,
            ),
            server_accept_failures: counters(
                &registry,
                "gateway_server_accept_failures_total",
                "Client connections that could not be accepted, such as for want of file \
                 descriptors.",
                listener,
            ),
            server_tls_failures: counters(
                &registry,
                "gateway_server_tls_failures_total",
                "TLS handshakes with clients that failed: timeout (tls_timeout passed), closed (the \
                 client left), protocol (no TLS, no version or suite in common, or the client \
                 refused the certificate). TLS listeners only.",
                &["listener", "reason"],
            ),
            server_certificate_changes: counters(
                &registry,
                "gateway_server_certificate_changes_total",
                "Changes of a listener's certificate or key on disk: renewed (taken up) or refused \
                 (the log says why; the old one stays in use). TLS listeners only.",
                &["listener", "result"],
            ),
            server_certificate_expiry: gauges(
                &registry,
                "gateway_server_certificate_expiry_timestamp_seconds",
                "When the certificate in use ends, or one of those behind it, in seconds since \
                 1970. TLS listeners only.",
                listener,
            ),
            limits_admitted: counters(
                &registry,
                "gateway_limits_admitted_total",
                "Requests that had room in a policy and were admitted by all.",
                policy,
            ),
            limits_denied: counters(
                &registry,
                "gateway_limits_denied_total",
                "Requests that had no room in a policy. A denied one counts once: in the policy that \
                 denied it, which is the one with the longest wait; one that was admitted counts in \
                 each policy of mode observe that had no room. upstream-limit, which is MODEN's own, \
                 has denials only.",
                policy,
            ),
            limits_lost_races: counters(
                &registry,
                "gateway_limits_lost_races_total",
                "Denials of requests that had room when looked at and none when taking it.",
                policy,
            ),
            limits_overflows: counters(
                &registry,
                "gateway_limits_overflows_total",
                "Requests that shared an allowance because the policy had max_keys keys.",
                policy,
            ),
            limits_keys: gauges(
                &registry,
                "gateway_limits_keys",
                "Keys that a policy keeps; up to a second late.",
                policy,
            ),
            registry,
        }
    }

    /// Notes which generation of the configuration is in use, counted from 1.
    pub fn set_config_generation(&self, generation: u64) {
        let generation = i64::try_from(generation).unwrap_or(i64::MAX);
        self.config_generation.set(generation);
    }

    /// The handles for the requests of one configuration generation: its routes in their order,
    /// and the codes of the gateway's own errors.
    pub fn proxy<'n>(
        &self,
        routes: impl Iterator<Item = &'n str>,
        codes: impl Iterator<Item = &'static str>,
    ) -> ProxyMetrics {
        ProxyMetrics {
            in_flight: self.proxy_requests_in_flight.clone(),
            request_bytes: self.proxy_request_bytes.clone(),
            reply_bytes: self.proxy_reply_bytes.clone(),
            routes: routes.map(|name| self.route(name)).collect(),
            no_route: self.route(NO_ROUTE),
            errors: codes
                .map(|code| self.proxy_errors.with_label_values(&[code]))
                .collect(),
        }
    }

    fn route(&self, name: &str) -> RouteMetrics {
        RouteMetrics {
            requests: STATUS_CLASSES.map(|class| {
                OUTCOMES.map(|outcome| {
                    self.proxy_requests
                        .with_label_values(&[name, class, outcome.as_str()])
                })
            }),
            duration: self.proxy_request_duration.with_label_values(&[name]),
        }
    }

    /// The handles of the way to MODEN.
    pub fn upstream(&self) -> Arc<UpstreamMetrics> {
        Arc::clone(&self.upstream)
    }

    /// The handles of the process's load.
    pub fn load(&self) -> LoadMetrics {
        LoadMetrics {
            shed_in_flight: self.proxy_shed.with_label_values(&["in_flight"]),
            shed_held_bytes: self.proxy_shed.with_label_values(&["held_bytes"]),
        }
    }

    /// Takes up two numbers that the load keeps by itself, to be read at each scrape: requests
    /// admitted, and bytes held. To be called once.
    pub fn read_load(
        &self,
        admitted: impl Fn() -> u64 + Send + Sync + 'static,
        held_bytes: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        self.read(
            "gateway_proxy_admitted_requests",
            "Requests from their admission to the end of their reply; server.max_in_flight bounds \
             them.",
            admitted,
        );
        self.read(
            "gateway_proxy_held_bytes",
            "Bytes of request bodies and answers held in memory, room promised to bodies that are \
             still to come included; at server.max_held_bytes new requests are turned away.",
            held_bytes,
        );
    }

    fn read(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        let collector = Box::new(ReadElsewhere::new(name, help, read));
        self.registry
            .register(collector)
            .expect("a name of its own");
    }

    /// The handles of the circuit breaker.
    pub fn breaker(&self) -> BreakerMetrics {
        self.breaker.clone()
    }

    /// The handles of one listener, by its position in the configuration: an address is nobody's
    /// business here.
    pub fn listener(&self, index: usize) -> ListenerMetrics {
        let labels = &[index.to_string()];
        ListenerMetrics {
            connections: self.server_connections.with_label_values(labels),
            accepted: self.server_connections_accepted.with_label_values(labels),
            refused: self.server_connections_refused.with_label_values(labels),
            accept_failures: self.server_accept_failures.with_label_values(labels),
        }
    }

    /// The handles of a listener that speaks TLS, by its position in the configuration.
    pub fn listener_tls(&self, index: usize) -> ListenerTlsMetrics {
        let index = index.to_string();
        let failure = |reason| {
            self.server_tls_failures
                .with_label_values(&[index.as_str(), reason])
        };
        let change = |result| {
            self.server_certificate_changes
                .with_label_values(&[index.as_str(), result])
        };
        ListenerTlsMetrics {
            expiry: self
                .server_certificate_expiry
                .with_label_values(&[index.as_str()]),
            renewed: change("renewed"),
            refused: change("refused"),
            failures: HandshakeFailures {
                timeout: failure("timeout"),
                closed: failure("closed"),
                protocol: failure("protocol"),
            },
        }
    }

    /// Counts the denials while MODEN wants to be left alone.
    pub fn upstream_limit_denied(&self) -> IntCounter {
        self.limits_denied
            .with_label_values(&[UPSTREAM_LIMIT, LimitMode::Enforce.as_str()])
    }

    /// The handles of one policy.
    pub fn policy(&self, name: &str, mode: LimitMode) -> PolicyMetrics {
        let labels = &[name, mode.as_str()];
        PolicyMetrics {
            admitted: self.limits_admitted.with_label_values(labels),
            denied: self.limits_denied.with_label_values(labels),
            lost_races: self.limits_lost_races.with_label_values(labels),
            overflows: self.limits_overflows.with_label_values(labels),
            keys: self.limits_keys.with_label_values(labels),
        }
    }

    /// All metrics as text, to be sent as [`CONTENT_TYPE`].
    ///
    /// Reads a few files of `/proc/self` and allocates: not for a core.
    pub fn render(&self) -> String {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .expect("names and labels were checked when the metrics were made")
    }
}

impl ProxyMetrics {
    /// Counts a request that has ended.
    pub fn count(&self, request: &EndedRequest) {
        self.in_flight.dec();
        self.request_bytes.inc_by(request.request_bytes);
        self.reply_bytes.inc_by(request.reply_bytes);
        let route = request
            .route
            .and_then(|index| self.routes.get(usize::from(index)));
        let route = route.unwrap_or(&self.no_route);
        route.requests[status_class(request.status)][outcome_index(request.outcome)].inc();
        route.duration.observe(request.took.as_secs_f64());
        if let Some(error) = request.error.and_then(|code| self.errors.get(code)) {
            error.inc();
        }
    }
}

/// The position in [`STATUS_CLASSES`].
fn status_class(status: StatusCode) -> usize {
    match status.as_u16() {
        200..300 => 1,
        300..400 => 2,
        400..500 => 3,
        500..600 => 4,
        _ => 0,
    }
}

/// The position in [`OUTCOMES`].
fn outcome_index(outcome: Outcome) -> usize {
    match outcome {
        Outcome::NotSent => 0,
        Outcome::Answered => 1,
        Outcome::Unknown => 2,
    }
}

impl UpstreamMetrics {
    fn build(registry: &Registry) -> Self {
        let phases = histograms(
            registry,
            "gateway_upstream_phase_duration_seconds",
            "Steps of exchanges, as far as they succeeded: queue (only requests that had to wait \
             for a connection), connect (DNS, TCP and tunnel of new connections), tls (of new \
             connections), response (last byte of the request to the final head of the answer), \
             answer (its head to its last byte).",
            &["phase"],
        );
        let phase = |name| phases.with_label_values(&[name]);
        let connections = gauges(
            registry,
            "gateway_upstream_connections",
            "Connections to MODEN open at present: busy with an exchange, or idle.",
            &["state"],
        );
        let stale = counters(
            registry,
            "gateway_upstream_stale_connections_total",
            "Idle connections that were given up: aged (not proven within upstream.reuse_within) \
             or ended (MODEN had closed them, or sent what nobody asked for).",
            &["reason"],
        );
        let failures = counters(
            registry,
            "gateway_upstream_connect_failures_total",
            "Connections to MODEN that could not be opened, by the step that failed.",
            &["reason"],
        );
        let failure = |reason| failures.with_label_values(&[reason]);
        Self {
            queue: phase("queue"),
            connect: phase("connect"),
            tls: phase("tls"),
            response: phase("response"),
            answer: phase("answer"),
            busy: connections.with_label_values(&["busy"]),
            idle: connections.with_label_values(&["idle"]),
            opened: counter(
                registry,
                "gateway_upstream_connections_opened_total",
                "Connections to MODEN opened.",
            ),
            reused: counter(
                registry,
                "gateway_upstream_connections_reused_total",
                "Requests handed to a connection that had served one before.",
            ),
            aged: stale.with_label_values(&["aged"]),
            ended: stale.with_label_values(&["ended"]),
            connect_failures: ConnectFailures {
                dns: failure("dns"),
                refused: failure("refused"),
                unreachable: failure("unreachable"),
                timeout: failure("timeout"),
                tunnel: failure("tunnel"),
                certificate: failure("certificate"),
                tls: failure("tls"),
            },
        }
    }
}

impl Counted {
    /// Counts one more.
    pub fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Says which program this is; the value is always 1.
fn build_info(registry: &Registry) {
    let info = gauges(
        registry,
        "gateway_build_info",
        "The version and commit of the program; always 1.",
        &["version", "commit"],
    );
    info.with_label_values(&[env!("CARGO_PKG_VERSION"), env!("MODEN_GATEWAY_COMMIT")])
        .set(1);
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    register(registry, IntCounter::new(name, help))
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels))
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    register(registry, IntGauge::new(name, help))
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    register(registry, IntGaugeVec::new(Opts::new(name, help), labels))
}

fn histograms(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
    let options = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
    register(registry, HistogramVec::new(options, labels))
}

fn register<M: Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<M>,
) -> M {
    let metric = metric.expect("a valid name");
    let handle = Box::new(metric.clone());
    registry.register(handle).expect("a name of its own");
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_and_lists_agree() {
        for (position, outcome) in OUTCOMES.into_iter().enumerate() {
            assert_eq!(outcome_index(outcome), position);
        }
        for (code, class) in [
            (200, "2xx"),
            (302, "3xx"),
            (412, "4xx"),
            (599, "5xx"),
            (999, "other"),
        ] {
            let status = StatusCode::from_u16(code).expect("a status");
            assert_eq!(STATUS_CLASSES[status_class(status)], class);
        }
    }

    #[test]
    fn what_is_counted_in_is_counted_out() {
        let gauge = IntGauge::new("connections", "Connections.").expect("a valid name");
        let counted = (Counted::new(&gauge), Counted::new(&gauge));
        assert_eq!(gauge.get(), 2);
        drop(counted);
        assert_eq!(gauge.get(), 0);
    }
}
