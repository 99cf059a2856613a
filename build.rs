//! Tells the program which commit it was built from, for `--version`.

use std::env;
use std::process::Command;

fn main() {
    let commit = told().unwrap_or_else(found);
    println!("cargo::rustc-env=MODEN_GATEWAY_COMMIT={commit}");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=COMMIT");
    for path in [".git/HEAD", ".git/index"] {
        if std::path::Path::new(path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}

/// What the builder of an image says, where the sources come without their history.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the build's environment, not the program's"
)]
fn told() -> Option<String> {
    env::var("COMMIT").ok().filter(|commit| !commit.is_empty())
}

/// What git says of the sources.
fn found() -> String {
    Command::new("git")
        .args([
            "describe",
            "--always",
            "--dirty",
            "--abbrev=12",
            "--exclude=*",
        ])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .map_or_else(
            || "unknown commit".to_owned(),
            |text| text.trim().to_owned(),
        )
}
