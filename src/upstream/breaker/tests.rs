//! The breaker's turns, one by one, and against a model that is too simple to be wrong.

use http::StatusCode;
use proptest::prelude::*;

use super::*;
use crate::domain::Environment;
use crate::telemetry::metrics::Metrics;

/// A breaker of 4 failures in 10 s that opens for 5 s, and a clock of its own.
struct Scene {
    breaker: Arc<Breaker>,
    metrics: BreakerMetrics,
    now: Instant,
}

impl Scene {
    fn new() -> Self {
        let metrics = Metrics::build(Environment::Sandbox).breaker();
        let config = BreakerConfig::On(BreakerSettings {
            failures: 4,
            window: Duration::from_secs(10),
            open_for: Duration::from_secs(5),
        });
        let now = Instant::now();
        let mut scene = Self {
            breaker: Arc::new(Breaker::build_at(&config, metrics.clone(), now)),
            metrics,
            now,
        };
        scene.pass(1);
        scene
    }

    fn circuit(&self) -> &Circuit {
        self.breaker.circuit.as_ref().expect("it is on")
    }

    /// Lets time pass, and a little more, since two turns never have the same time.
    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds) + Duration::from_micros(1);
    }

    fn state(&self) -> BreakerState {
        self.circuit().state(self.now)
    }

    fn begin(&self) -> Result<u64, Duration> {
        self.circuit().begin(self.now).map_err(wait)
    }

    fn end(&self, word: u64, verdict: Verdict) {
        self.circuit().settle(word, verdict, self.now);
    }

    fn exchange(&self, verdict: Verdict) {
        let word = self.begin().expect("it lets through");
        self.end(word, verdict);
    }

    /// Lets it open.
    fn open(&self) {
        for _ in 0..4 {
            self.exchange(Verdict::Failed);
        }
        assert_eq!(self.state(), BreakerState::Open);
    }
}

fn wait(error: UpstreamError) -> Duration {
    assert_eq!(error.outcome.as_str(), "not-sent");
    match error.failure {
        Failure::BreakerOpen(wait) => wait,
        other => panic!("not the breaker: {other}"),
    }
}

#[test]
fn opens_when_enough_fail_and_says_how_long_it_will_be_open() {
    let mut scene = Scene::new();
    for _ in 0..3 {
        scene.exchange(Verdict::Failed);
    }
    assert_eq!(scene.state(), BreakerState::Closed);
    scene.exchange(Verdict::Failed);
    assert_eq!(scene.state(), BreakerState::Open);
    assert_eq!(scene.begin(), Err(Duration::from_secs(5)));
    scene.pass(2);
    assert_eq!(scene.begin().map_err(|wait| wait.as_millis()), Err(2_999));
    assert_eq!(
        (scene.metrics.state.get(), scene.metrics.openings.get()),
        (2, 1)
    );
}

#[test]
fn stays_closed_while_fewer_than_half_fail() {
    let scene = Scene::new();
    for _ in 0..50 {
        scene.exchange(Verdict::Answered);
        scene.exchange(Verdict::Answered);
        scene.exchange(Verdict::Failed);
    }
    assert_eq!(scene.state(), BreakerState::Closed);
}

#[test]
fn counts_nothing_that_is_not_the_upstreams_fault() {
    let scene = Scene::new();
    for _ in 0..50 {
        scene.exchange(Verdict::Nothing);
    }
    assert_eq!(scene.state(), BreakerState::Closed);
    for (status, verdict) in [
        (200, Verdict::Answered),
        (401, Verdict::Answered),
        (408, Verdict::Answered),
        (412, Verdict::Answered),
        (421, Verdict::Answered),
        (429, Verdict::Answered),
        (500, Verdict::Answered),
        (501, Verdict::Answered),
        (502, Verdict::Failed),
        (503, Verdict::Failed),
        (504, Verdict::Failed),
    ] {
        let status = StatusCode::from_u16(status).expect("a status");
        assert_eq!(Verdict::of_status(status), verdict, "{status}");
    }
}

#[test]
fn forgets_failures_that_are_older_than_the_window() {
    let mut scene = Scene::new();
    for _ in 0..12 {
        scene.exchange(Verdict::Failed);
        scene.pass(4);
    }
    assert_eq!(scene.state(), BreakerState::Closed);
}

#[test]
fn lets_one_through_at_a_time_and_closes_when_that_is_answered() {
    let mut scene = Scene::new();
    scene.open();
    scene.pass(5);
    assert_eq!(scene.state(), BreakerState::HalfOpen);
    let probe = scene.begin().expect("the first probes");
    assert_eq!(scene.metrics.state.get(), 1);
    assert_eq!(scene.begin(), Err(WAIT_FOR_PROBE));
    assert_eq!(
        scene.circuit().check(scene.now).map_err(wait),
        Err(WAIT_FOR_PROBE)
    );
    scene.end(probe, Verdict::Answered);
    assert_eq!(scene.state(), BreakerState::Closed);
    assert_eq!(scene.metrics.state.get(), 0);
    // The failures of before are forgotten.
    scene.exchange(Verdict::Failed);
    assert_eq!(scene.state(), BreakerState::Closed);
}

#[test]
fn opens_anew_when_the_probe_fails() {
    let mut scene = Scene::new();
    scene.open();
    scene.pass(6);
    scene.exchange(Verdict::Failed);
    assert_eq!(scene.begin(), Err(Duration::from_secs(5)));
    assert_eq!(scene.metrics.openings.get(), 2);
}

#[test]
fn a_probe_that_tells_nothing_gives_its_place_back() {
    let mut scene = Scene::new();
    scene.open();
    scene.pass(5);
    scene.exchange(Verdict::Nothing);
    assert_eq!(scene.state(), BreakerState::HalfOpen);
    scene.exchange(Verdict::Answered);
    assert_eq!(scene.state(), BreakerState::Closed);
}

#[test]
fn what_began_before_a_turn_says_nothing_after_it() {
    let mut scene = Scene::new();
    let late = [(); 8].map(|()| scene.begin().expect("it is closed"));
    scene.open();
    scene.pass(5);
    let probe = scene.begin().expect("the first probes");
    scene.end(late[0], Verdict::Answered);
    assert_eq!(
        scene.begin(),
        Err(WAIT_FOR_PROBE),
        "only the probe's end counts"
    );
    scene.end(probe, Verdict::Answered);
    for word in late {
        scene.end(word, Verdict::Failed);
    }
    assert_eq!(scene.state(), BreakerState::Closed);
}

#[test]
fn a_dropped_ticket_of_a_probe_gives_its_place_back() {
    let metrics = Metrics::build(Environment::Sandbox).breaker();
    let config = BreakerConfig::On(BreakerSettings {
        failures: 1,
        window: Duration::from_secs(10),
        open_for: Duration::from_nanos(1),
    });
    let breaker = Arc::new(Breaker::build(&config, metrics));
    let failure = UpstreamError::not_sent(Failure::Refused);
    let ticket = breaker.begin().expect("it is closed");
    ticket.failed(failure);
    let probe = breaker.begin().expect("it is half-open");
    assert!(breaker.begin().is_err(), "one at a time");
    drop(probe);
    let probe = breaker.begin().expect("the place is free");
    // The beginning of a long answer is enough, and the rest counts like any exchange.
    let rest = probe.long_answer_began(StatusCode::OK, Instant::now());
    assert_eq!(breaker.state(), BreakerState::Closed);
    rest.expect("it is closed")
        .failed(UpstreamError::not_sent(Failure::Reset));
    assert_ne!(breaker.state(), BreakerState::Closed);
}

#[test]
fn a_ticket_is_renewed_by_what_happened_while_it_waited() {
    let metrics = Metrics::build(Environment::Sandbox).breaker();
    let breaker = Arc::new(Breaker::build(&BreakerConfig::default(), metrics));
    let mut waiting = breaker.begin().expect("it is closed");
    assert!(waiting.renew().is_ok());
    for _ in 0..50 {
        let ticket = breaker.begin().expect("it is closed");
        ticket.failed(UpstreamError::not_sent(Failure::ConnectTimeout));
    }
    assert!(waiting.renew().is_err(), "it opened meanwhile");
    assert!(breaker.check().is_err());
}

#[test]
fn turned_off_it_lets_everything_through() {
    let breaker = Arc::new(Breaker::off());
    for _ in 0..100 {
        let ticket = breaker.begin().expect("it is off");
        ticket.failed(UpstreamError::not_sent(Failure::Refused));
    }
    assert_eq!(breaker.state(), BreakerState::Off);
    assert!(breaker.check().is_ok());
}

/// What can happen to a breaker.
#[derive(Clone, Copy, Debug)]
enum Event {
    Pass(u64),
    Begin,
    /// Of the exchanges that run, the one at this position ends.
    End(usize, Verdict),
}

fn event() -> impl Strategy<Value = Event> {
    let verdict = prop_oneof![
        1 => Just(Verdict::Answered),
        3 => Just(Verdict::Failed),
        1 => Just(Verdict::Nothing),
    ];
    prop_oneof![
        1 => (0_u64..7).prop_map(Event::Pass),
        3 => Just(Event::Begin),
        3 => (0_usize..4, verdict).prop_map(|(which, verdict)| Event::End(which, verdict)),
    ]
}

/// The rules in plain words: lists, no atomics.
#[derive(Default)]
struct Model {
    now: u64,
    turns: u64,
    opened: Option<u64>,
    has_probe: bool,
    counted: Vec<(u64, bool)>,
}

impl Model {
    /// Whether an exchange is let through, and whether as a probe.
    fn begin(&mut self) -> Option<bool> {
        match self.opened {
            None => Some(false),
            Some(opened) if self.now < opened + 5 || self.has_probe => None,
            Some(_) => {
                self.has_probe = true;
                Some(true)
            }
        }
    }

    fn end(&mut self, is_probe: bool, turn: u64, verdict: Verdict) {
        let is_failure = match verdict {
            Verdict::Nothing => {
                self.has_probe &= !is_probe;
                return;
            }
            verdict => verdict == Verdict::Failed,
        };
        if !is_probe && turn == self.turns && self.opened.is_none() {
            self.counted.push((self.now, is_failure));
            self.counted.retain(|(then, _)| then + 10 > self.now);
            let failures = self.counted.iter().filter(|(_, failed)| *failed).count();
            let opens = is_failure && failures >= 4 && failures * 2 >= self.counted.len();
            if !opens {
                return;
            }
        } else if !is_probe {
            return;
        }
        self.turns += 1;
        self.has_probe = false;
        self.counted.clear();
        self.opened = is_failure.then_some(self.now);
    }
}

proptest! {
    #[test]
    fn does_what_the_model_does(events in proptest::collection::vec(event(), 0..200)) {
        let mut scene = Scene::new();
        let mut model = Model::default();
        let mut running = Vec::new();
        for event in events {
            match event {
                Event::Pass(seconds) => {
                    scene.pass(seconds);
                    model.now += seconds;
                }
                Event::Begin => {
                    let (begun, expected) = (scene.begin(), model.begin());
                    prop_assert_eq!(begun.is_ok(), expected.is_some());
                    if let (Ok(word), Some(is_probe)) = (begun, expected) {
                        running.push((word, is_probe, model.turns));
                    }
                }
                Event::End(which, verdict) if which < running.len() => {
                    let (word, is_probe, turn) = running.swap_remove(which);
                    scene.end(word, verdict);
                    model.end(is_probe, turn, verdict);
                }
                Event::End(..) => {}
            }
            let is_closed = scene.state() == BreakerState::Closed;
            prop_assert_eq!(is_closed, model.opened.is_none());
        }
    }
}
