//! The whole way of a request, in process: a client's bytes, the real server and proxy, and an
//! upstream in memory, under a clock that only moves when nobody has anything to do.

mod house;
mod upstream;

use std::collections::HashSet;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::reference::{self, End, Message};
use house::House;
use upstream::Arrived;

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

/// No client has to wait longer than all deadlines together.
const LONGEST: Duration = Duration::from_secs(600);

/// What became of a client's bytes.
struct Course {
    /// What the client has read up to the end of its connection.
    replies: Vec<u8>,
    /// The requests that the upstream has seen, in their order.
    arrived: Vec<Arrived>,
    /// The access log.
    lines: String,
    /// The application log.
    log: String,
}

/// How a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// All at once, and then it closes its sending side.
    AtOnce,
    /// In small pieces, and then it waits.
    InPieces,
}

/// Every request that the upstream sees is one that a strict reader finds in the client's bytes, in
/// their order and with the same body; it has exactly our credential, a target below the base
/// path, one host and one framing. Every reply says what became of its request. The secret shows in
/// no reply and in no log line. It does not matter in which pieces the bytes come. Nothing hangs.
///
/// The input is what a client sends on one connection.
pub fn request(data: &[u8]) {
    let (sent, end) = reference::requests(data);
    let at_once = follow(data, Manner::AtOnce);
    let in_pieces = follow(data, Manner::InPieces);
    for course in [&at_once, &in_pieces] {
        check_arrived(&sent, &course.arrived);
        check_replies(&sent, end, course);
        check_lines(course);
        check_secret(data, course);
    }
    let seen = |course: &Course| course.arrived.iter().map(whole).collect::<Vec<_>>();
    assert_eq!(seen(&at_once), seen(&in_pieces), "pieces make a difference");
}

fn whole(arrived: &Arrived) -> (String, Vec<u8>) {
    (arrived.message.start.clone(), arrived.message.body.clone())
}

/// Sends the bytes through a house of its own.
fn follow(data: &[u8], manner: Manner) -> Course {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .enable_io()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let house = House::build().await;
        let (client, server) = tokio::io::duplex(64 * 1024);
        let serving = house.serve(server);
        let talking = async {
            tokio::time::timeout(LONGEST, talk(client, data, manner))
                .await
                .unwrap_or_else(|_| panic!("{manner:?}: the connection hangs"))
        };
        let (replies, ()) = tokio::join!(talking, serving);
        house.close(replies).await
    })
}

/// Sends everything and reads to the end.
async fn talk(client: DuplexStream, data: &[u8], manner: Manner) -> Vec<u8> {
    let (mut reader, mut writer) = tokio::io::split(client);
    let sending = async {
        match manner {
            Manner::AtOnce => {
                // The server may have closed already, which is its right.
                let _ = writer.write_all(data).await;
                let _ = writer.shutdown().await;
            }
            Manner::InPieces => {
                let mut rest = data;
                while !rest.is_empty() {
                    let size = piece(rest).min(rest.len());
                    let (now, later) = rest.split_at(size);
                    if writer.write_all(now).await.is_err() {
                        break;
                    }
                    rest = later;
                    tokio::task::yield_now().await;
                    tokio::task::yield_now().await;
                }
            }
        }
        writer
    };
    let reading = async {
        let mut replies = Vec::new();
        // A reset after a cut reply ends it, too.
        let _ = reader.read_to_end(&mut replies).await;
        replies
    };
    let (_writer, replies) = tokio::join!(sending, reading);
    replies
}

/// How much is sent next, from what is left: any size from one byte, small ones mostly.
fn piece(rest: &[u8]) -> usize {
    let mixed = rest.iter().take(8).fold(rest.len(), |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(usize::from(*byte))
    });
    match mixed % 8 {
        0..=3 => 1,
        4..=5 => 2 + mixed / 8 % 6,
        _ => 8 + mixed / 8 % 64,
    }
}

/// Each request at the upstream is one of the client's, none twice, none before its turn.
fn check_arrived(sent: &[Message], arrived: &[Arrived]) {
    let mut sent = sent.iter();
    for Arrived { message, ends } in arrived {
        assert_eq!(ends, &End::Clean, "more than a request: {message:?}");
        let origin = sent
            .find(|sent| is_of(message, sent))
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
    assert_eq!(message.only("authorization"), house::CREDENTIAL.as_bytes());
    assert_eq!(message.only("host"), house::AUTHORITY.as_bytes());
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
    let ours = [
        "host",
        "authorization",
        "via",
        "x-request-id",
        "content-length",
        "transfer-encoding",
    ];
    for (name, _) in &message.fields {
        assert!(!NEVER_SENT.contains(&name.as_str()), "{name}: {message:?}");
        assert!(
            ours.contains(&name.as_str()) || !named.contains(name.as_bytes()),
            "{name}: {message:?}"
        );
        let read = name.replace(['_', '.'], "-");
        assert!(
            read == *name
                || !(NEVER_SENT.contains(&read.as_str())
                    || ours.contains(&read.as_str()) && read != "via" && read != "host"),
            "a twin: {message:?}"
        );
        // What is no field of ours is the client's, and its lines stand as they stood.
        if !ours.contains(&name.as_str()) {
            assert!(
                message.values(name).eq(sent.values(name)),
                "{name}: {message:?}"
            );
        }
    }
}

/// Every reply is whole, says what became of its request, and there are no more than there were
/// requests, and one for what is no request.
fn check_replies(sent: &[Message], end: End, course: &Course) {
    let mut rest = course.replies.as_slice();
    let mut count = 0;
    while !rest.is_empty() {
        let method = sent.get(count).map_or("", |sent| sent.request_line().0);
        let (reply, after) = reference::answer(rest, method, true)
            .unwrap_or_else(|| panic!("half a reply: {}", rest.escape_ascii()));
        rest = after;
        if reply.status() == 100 {
            continue;
        }
        count += 1;
        let outcome = reply.only("gateway-outcome");
        assert!(matches!(outcome, b"not-sent" | b"answered"), "{reply:?}");
        assert_eq!(reply.only("gateway-environment"), b"sandbox");
        reply.only("x-request-id");
        reply.only("date");
        if count > sent.len() {
            assert!(reply.status() >= 400, "{reply:?}");
            assert_eq!(reply.only("connection"), b"close");
            assert_eq!(rest, b"", "more after the last reply");
        }
    }
    let most = sent.len() + usize::from(matches!(end, End::Incomplete | End::Violation));
    assert!(count <= most, "{count} replies to {most} messages");
    assert!(course.arrived.len() <= count, "a request without a reply");
}

/// One line for each reply at least, each an object without a raw control character.
fn check_lines(course: &Course) {
    let replies = count_of(&course.replies, b"gateway-outcome: ");
    let lines = course.lines.lines().count();
    assert!(
        lines >= replies,
        "{replies} replies, {lines} lines:\n{}",
        course.lines
    );
    for line in course.lines.lines() {
        let value: serde_json::Value = serde_json::from_str(line).expect("a line is JSON");
        assert!(value["outcome"].is_string(), "{line}");
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}

/// Nothing of the credential is in anything that a client or an operator sees.
fn check_secret(data: &[u8], course: &Course) {
    for secret in house::SECRETS {
        // A client that knows it already may say it.
        if count_of(data, secret.as_bytes()) > 0 {
            continue;
        }
        let seen = [
            &course.replies,
            course.lines.as_bytes(),
            course.log.as_bytes(),
        ];
        let shown = seen
            .iter()
            .any(|bytes| count_of(bytes, secret.as_bytes()) > 0);
        assert!(!shown, "the credential was shown");
    }
}

fn count_of(bytes: &[u8], text: &[u8]) -> usize {
    bytes
        .windows(text.len())
        .filter(|window| *window == text)
        .count()
}
