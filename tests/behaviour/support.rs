//! What every behaviour test is made of: the real gateway, a client that sees every byte, and
//! upstreams that behave or misbehave as told.
//!
//! For: starting the app as an operator would (a TOML file, secret files, real sockets on free
//! ports) and looking at it from outside only. Never does: sleep to wait for something; it polls
//! until a deadline. Start reading at [`TestGateway`].
//!
//! Everything here blocks and uses plain threads, so that a test reads from top to bottom and
//! nothing of it shares a runtime with what it tests.

mod capture;
mod client;
mod gateway;
pub(crate) mod metrics;
pub(crate) mod program;
mod simulator;
pub(crate) mod tls;
mod upstream;
mod wire;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use capture::captured_log;
pub(crate) use client::{Client, payment, post};
pub(crate) use gateway::{GatewayBuilder, TestGateway, write_private};
pub(crate) use simulator::TestSimulator;
pub(crate) use upstream::{ClosedPort, Conversation, ScriptedUpstream};
pub(crate) use wire::{Cut, Message};

/// How long anything may take before a test gives up on it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The APP ID and secret of every test gateway unless told otherwise.
pub(crate) const APP_ID: &str = "app-of-the-test";

/// See [`APP_ID`].
pub(crate) const SECRET: &str = "secret-of-the-test";

/// What MODEN has to see: `APP_ID:SECRET`, encoded by hand.
pub(crate) const AUTHORIZATION: &str = "Basic YXBwLW9mLXRoZS10ZXN0OnNlY3JldC1vZi10aGUtdGVzdA==";

/// Polls until `look` finds something; fails the test, saying what was awaited, after
/// [`PATIENCE`].
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until no other test that loads the machine runs; their deadlines would disturb each other.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static HEAVY: Mutex<()> = Mutex::new(());
    HEAVY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does `task` for each number below `count` on this many threads; the results in order.
pub(crate) fn in_parallel<T: Send>(
    threads: usize,
    count: usize,
    task: impl Fn(usize) -> T + Sync,
) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return done;
            }
            done.push((number, task(number)));
        }
    };
    let mut done: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("no try panicked"))
            .collect()
    });
    done.sort_unstable_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

/// What `printf %s TEXT | sha256sum` prints.
pub(crate) fn sha256(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    let bytes = digest.as_ref().iter();
    bytes.map(|byte| format!("{byte:02x}")).collect()
}
