//! Who may import whom, and what stands nowhere: read from the sources, so that it stays true.
//!
//! Rooms import downwards only, never along their own floor. Invariants are absences: a text that
//! stands in no file but the named ones. Comments and unit tests are not looked at. A room that is
//! not on a floor yet is a fault, too: put it where its imports allow it.

use std::fs;
use std::path::Path;

/// The rooms from the ground up; ARCHITECTURE.md shows the same table.
const FLOORS: [&[&str]; 12] = [
    &["secret", "domain", "body", "framing", "systemd"],
    &["config"],
    &["telemetry"],
    &["client_auth", "limits", "routing", "server"],
    &["credentials"],
    &["upstream"],
    &["proxy"],
    &["simulator"],
    &["admin"],
    &["app"],
    &["doctor", "explain"],
    &["main", "lib"],
];

/// A text, the part of `src` that it must not stand in, the files of that part that may have it.
const ABSENCES: &[(&str, &str, &[&str])] = &[
    ("std::env", "", &["config.rs", "secret/env.rs"]),
    ("sd_notify", "", &["systemd.rs"]),
    ("listenfd", "", &["systemd.rs"]),
    (
        "expose_secret",
        "",
        &[
            "secret.rs",
            "credentials/basic.rs",
            "server/certificate.rs",
            "client_auth/token.rs",
            "storage/redis.rs",
        ],
    ),
    ("problem+json", "", &["proxy/reply.rs"]),
    ("Response::new", "proxy", &["proxy/reply.rs"]),
    ("Response::builder", "proxy", &["proxy/reply.rs"]),
    ("CanonicalPath::new", "", &["proxy/path.rs"]),
    ("AuthorizedRequest {", "", &["credentials.rs"]),
    ("print!(", "", &["main.rs"]),
    ("println!(", "", &["main.rs"]),
    ("io::stdout", "main", &["main.rs"]),
    ("io::stderr", "main", &["main.rs"]),
    ("process::exit", "", &["main.rs"]),
    ("unsafe ", "", &[]),
];

/// One source file: its path below `src`, and its text.
type Source = (String, String);

#[test]
fn rooms_import_downwards_only_and_forbidden_texts_stand_nowhere() {
    let mut sources = Vec::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    read_sources(&folder, &folder, &mut sources);
    assert!(sources.len() > 50, "src was not read");
    let violations = violations(&sources);
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn complains_about_each_planted_violation() {
    let planted = [
        ("routing.rs", "use crate::proxy::Proxy;", "imports upwards"),
        ("routing/a.rs", "x(crate::server::Y)", "imports sideways"),
        ("config.rs", "use crate::{body, proxy};", "several rooms"),
        ("admin/a.rs", "use super::super::app::App;", "climbs"),
        ("domain.rs", "use super::config::Config;", "climbs"),
        ("cache.rs", "use crate::domain::Outcome;", "is on no floor"),
        ("app.rs", "use crate::cache::Cache;", "is on no floor"),
        ("app.rs", "std::env::var(\"A\")", "`std::env`"),
        ("proxy.rs", "secret.expose_secret()", "`expose_secret`"),
        ("proxy/a.rs", "Response::new(body)", "`Response::new`"),
        ("admin.rs", "eprintln!(\"a\")", "`println!(`"),
        ("main/a.rs", "println!(\"a\")", "`println!(`"),
        ("main/a.rs", "writeln!(io::stdout())", "`io::stdout`"),
        ("app.rs", "use crate::main::failure;", "imports upwards"),
        (
            "upstream/a.rs",
            "CanonicalPath::new(a, b)",
            "`CanonicalPath::new`",
        ),
        (
            "upstream.rs",
            "AuthorizedRequest { a }",
            "`AuthorizedRequest {`",
        ),
        ("body.rs", "unsafe { a() }", "`unsafe `"),
    ];
    for (path, line, complaint) in planted {
        let found = violations(&[(path.into(), format!("//! A room.\n{line}\n"))]);
        assert_eq!(found.len(), 1, "{path}: {line}: {found:?}");
        let place = format!("src/{path}:2: ");
        assert!(found[0].starts_with(&place), "{found:?}");
        assert!(found[0].contains(complaint), "{found:?}");
    }
}

#[test]
fn lets_pass_what_is_allowed() {
    let allowed = [
        (
            "proxy/a.rs",
            "use super::error; use crate::upstream::Upstream;",
        ),
        ("config/a.rs", "use super::tree; use crate::config::Config;"),
        ("app.rs", "// crate::main, println!(\"a\")"),
        ("main.rs", "use moden_gateway::app::App; println!(\"a\")"),
        ("main/a.rs", "use crate::main::failure::Failure;"),
        ("telemetry/a.rs", "io::stdout()"),
        (
            "body.rs",
            "#[cfg(test)]\nmod tests {\nuse crate::app::App;\n}",
        ),
        ("body/tests.rs", "println!(\"{}\", crate::app::a());"),
        ("secret/env.rs", "std::env::var_os(name)"),
        ("admin.rs", "Response::new(body)"),
    ];
    for (path, text) in allowed {
        let found = violations(&[(path.into(), text.into())]);
        assert!(found.is_empty(), "{found:?}");
    }
}

/// Every violation as `src/<path>:<line>: <what>`.
fn violations(sources: &[Source]) -> Vec<String> {
    let mut violations = Vec::new();
    for (path, text) in sources {
        for (number, code) in product_lines(path, text) {
            let mut faults = import_faults(path, code);
            faults.extend(absence_faults(path, code));
            violations.extend(
                faults
                    .iter()
                    .map(|fault| format!("src/{path}:{number}: {fault}")),
            );
        }
    }
    violations
}

/// The numbered lines that are no unit test, without their comments.
fn product_lines<'s>(path: &str, text: &'s str) -> impl Iterator<Item = (usize, &'s str)> {
    let is_test = path.ends_with("/tests.rs") || path.contains("/tests/");
    let product = if is_test { "" } else { text };
    let (product, _) = product
        .split_once("#[cfg(test)]\nmod tests {")
        .unwrap_or((product, ""));
    (1..).zip(product.lines()).map(|(number, line)| {
        let (code, _) = line.split_once("//").unwrap_or((line, ""));
        (number, code)
    })
}

fn import_faults(path: &str, code: &str) -> Vec<String> {
    let mut faults = Vec::new();
    // A path that climbs to the root of the crate would hide the room that it then enters.
    let depth = path.split('/').count();
    if code.contains(&"super::".repeat(depth)) {
        faults.push("climbs out of its room; write crate:: instead".to_owned());
    }
    let room = first_word(path);
    for imported in code.split("crate::").skip(1).map(first_word) {
        let fault = match (floor(room), floor(imported)) {
            _ if room == imported => continue,
            (_, _) if imported.is_empty() => "imports several rooms at once".to_owned(),
            (None, _) => format!("{room} is on no floor"),
            (_, None) => format!("{imported} is on no floor"),
            (Some(ours), Some(theirs)) if ours < theirs => format!("imports upwards: {imported}"),
            (Some(ours), Some(theirs)) if ours == theirs => format!("imports sideways: {imported}"),
            _ => continue,
        };
        faults.push(fault);
    }
    faults
}

fn absence_faults(path: &str, code: &str) -> Vec<String> {
    ABSENCES
        .iter()
        .filter(|(text, part, allowed)| {
            path.starts_with(part) && !allowed.contains(&path) && code.contains(text)
        })
        .map(|(text, _, _)| format!("`{text}` must not stand here"))
        .collect()
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

fn first_word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    text.split_at(end.unwrap_or(text.len())).0
}

fn read_sources(root: &Path, folder: &Path, sources: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).expect("src can be listed") {
        let path = entry.expect("src can be listed").path();
        if path.is_dir() {
            read_sources(root, &path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).expect("it was found below src");
            let text = fs::read_to_string(&path).expect("a source is text");
            sources.push((name.display().to_string(), text));
        }
    }
}
