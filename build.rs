//! Tells the program which commit it was built from, for `--version`.

use std::process::Command;

fn main() {
    let commit = Command::new("git")
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
        );
    println!("cargo::rustc-env=MODEN_GATEWAY_COMMIT={commit}");
    println!("cargo::rerun-if-changed=build.rs");
    for path in [".git/HEAD", ".git/index"] {
        if std::path::Path::new(path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}
