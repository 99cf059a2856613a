//! What the program says of itself: to stderr, as text on a terminal, else as JSON.

use std::io::{self, IsTerminal};
use std::sync::OnceLock;

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::config::{Level, LogConfig, LogFormat};

/// Lines that may wait for a reader of stderr that is slow; beyond it they are dropped.
const BUFFERED_LINES: usize = 4_096;

/// Counts the lines that were dropped; one for the process, as its log is.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// Lines that were lost since the start, because the reader of stderr was slow.
pub fn dropped_lines() -> usize {
    DROPPED.get().map_or(0, ErrorCounter::dropped_lines)
}

/// Keeps the application log running; dropping it writes what still waits, for a second at most.
#[derive(Debug)]
pub struct LogGuard {
    _writer: WorkerGuard,
}

/// Starts the application log for the whole process, with a thread that writes it, so that no
/// request ever waits for stderr, and sends panics there, too. A second call changes nothing else.
///
/// `rust_log` is the value of `RUST_LOG`, which wins over `log.level` where it can be read; it
/// takes the form `level` or `module=level,…`.
pub fn start(config: &LogConfig, rust_log: Option<&str>) -> LogGuard {
    let (stderr, writer) = NonBlockingBuilder::default()
        .buffered_lines_limit(BUFFERED_LINES)
        .lossy(true)
        .thread_name("log")
        .finish(io::stderr());
    let is_json = match config.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !io::stderr().is_terminal(),
    };
    let dropped = stderr.error_counter();
    let lines = fmt::layer().with_writer(stderr);
    let lines = if is_json {
        lines.json().flatten_event(true).boxed()
    } else {
        lines
            .with_target(false)
            .with_ansi(io::stderr().is_terminal())
            .boxed()
    };
    let (targets, is_readable) = targets(config.level, rust_log);
    // Only the first subscriber of a process counts; tests start several gateways in one.
    let started = tracing_subscriber::registry()
        .with(lines.with_filter(targets))
        .try_init();
    if started.is_ok() {
        DROPPED.get_or_init(|| dropped);
        if !is_readable {
            tracing::warn!(
                "RUST_LOG cannot be read as `level` or `module=level,…`; log.level is used"
            );
        }
    }
    // The default hook would write to stderr by itself, and wait for it.
    std::panic::set_hook(Box::new(|panic| {
        let location = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or_default();
        tracing::error!(
            panic.location = location,
            "a fault of the program: {message}"
        );
    }));
    LogGuard { _writer: writer }
}

fn targets(level: Level, rust_log: Option<&str>) -> (Targets, bool) {
    let configured = Targets::new().with_default(level_filter(level));
    match rust_log
        .filter(|text| !text.is_empty())
        .map(str::parse::<Targets>)
    {
        None => (configured, true),
        Some(Ok(targets)) => (targets, true),
        Some(Err(_)) => (configured, false),
    }
}

fn level_filter(level: Level) -> LevelFilter {
    match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level as TracingLevel;

    use super::*;

    #[test]
    fn rust_log_wins_over_the_configuration() {
        let (targets, is_readable) = targets(Level::Error, Some("warn,moden_gateway=trace"));
        assert!(is_readable);
        assert!(targets.would_enable("moden_gateway::app", &TracingLevel::TRACE));
        assert!(!targets.would_enable("hickory_resolver", &TracingLevel::INFO));
    }

    #[test]
    fn an_unreadable_rust_log_is_reported_and_not_used() {
        let (targets, is_readable) = targets(Level::Info, Some("=,=loud"));
        assert!(!is_readable);
        assert!(targets.would_enable("moden_gateway", &TracingLevel::INFO));
    }
}
