//! What the standards of HTTP/1.1 demand of a gateway, one test for each rule, named by its section.
//!
//! Role first (RFC 9110, 3.7): towards its clients the gateway is an origin server, towards MODEN a
//! user agent. Rules for proxies that a client chooses (leave Authorization alone, 11.6.2; never
//! send 421, 15.5.20; 407) do not bind it.
//!
//! The comment of each test has one form: section, demand, what the gateway does. `docs/http-conformance.md`
//! is made from these comments and from the list below; [`the_document_is_the_one_in_the_tests`] says
//! how when they differ.
//!
//! # What does not bind
//!
//! - RFC 9113, all of it: neither listeners nor the way to MODEN speak HTTP/2; a client that begins
//!   with its preface is answered 505, and ALPN offers `http/1.1` only.
//! - RFC 9110, 11.6.1 (WWW-Authenticate with one's own 401): the gateway sends no 401, because it does
//!   not ask callers who they are yet; MODEN's 401 is turned into a 502.
//! - RFC 9110, 10.1.4 (`TE: trailers` only where trailers are honored): trailers are dropped, so no
//!   `TE` is ever sent.
//! - RFC 9110, 7.8 (raw bytes only after 101): no route allows an upgrade, so there is no raw mode.
//! - RFC 8470, 5.1 (425 to a POST in early data): listeners and the way to MODEN take part in no 0-RTT,
//!   so no request comes in early data.
//! - RFC 8470, 5.2 (adding `Early-Data`): for the same reason none is added; what comes is passed on.
//! - RFC 9110, 15.5.12 (411 where a route demands a length): no route can demand one; the gateway itself
//!   asks for one in one case, which has its test.
//! - ratelimit-headers draft 10, trailers: the gateway sends none.
//! - Trace Context, 3.2.2, 4.2 and 4.3 (a bad `traceparent` begins a new trace): they bind who takes
//!   part in a trace, and the gateway passes both fields on untouched.
//! - Idempotency-Key draft 07, 400, 409 and 422: they bind the resource that honors the key, which is
//!   MODEN; the order guard, which would remember orders here, is not built.
//! - RFC 6585, 4 and 5 (429 and 431 are not stored): bind caches.
//! - RFC 9457, 3.2 (unknown members are ignored): binds who reads a problem document.
//! - RFC 7239, 4 (appending `Forwarded`): MAY, and the gateway adds none towards MODEN.

mod forwarded_and_problem;
mod message_syntax;
mod ratelimit;
mod routing_and_fields;
mod status_codes;

use std::path::Path;

use crate::support::{Client, GatewayBuilder, Message, ScriptedUpstream, TestGateway, payment};

/// Routes for every usual method, and the two that are there by default.
const ROUTES: &str = r#"
[[routes]]
name = "echo"
path = "/pay/echo/*"
methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
[[routes]]
name = "payments"
path = "/pay/*"
methods = ["POST"]
"#;

/// A complete answer.
const FINE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

/// A gateway and the upstream that it is before.
struct Pair {
    gateway: TestGateway,
    upstream: ScriptedUpstream,
}

impl Pair {
    /// An upstream that answers everything with [`FINE`].
    fn start() -> Self {
        Self::answering(FINE)
    }

    /// An upstream that answers every request with these words.
    fn answering(words: impl Into<String>) -> Self {
        Self::with(words, |builder| builder)
    }

    /// As [`Self::answering`], before a gateway with a configuration of its own.
    fn with(
        words: impl Into<String>,
        configure: impl FnOnce(GatewayBuilder) -> GatewayBuilder,
    ) -> Self {
        let words = words.into();
        let upstream = ScriptedUpstream::start(move |mut conversation| {
            while conversation.request().is_some() {
                conversation.say(&words);
            }
        });
        Self::before(upstream, configure)
    }

    /// A gateway before an upstream that says these words to the first request of a connection and
    /// hangs up.
    fn hanging_up_after(words: impl Into<String>) -> Self {
        let words = words.into();
        let upstream = ScriptedUpstream::start(move |mut conversation| {
            if conversation.request().is_some() {
                conversation.say(&words);
                conversation.close();
            }
        });
        Self::before(upstream, |builder| builder)
    }

    fn before(
        upstream: ScriptedUpstream,
        configure: impl FnOnce(GatewayBuilder) -> GatewayBuilder,
    ) -> Self {
        let builder = TestGateway::builder().scripted(&upstream).tables(ROUTES);
        let gateway = configure(builder).start();
        Self { gateway, upstream }
    }

    fn connect(&self) -> Client {
        self.gateway.connect()
    }

    /// Sends one request on a connection of its own and reads its answer.
    fn exchange(&self, request: impl AsRef<[u8]>) -> Message {
        self.gateway.exchange(request)
    }

    /// The request that reached the upstream last.
    fn last(&self) -> Message {
        self.upstream.requests().pop().expect("a request arrived")
    }

    /// Sends a request that must reach the upstream and be answered by it; as it arrived.
    #[track_caller]
    fn serves(&self, request: impl AsRef<[u8]>) -> Message {
        let answer = self.exchange(request);
        assert_eq!(answer.status(), 200, "{answer:?}");
        assert_eq!(answer.outcome(), "answered");
        self.last()
    }

    /// Sends bytes that must be refused with this status and code without anything of them reaching
    /// MODEN, and a good request behind them on a connection of its own.
    #[track_caller]
    fn refuses(&self, bytes: impl AsRef<[u8]>, status: u16, code: &str) -> Message {
        let before = self.upstream.requests().len();
        let mut client = self.connect();
        // A refusal may come before all is written.
        let _ = client.try_write(&bytes);
        let text = String::from_utf8_lossy(bytes.as_ref());
        let what = text.get(..text.len().min(200)).unwrap_or(&text);
        let answer = client
            .try_answer()
            .unwrap_or_else(|cut| panic!("no answer to {what:?}: {cut:?}"));
        assert_eq!((answer.status(), &*answer.code()), (status, code), "{what}");
        assert_eq!(answer.outcome(), "not-sent", "{what}");
        let sent = self.upstream.requests().len() - before;
        assert_eq!(sent, 0, "{what}");
        self.serves(payment("neighbor"));
        answer
    }

    /// As [`Self::refuses`], for bytes after which the connection cannot be trusted: it is closed.
    #[track_caller]
    fn refuses_and_closes(&self, bytes: impl AsRef<[u8]>, status: u16, code: &str) {
        let answer = self.refuses(&bytes, status, code);
        assert_eq!(answer.field("connection"), "close", "{answer:?}");
        let mut client = self.connect();
        let _ = client.try_write(&bytes);
        let _ = client.answer();
        assert!(client.rest().is_empty(), "closed without another word");
    }
}

/// The bytes of a request without a body: its first line without the version, and its further field
/// lines besides `Host`.
fn head(line: &str, fields: &[&str]) -> String {
    framed(line, fields, "")
}

/// As [`head`], with this behind it.
fn framed(line: &str, fields: &[&str], body: &str) -> String {
    let lines: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    format!("{line} HTTP/1.1\r\nHost: gateway.test\r\n{lines}\r\n{body}")
}

/// The sections of the document, in its order: what a file is about, and its text.
const FILES: [(&str, &str); 5] = [
    (
        "Forwarding and fields",
        include_str!("http_conformance/routing_and_fields.rs"),
    ),
    (
        "Message syntax",
        include_str!("http_conformance/message_syntax.rs"),
    ),
    (
        "Status codes",
        include_str!("http_conformance/status_codes.rs"),
    ),
    (
        "RateLimit fields",
        include_str!("http_conformance/ratelimit.rs"),
    ),
    (
        "Forwarded, trace, problem, Proxy-Status, Basic, Idempotency-Key",
        include_str!("http_conformance/forwarded_and_problem.rs"),
    ),
];

/// One rule, as the comment above its test tells it.
struct Rule {
    section: String,
    demand: String,
    conduct: String,
    test: String,
}

#[test]
fn the_document_is_the_one_in_the_tests() {
    let document = document();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let written = std::fs::read_to_string(root.join("docs/http-conformance.md"));
    if written.unwrap_or_default() != document {
        let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join("http-conformance.md");
        std::fs::write(&made, document).expect("the folder is for this");
        panic!(
            "docs/http-conformance.md differs from the tests; look at what changed, then: \
             cp {} docs/http-conformance.md",
            made.display()
        );
    }
}

fn document() -> String {
    let mut text = String::from(
        "# Conformance to HTTP/1.1\n\n\
         What the standards demand of a gateway and what this one does, each with the test that keeps \
         it. Made from `tests/behaviour/http_conformance.rs` and the files beside it; a test fails when \
         this page differs from them. All of them: `cargo test --test behaviour http_conformance`.\n",
    );
    for (title, source) in FILES {
        text.push_str(&format!(
            "\n## {title}\n\n| Section | Demand | What the gateway does | Test |\n|---|---|---|---|\n"
        ));
        for rule in rules(source) {
            let Rule {
                section,
                demand,
                conduct,
                test,
            } = rule;
            text.push_str(&format!(
                "| {section} | {demand} | {conduct} | `{test}` |\n"
            ));
        }
    }
    text.push_str("\n## What does not bind\n\n");
    let (_, list) = include_str!("http_conformance.rs")
        .split_once("//! # What does not bind\n//!\n")
        .expect("the list is at the top");
    for line in list.lines().map_while(|line| line.strip_prefix("//! ")) {
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// The rules of a file, in its order.
///
/// # Panics
/// Where a test has no comment of the one form, or a name that is not its section's.
fn rules(source: &str) -> Vec<Rule> {
    let mut rules = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    let mut is_test = false;
    for line in source.lines() {
        if let Some(text) = line.strip_prefix("///") {
            comment.push(text.trim());
        } else if line == "#[test]" {
            is_test = true;
        } else if let Some(rest) = line.strip_prefix("fn ").filter(|_| is_test) {
            let name = rest.split('(').next().expect("a name");
            rules.push(rule(name, &comment.join("\n")));
            (is_test, comment) = (false, Vec::new());
        } else {
            comment.clear();
        }
    }
    rules
}

fn rule(name: &str, comment: &str) -> Rule {
    let parts: Vec<_> = comment.split("\n\n").collect();
    let [section, demand, conduct] = parts[..] else {
        panic!("{name} wants three paragraphs: section, demand, conduct");
    };
    let slug: String = section
        .replace("RFC ", "rfc")
        .chars()
        .filter(|c| *c != ',')
        .map(|c| match c.is_ascii_alphanumeric() {
            true => c.to_ascii_lowercase(),
            false => '_',
        })
        .collect();
    assert!(name.starts_with(&format!("{slug}_")), "{name} is of {slug}");
    let (word, _) = demand.split_once(':').expect("MUST, SHOULD or MAY first");
    let words = ["MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "MAY"];
    assert!(words.contains(&word), "{name}: {word}");
    let conduct = conduct.strip_prefix("Here: ").expect("it begins with Here");
    let joined = |text: &str| text.replace('\n', " ").replace('|', "\\|");
    Rule {
        section: section.to_owned(),
        demand: joined(demand),
        conduct: joined(conduct),
        test: name.to_owned(),
    }
}
