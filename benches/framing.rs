//! What the framing guard costs: instructions for a request and its answer, under callgrind, and
//! nanoseconds.
//!
//! ```text
//! cargo bench --bench framing                    all of it
//! cargo bench --bench framing -- --run CASE N    only look at N messages, for other tools
//! ```
//!
//! Wants valgrind. Times depend on the machine and its neighbours: the shortest of some rounds is
//! told. `benches/proxy.rs` counts the guard of the client's side with the rest of a request.

#![expect(clippy::print_stdout, reason = "a measurement is printed")]

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use moden_gateway::framing::{AnswerGuard, HeadLimits, RequestGuard};

#[path = "support/arguments.rs"]
mod arguments;
#[path = "support/callgrind.rs"]
mod callgrind;

const FEW: u64 = 10_000;
const MANY: u64 = 110_000;

/// Ten lines, as a service sends them, and a body of 200 bytes.
const REQUEST: &str = concat!(
    "POST /pay/gateway HTTP/1.1\r\n",
    "Host: gateway.internal:8080\r\n",
    "User-Agent: shop/1.0 (production)\r\n",
    "Accept: application/json\r\n",
    "Accept-Encoding: gzip, deflate\r\n",
    "Connection: keep-alive\r\n",
    "Content-Type: application/json\r\n",
    "Content-Length: 200\r\n",
    "X-Request-Id: 0197c0de-0000-7000-8000-000000000000\r\n",
    "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n",
    "\r\n",
);

/// Eight lines, as a web server before an application sends them, and a body of 90 bytes.
const ANSWER: &str = concat!(
    "HTTP/1.1 200 OK\r\n",
    "Server: nginx\r\n",
    "Date: Sun, 01 Nov 2026 10:00:00 GMT\r\n",
    "Content-Type: application/json\r\n",
    "Content-Length: 90\r\n",
    "Connection: keep-alive\r\n",
    "Cache-Control: no-store\r\n",
    "Strict-Transport-Security: max-age=31536000\r\n",
    "\r\n",
);

const LIMITS: HeadLimits = HeadLimits {
    max_bytes: 16 * 1024,
    max_fields: 100,
};

fn main() -> anyhow::Result<()> {
    let arguments = arguments::given();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["--run", "request", number] => requests(number.parse().context("a number")?),
        ["--run", "answer", number] => answers(number.parse().context("a number")?),
        [] => {
            for case in ["request", "answer"] {
                let figure = callgrind::instructions_per_turn(&["--run", case], FEW, MANY)?;
                println!(
                    "{figure} instructions, {} ns for each {case}",
                    nanoseconds(case)?
                );
            }
            Ok(())
        }
        _ => bail!("unknown arguments; see the top of benches/framing.rs"),
    }
}

fn nanoseconds(case: &str) -> anyhow::Result<u128> {
    let rounds = (0..20).map(|_| {
        let begun = Instant::now();
        match case {
            "request" => requests(MANY)?,
            _ => answers(MANY)?,
        }
        Ok(begun.elapsed().as_nanos() / u128::from(MANY))
    });
    let rounds = rounds.collect::<anyhow::Result<Vec<_>>>()?;
    rounds.into_iter().min().context("there were rounds")
}

fn requests(count: u64) -> anyhow::Result<()> {
    let bytes = [REQUEST.as_bytes(), &[b'x'; 200]].concat();
    let mut guard = RequestGuard::new(LIMITS);
    for _ in 0..count {
        let passed = guard.inspect(black_box(&bytes))?;
        ensure!(passed.is_complete && passed.bytes == bytes.len());
        guard.begin_next();
    }
    Ok(())
}

fn answers(count: u64) -> anyhow::Result<()> {
    let bytes = [ANSWER.as_bytes(), &[b'x'; 90]].concat();
    let mut guard = AnswerGuard::new(LIMITS);
    for _ in 0..count {
        guard.expect_answer(false);
        let passed = guard.inspect(black_box(&bytes))?;
        ensure!(passed.is_complete && passed.bytes == bytes.len());
    }
    Ok(())
}
