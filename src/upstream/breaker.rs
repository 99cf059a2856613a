//! The circuit breaker: while MODEN or the way to it fails, nobody waits for another failure.
//!
//! ```text
//!   closed ──▶ open        at least `failures` in `window`, and half of all exchanges or more
//!   open ──▶ half-open     `open_for` has passed
//!   half-open ──▶ probing  a request comes and is let through; others are refused meanwhile
//!   probing ──▶ closed     it was answered
//!           ──▶ open       it failed
//!           ──▶ half-open  it ended without a word about MODEN: the next one probes
//! ```
//!
//! One for the process: what one core finds out holds for all. State and counts are atomics; a
//! request costs one load where it begins and one addition where it ends.

mod ticket;
mod window;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::error::{Failure, UpstreamError};
use crate::config::{BreakerConfig, BreakerSettings};
use crate::telemetry::metrics::BreakerMetrics;
use ticket::Verdict;
use window::Window;

pub(super) use ticket::Ticket;

/// How long to wait where a probe is on its way: it may be answered at any moment.
const WAIT_FOR_PROBE: Duration = Duration::from_secs(1);

/// Whether requests are let through to MODEN, by what became of those before them.
#[derive(Debug)]
pub struct Breaker {
    /// `None` where it is turned off.
    circuit: Option<Circuit>,
}

/// What a breaker does at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// It is turned off, and lets everything through.
    Off,
    /// All requests are let through.
    Closed,
    /// None is.
    Open,
    /// One at a time is, to see whether MODEN answers again.
    HalfOpen,
}

impl BreakerState {
    /// The word of the status and of log lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

#[derive(Debug)]
struct Circuit {
    settings: BreakerSettings,
    /// The beginning of its time.
    started: Instant,
    /// A [`Phase`] as one word, so that a change of it is one exchange, and whoever remembers the
    /// word knows whether anything has changed since.
    phase: AtomicU64,
    /// Exchanges since it was closed.
    window: Window,
    metrics: BreakerMetrics,
}

/// A state and when it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Phase {
    state: State,
    since_nanos: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open,
    /// Nobody probes at present.
    HalfOpen,
    /// One request is on its way.
    Probing,
}

impl Phase {
    /// Nanoseconds are counted for 146 years.
    const fn to_word(self) -> u64 {
        let state = match self.state {
            State::Closed => 0,
            State::Open => 1,
            State::HalfOpen => 2,
            State::Probing => 3,
        };
        self.since_nanos << 2 | state
    }

    const fn of_word(word: u64) -> Self {
        let state = match word & 3 {
            0 => State::Closed,
            1 => State::Open,
            2 => State::HalfOpen,
            _ => State::Probing,
        };
        Self {
            state,
            since_nanos: word >> 2,
        }
    }
}

impl Breaker {
    /// Builds it closed, or turned off.
    pub fn build(config: &BreakerConfig, metrics: BreakerMetrics) -> Self {
        Self::build_at(config, metrics, Instant::now())
    }

    fn build_at(config: &BreakerConfig, metrics: BreakerMetrics, now: Instant) -> Self {
        let circuit = match config {
            BreakerConfig::Off => None,
            BreakerConfig::On(settings) => Some(Circuit {
                settings: settings.clone(),
                started: now,
                phase: AtomicU64::new(0),
                window: Window::new(settings.window),
                metrics,
            }),
        };
        Self { circuit }
    }

    /// One that lets everything through.
    pub fn off() -> Self {
        Self { circuit: None }
    }

    /// What it does at present.
    pub fn state(&self) -> BreakerState {
        self.circuit
            .as_ref()
            .map_or(BreakerState::Off, |circuit| circuit.state(Instant::now()))
    }

    /// Whether a request may go on at this moment; takes nothing.
    ///
    /// # Errors
    /// `not-sent`, while it is open or another request probes.
    pub fn check(&self) -> Result<(), UpstreamError> {
        match &self.circuit {
            Some(circuit) if circuit.current().state != State::Closed => {
                circuit.check(Instant::now())
            }
            _ => Ok(()),
        }
    }

    /// Lets an exchange begin.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub(super) fn begin(self: &Arc<Self>) -> Result<Ticket, UpstreamError> {
        let word = match &self.circuit {
            None => 0,
            Some(circuit) => match circuit.phase.load(Ordering::Acquire) {
                word if Phase::of_word(word).state == State::Closed => word,
                _ => circuit.begin(Instant::now())?,
            },
        };
        Ok(Ticket {
            breaker: Arc::clone(self),
            word,
            is_settled: false,
        })
    }

    /// Notices that `open_for` has passed, though no request has come to find out.
    pub(super) fn sweep(&self) {
        if let Some(circuit) = &self.circuit
            && circuit.current().state == State::Open
        {
            circuit.half_open(Instant::now());
        }
    }
}

impl Circuit {
    fn current(&self) -> Phase {
        Phase::of_word(self.phase.load(Ordering::Acquire))
    }

    fn nanos(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.started);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX >> 2)
    }

    fn state(&self, now: Instant) -> BreakerState {
        match self.current() {
            phase if self.wait(phase, now).is_some() => BreakerState::Open,
            Phase {
                state: State::Closed,
                ..
            } => BreakerState::Closed,
            _ => BreakerState::HalfOpen,
        }
    }

    /// What is left of `open_for`.
    fn wait(&self, phase: Phase, now: Instant) -> Option<Duration> {
        let open = Duration::from_nanos(self.nanos(now).saturating_sub(phase.since_nanos));
        let left = self.settings.open_for.saturating_sub(open);
        (phase.state == State::Open && !left.is_zero()).then_some(left)
    }

    fn check(&self, now: Instant) -> Result<(), UpstreamError> {
        let phase = self.current();
        if let Some(left) = self.wait(phase, now) {
            return Err(refusal(left));
        }
        match phase.state {
            State::Probing => Err(refusal(WAIT_FOR_PROBE)),
            State::Closed | State::Open | State::HalfOpen => Ok(()),
        }
    }

    /// The word of the phase that the exchange belongs to.
    fn begin(&self, now: Instant) -> Result<u64, UpstreamError> {
        loop {
            self.check(now)?;
            self.half_open(now);
            let word = self.phase.load(Ordering::Acquire);
            match Phase::of_word(word).state {
                State::Closed => return Ok(word),
                State::HalfOpen => {
                    if let Some(word) = self.turn(word, State::Probing, now) {
                        return Ok(word);
                    }
                }
                // Somebody was faster; asked again, it says how long to wait.
                State::Open | State::Probing => {}
            }
        }
    }

    /// Turns from open to half-open if it is time.
    fn half_open(&self, now: Instant) {
        let word = self.phase.load(Ordering::Acquire);
        let phase = Phase::of_word(word);
        let is_time = phase.state == State::Open && self.wait(phase, now).is_none();
        if is_time && self.turn(word, State::HalfOpen, now).is_some() {
            self.metrics.state.set(1);
            tracing::info!(
                "the circuit breaker is half-open: one request at a time is let through"
            );
        }
    }

    /// Turns to another phase, unless somebody has turned it meanwhile; the word of the new one.
    fn turn(&self, from: u64, state: State, now: Instant) -> Option<u64> {
        // Never the same word twice, however coarse the clock.
        let since_nanos = self.nanos(now).max(Phase::of_word(from).since_nanos + 1);
        let word = Phase { state, since_nanos }.to_word();
        self.phase
            .compare_exchange(from, word, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
            .then_some(word)
    }

    /// Takes note of how an exchange of the phase `word` ended.
    fn settle(&self, word: u64, verdict: Verdict, now: Instant) {
        let is_probe = Phase::of_word(word).state == State::Probing;
        // What began before the last turn says nothing of the time after it.
        if self.phase.load(Ordering::Relaxed) != word {
            return;
        }
        match (is_probe, verdict) {
            (false, Verdict::Nothing) => {}
            (false, Verdict::Answered) => self.window.add(self.nanos(now), false),
            (false, Verdict::Failed) => {
                let now_nanos = self.nanos(now);
                self.window.add(now_nanos, true);
                self.open_if_failing(word, now, now_nanos);
            }
            (true, Verdict::Nothing) => {
                self.turn(word, State::HalfOpen, now);
            }
            (true, Verdict::Answered) => {
                // While it is not closed nobody counts, so this is in time.
                self.window.clear();
                if self.turn(word, State::Closed, now).is_some() {
                    self.metrics.state.set(0);
                    tracing::info!("the circuit breaker is closed: MODEN answers again");
                }
            }
            (true, Verdict::Failed) => {
                if self.turn(word, State::Open, now).is_some() {
                    self.metrics.state.set(2);
                    self.metrics.openings.inc();
                    tracing::warn!(
                        open_for = %humantime::format_duration(self.settings.open_for),
                        "the circuit breaker is open again: the request that was let through failed, \
                         too"
                    );
                }
            }
        }
    }

    #[cold]
    fn open_if_failing(&self, word: u64, now: Instant, now_nanos: u64) {
        let (failures, exchanges) = self.window.sum(now_nanos);
        let is_failing = failures >= u64::from(self.settings.failures) && failures * 2 >= exchanges;
        if is_failing && self.turn(word, State::Open, now).is_some() {
            self.metrics.state.set(2);
            self.metrics.openings.inc();
            tracing::warn!(
                failures,
                exchanges,
                window = %humantime::format_duration(self.settings.window),
                open_for = %humantime::format_duration(self.settings.open_for),
                "the circuit breaker is open: MODEN, or the way to it, fails; requests are refused"
            );
        }
    }
}

#[cold]
fn refusal(wait: Duration) -> UpstreamError {
    UpstreamError::not_sent(Failure::BreakerOpen(wait))
}

#[cfg(test)]
mod tests;
