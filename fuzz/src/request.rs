//! The whole way of a request: a client's bytes through the real server and proxy.

mod upstream;

use std::collections::HashSet;
use std::time::Duration;

use super::gateway::{self, Gateway, Hold, Logs, Manner, block_on, count_of};
use super::reference::{self, End, Message};
use upstream::{All, Arrivals, Arrived};

/// The client's fields that never travel on, beside those that `Connection` names.
const NEVER_SENT: [&str; 12] = [
    "connection",
    "proxy-connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "http2-settings",
    "proxy-authorization",
    "cookie",
    "x-original-url",
    "x-http-method-override",
];

/// Fields of a request that are the gateway's to write; of `Via` it is the last member.
const OURS: [&str; 6] = [
    "host",
    "authorization",
    "via",
    "x-request-id",
    "content-length",
    "transfer-encoding",
];

/// No client has to wait longer than all deadlines together.
const LONGEST: Duration = Duration::from_secs(600);

/// Connections to the upstream, of which only answers without a length use one up.
const CONNECTIONS: usize = 3;

/// What became of a client's bytes.
struct Course {
    /// What the client has read up to the end of its connection.
    replies: Vec<u8>,
    /// What the upstream has seen.
    arrived: All,
    logs: Logs,
}

/// Every request that the upstream sees is one that a strict reader finds in the client's bytes, in
/// their order and with the same body; it has exactly our credential, a target below the base
/// path, one host and one framing. Every reply says what became of its request. The secret shows in
/// no reply and in no log line. It does not matter in which pieces the bytes come. Nothing hangs.
///
/// The input is what a client sends on one connection.
pub fn request(data: &[u8]) {
    let (sent, end) = reference::requests(data);
    let at_once = follow(data, Hold::All, Manner::AtOnce);
    let in_pieces = follow(data, Hold::All, Manner::InPieces);
    for course in [&at_once, &in_pieces] {
        check(data, &sent, end, course);
        assert!(course.arrived.cut.is_empty(), "it was to be held");
    }
    let seen = |course: &Course| course.arrived.whole.iter().map(whole).collect::<Vec<_>>();
    assert_eq!(seen(&at_once), seen(&in_pieces), "pieces make a difference");
    let streamed = follow(data, Hold::Little, Manner::InPieces);
    check(data, &sent, end, &streamed);
    check_cut(end, &streamed.arrived);
}

fn check(data: &[u8], sent: &[Message], end: End, course: &Course) {
    check_arrived(sent, &course.arrived.whole);
    check_replies(data, sent, end, course);
    course.logs.check();
    course.logs.check_secret(data, &course.replies);
    let replies = count_of(&course.replies, b"gateway-outcome: ");
    let lines = course.logs.lines.lines().count();
    assert!(lines >= replies, "{replies} replies, {lines} lines");
}

/// What is streamed breaks off at the upstream where it did at the client, and nowhere else.
fn check_cut(end: End, arrived: &All) {
    let is_broken = matches!(end, End::Incomplete | End::Violation);
    assert!(arrived.cut.len() <= usize::from(is_broken), "{arrived:?}");
    for cut in &arrived.cut {
        assert_eq!(count_of(cut, gateway::CREDENTIAL.as_bytes()), 1, "{cut:?}");
    }
}

fn whole(arrived: &Arrived) -> (String, Vec<u8>) {
    (arrived.message.start.clone(), arrived.message.body.clone())
}

/// Sends the bytes through a gateway of their own.
fn follow(data: &[u8], hold: Hold, manner: Manner) -> Course {
    block_on(async {
        let arrivals = Arrivals::default();
        let gateway = Gateway::build(hold, CONNECTIONS, |io| arrivals.clone().serve(io)).await;
        let (client, serving) = gateway.connect();
        let (mut reader, mut writer) = tokio::io::split(client);
        let sending = gateway::send(&mut writer, data, manner);
        let receiving = tokio::time::timeout(LONGEST, gateway::receive(&mut reader));
        let (replies, (), ()) = tokio::join!(receiving, sending, serving);
        let logs = gateway.close().await;
        Course {
            replies: replies.unwrap_or_else(|_| panic!("{manner:?}: the connection hangs")),
            arrived: arrivals.take(),
            logs,
        }
    })
}

/// Each request at the upstream is one of the client's, none twice, none before its turn.
fn check_arrived(sent: &[Message], arrived: &[Arrived]) {
    let mut sent = sent.iter();
    for Arrived { message, ends } in arrived {
        assert_eq!(ends, &End::Clean, "more than a request: {message:?}");
        let origin = sent
            // Of two that are alike, the first may have been refused for its fields.
            .find(|sent| is_of(message, sent) && has_fields_of(message, sent))
            .unwrap_or_else(|| panic!("nobody sent this: {message:?}"));
        check_head(message, origin);
    }
}

/// Whether the upstream's request is made from this one of the client's.
fn is_of(message: &Message, sent: &Message) -> bool {
    let (method, target, _) = message.request_line();
    let (sent_method, sent_target, _) = sent.request_line();
    // Of absolute-form only what follows the authority counts.
    let sent_target = match sent_target.split_once("://") {
        Some((_, rest)) if !sent_target.starts_with('/') => {
            rest.find('/').map_or("", |start| &rest[start..])
        }
        _ => sent_target,
    };
    let rest = target
        .strip_prefix("/pay/sandbox/")
        .expect("it is below the base path");
    let is_mapped = ["/pay/", "/pay/sandbox/"]
        .iter()
        .any(|prefix| sent_target.strip_prefix(prefix) == Some(rest));
    method == sent_method && is_mapped && message.body == sent.body
}

/// Whether every field that is none of ours stands in this request as it stands in that.
fn has_fields_of(message: &Message, sent: &Message) -> bool {
    let names = message.fields.iter().map(|(name, _)| name.as_str());
    names
        .filter(|name| !OURS.contains(name) && *name != "max-forwards")
        .all(|name| message.values(name).eq(sent.values(name)))
}

/// What must stand in the head of every request that leaves.
fn check_head(message: &Message, sent: &Message) {
    let (method, target, version) = message.request_line();
    assert_eq!(version, "HTTP/1.1");
    assert!(!matches!(method, "TRACE" | "CONNECT"), "{message:?}");
    let path = target.split('?').next().unwrap_or_default();
    for segment in path.split('/').skip(1) {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
        assert!(
            !matches!(segment, "" | "." | "..") && segment.chars().all(is_plain),
            "{message:?}"
        );
    }
    assert!(
        !path["/pay/sandbox/".len()..]
            .to_ascii_lowercase()
            .starts_with("sandbox/"),
        "{message:?}"
    );
    assert_eq!(
        message.only("authorization"),
        gateway::CREDENTIAL.as_bytes()
    );
    assert_eq!(message.only("host"), gateway::AUTHORITY.as_bytes());
    message.only("x-request-id");
    let framings = ["content-length", "transfer-encoding"];
    let framings: Vec<_> = framings
        .iter()
        .flat_map(|name| message.values(name))
        .collect();
    assert!(framings.len() <= 1, "{message:?}");
    assert!(
        message.body.is_empty() || framings.len() == 1,
        "{message:?}"
    );

    let named: HashSet<_> = sent
        .values("connection")
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(|word| word.trim_ascii().to_ascii_lowercase())
        .collect();
    let guarded = [&NEVER_SENT[..], &["authorization", "x-request-id"]].concat();
    for (name, _) in &message.fields {
        let name = name.as_str();
        let read = name.replace(['_', '.'], "-");
        assert!(!NEVER_SENT.contains(&name), "{name}: {message:?}");
        assert!(
            read == name || !guarded.contains(&read.as_str()),
            "a twin: {message:?}"
        );
        // One hop less is ours to say, and only of OPTIONS.
        if name == "max-forwards" && method == "OPTIONS" {
            let hops =
                |message: &Message| str::from_utf8(message.only(name)).map(str::parse::<u64>);
            let (Ok(Ok(asked)), Ok(Ok(left))) = (hops(sent), hops(message)) else {
                // Beyond what can be counted, any number will do.
                continue;
            };
            assert_eq!(left + 1, asked, "{message:?}");
            continue;
        }
        // What is no field of ours is the client's, and its lines stand as they stood.
        if !OURS.contains(&name) {
            assert!(!named.contains(name.as_bytes()), "{name}: {message:?}");
            let lines = message.values(name);
            assert!(lines.eq(sent.values(name)), "{name}: {message:?}");
        }
    }
}

/// Every reply is whole, says what became of its request, and there are no more than there were
/// requests, and one for what is no request.
fn check_replies(data: &[u8], sent: &[Message], end: End, course: &Course) {
    // The reply to a HEAD has no body, even if that is no request; but whether one that is broken
    // is a HEAD may be seen in two ways.
    let may_be_head = reference::behind_requests(data).starts_with(b"HEAD ");
    let mut rest = course.replies.as_slice();
    let mut count = 0;
    while !rest.is_empty() {
        let method = sent.get(count).map_or("", |sent| sent.request_line().0);
        let is_broken = count >= sent.len();
        let without_body = || match is_broken && may_be_head {
            true => reference::answer(rest, "HEAD", true),
            false => None,
        };
        let (reply, after) = reference::answer(rest, method, true)
            .or_else(without_body)
            .unwrap_or_else(|| panic!("half a reply: {}", rest.escape_ascii()));
        rest = after;
        if reply.status() == 100 {
            continue;
        }
        count += 1;
        let outcome = reply.only("gateway-outcome");
        let is_cut = !course.arrived.cut.is_empty();
        assert!(
            matches!(outcome, b"not-sent" | b"answered") || is_cut && outcome == b"unknown",
            "{reply:?}"
        );
        assert_eq!(reply.only("gateway-environment"), b"sandbox");
        reply.only("x-request-id");
        reply.only("date");
        if is_broken {
            assert!(reply.status() >= 400, "{reply:?}");
            assert_eq!(reply.only("connection"), b"close");
            assert_eq!(rest, b"", "more after the last reply");
        }
    }
    let most = sent.len() + usize::from(matches!(end, End::Incomplete | End::Violation));
    assert!(count <= most, "{count} replies to {most} messages");
    assert!(
        course.arrived.whole.len() <= count,
        "a request without a reply"
    );
}
