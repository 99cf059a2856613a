//! What limits cost: nanoseconds and instructions per request, memory per key, and how long a sweep
//! makes others wait.
//!
//! ```text
//! cargo bench --bench limits                    all of it
//! cargo bench --bench limits -- --run CASE N    only admit N requests, for other tools
//! ```
//!
//! Wants valgrind. Times depend on the machine and its neighbours: compare them within one run.

#![expect(clippy::print_stdout, reason = "a measurement is printed")]

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use moden_gateway::config::{self, LoadOptions};
use moden_gateway::limits::{Limits, Subject};
use moden_gateway::telemetry::metrics::Metrics;

#[path = "support/arguments.rs"]
mod arguments;
#[path = "support/callgrind.rs"]
mod callgrind;

/// Policies that never deny, by what they are called here.
const CASES: [(&str, &str); 6] = [
    ("none", ""),
    ("gateway", GATEWAY),
    ("address", ADDRESS),
    ("concurrency", CONCURRENCY),
    ("gateway and address", BOTH),
    ("gateway, address and route", THREE),
];

const GATEWAY: &str = "[[limits]]\nname = \"gateway\"\nrequests = 1000000000\n";
const ADDRESS: &str =
    "[[limits]]\nname = \"address\"\nper = [\"client_ip\"]\nrequests = 1000000000\n";
const CONCURRENCY: &str = "[[limits]]\nname = \"at-once\"\nconcurrency = 1000\n";
const BOTH: &str = "[[limits]]\nname = \"gateway\"\nrequests = 1000000000\n\
                    [[limits]]\nname = \"address\"\nper = [\"client_ip\"]\nrequests = 1000000000\n";
const THREE: &str = "[[limits]]\nname = \"gateway\"\nrequests = 1000000000\n\
                     [[limits]]\nname = \"address\"\nper = [\"client_ip\"]\nrequests = 1000000000\n\
                     [[limits]]\nname = \"route\"\nper = [\"route\"]\nrequests = 1000000000\n";

/// A thousand requests a second for each address, so that its key is whole after a millisecond.
const KEYED: &str = "[[limits]]\nname = \"address\"\nper = [\"client_ip\"]\nrequests = 1000\n\
                     burst = 1\nmax_keys = 2000000\n";

const KEYS: u32 = 1_000_000;

fn main() -> anyhow::Result<()> {
    let arguments = arguments::given();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["--run", case, number] => {
            let case = CASES.iter().find(|(name, _)| name == case);
            let (_, limits) = case.context("there is no such case")?;
            admit_all(&build(limits)?, number.parse()?);
        }
        [] => {
            measure_requests()?;
            measure_sweep()?;
        }
        _ => bail!("unknown arguments; see the top of benches/limits.rs"),
    }
    Ok(())
}

fn build(limits: &str) -> anyhow::Result<Arc<Limits>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("gateway.toml");
    let source = "{ file = \"/not/read\" }";
    std::fs::write(
        &path,
        format!("[environments.sandbox]\napp_id = {source}\nsecret = {source}\n{limits}"),
    )?;
    let options = LoadOptions {
        paths: vec![path],
        environment: Some("sandbox".to_owned()),
        ..LoadOptions::default()
    };
    let config = config::load(&options)?.config;
    let metrics = Metrics::build(config.environment);
    let limits = Limits::build(&config.limits, config.upstream.limit_max, &metrics);
    Ok(Arc::new(limits))
}

/// Admits requests from a hundred addresses.
fn admit_all(limits: &Arc<Limits>, requests: u64) {
    let now = Instant::now();
    for number in 0..requests {
        let host = u8::try_from(number % 100).unwrap_or_default();
        let address = Ipv4Addr::new(10, 0, 0, host);
        let subject = Subject::new(u16::from(host % 2), Some(address.into()));
        black_box(limits.admit(subject, now).is_ok());
    }
}

fn measure_requests() -> anyhow::Result<()> {
    println!("one request, its permit and its RateLimit value:");
    for (name, limits) in CASES {
        let instructions = callgrind::instructions_per_turn(&["--run", name], 1_000, 11_000)?;
        let limits = build(limits)?;
        let nanos = (0..7)
            .map(|_| {
                let began = Instant::now();
                admit_all(&limits, 500_000);
                began.elapsed().as_nanos() / 500_000
            })
            .min();
        let nanos = nanos.unwrap_or_default();
        println!("  {name:<28} {nanos:>5} ns {instructions:>6} instructions");
    }
    Ok(())
}

/// A million addresses, and then nobody but one, who must not notice the sweep.
fn measure_sweep() -> anyhow::Result<()> {
    for round in 1..=2 {
        sweep_once(round)?;
    }
    Ok(())
}

fn sweep_once(round: u32) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let limits = build(KEYED)?;
    let before_kib = resident_kib()?;
    let now = Instant::now();
    for number in 0..KEYS {
        let address = Ipv4Addr::from(0x0a00_0000 + number);
        black_box(
            limits
                .admit(Subject::new(0, Some(address.into())), now)
                .is_ok(),
        );
    }
    let full_kib = resident_kib()?;
    let keys = limits.status().first().map_or(0, |status| status.keys);

    let is_over = AtomicBool::new(false);
    let (longest, swept_in) = std::thread::scope(|scope| {
        let asking = scope.spawn(|| longest_wait(&limits, &is_over));
        // Until every allowance is whole again.
        std::thread::sleep(Duration::from_millis(50));
        let began = Instant::now();
        runtime.block_on(limits.sweep());
        let swept_in = began.elapsed();
        is_over.store(true, Ordering::Relaxed);
        (asking.join().unwrap_or_default(), swept_in)
    });
    // Those who asked beside the sweep are forgotten by the next.
    std::thread::sleep(Duration::from_millis(50));
    runtime.block_on(limits.sweep());
    let after_kib = resident_kib()?;
    let left = limits.status().first().map_or(0, |status| status.keys);
    println!(
        "round {round}: {keys} keys: {before_kib} KiB before, {full_kib} KiB full, {after_kib} KiB \
         after the sweep; swept in {swept_in:?}, {left} keys left; the longest of all requests \
         beside it took {longest:?}"
    );
    Ok(())
}

/// Asks without a pause from changing addresses; how long the slowest request took.
fn longest_wait(limits: &Arc<Limits>, is_over: &AtomicBool) -> Duration {
    let mut longest = Duration::ZERO;
    for number in (0..1000_u32).cycle() {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let address = Ipv4Addr::from(0x0b00_0000 + number);
        let began = Instant::now();
        black_box(
            limits
                .admit(Subject::new(0, Some(address.into())), began)
                .is_ok(),
        );
        longest = longest.max(began.elapsed());
    }
    longest
}

/// # Source
/// proc(5): the second number of `/proc/self/statm` is resident pages.
fn resident_kib() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages = text.split(' ').nth(1).context("statm has seven numbers")?;
    Ok(pages.parse::<u64>()? * 4)
}
