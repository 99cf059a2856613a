//! Counts the instructions of this very program under callgrind, by running it once more.

use std::process::Command;

use anyhow::{Context, ensure};

/// The instructions of one turn: the difference of two runs of this program with these arguments
/// and a number of turns behind them, so that what it does once does not count.
pub(crate) fn instructions_per_turn(
    arguments: &[&str],
    few: u64,
    many: u64,
) -> anyhow::Result<u64> {
    let count = |turns| instructions(arguments, turns);
    Ok((count(many)? - count(few)?) / (many - few))
}

fn instructions(arguments: &[&str], turns: u64) -> anyhow::Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(arguments)
        .arg(turns.to_string())
        .output()
        .context("failed to start valgrind; on Debian: apt-get install valgrind")?;
    let report = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "the run under valgrind failed:\n{report}"
    );
    let line = report
        .lines()
        .find_map(|line| line.split("Collected : ").nth(1));
    line.context("valgrind reported no count")?
        .trim()
        .parse()
        .context("the count is no number")
}
