//! The whole way of an answer: an upstream's bytes through the real pool and proxy.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, DuplexStream};

use super::asked::{self, Exchange};
use super::gateway::{self, Gateway, Hold, Manner, block_on};
use super::reference::{self, Message};

/// The most requests that one input answers.
const MOST_EXCHANGES: usize = 6;

/// No client has to wait longer than all deadlines together.
const LONGEST: Duration = Duration::from_secs(600);

/// Fields of an answer that stay on the upstream's connection.
const NEVER_RETURNED: [&str; 8] = [
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
    "set-cookie",
    "alt-svc",
    "gateway-order",
];

/// Each client gets the answer to its own request, whole, or none of it, or one that is visibly
/// cut; header and access log tell it truly; no request is sent twice; and nobody waits for ever.
///
/// The input is what the upstream answers: behind each line `> METHOD` what it says once it has
/// received a request of this method. Its pieces come on one connection, or on a fresh one where
/// the gateway has given that up.
pub fn answer(data: &[u8]) {
    let mut exchanges = asked::exchanges(data);
    exchanges.truncate(MOST_EXCHANGES);
    let sendable = |exchange: &Exchange<'_>| {
        matches!(exchange.method.as_str(), "GET" | "HEAD" | "POST" | "PUT")
    };
    if exchanges.is_empty() || !exchanges.iter().all(sendable) {
        return;
    }
    for hold in [Hold::All, Hold::Little] {
        for manner in [Manner::AtOnce, Manner::InPieces] {
            block_on(follow(data, &exchanges, hold, manner));
        }
    }
}

/// Sends the requests one after the other, each from a client of its own.
async fn follow(data: &[u8], exchanges: &[Exchange<'_>], hold: Hold, manner: Manner) {
    let script = Script::new(exchanges, manner);
    // Each may spoil a connection.
    let gateway = Gateway::build(hold, exchanges.len(), |io| script.clone().serve(io)).await;
    let mut replies = Vec::new();
    for (index, exchange) in exchanges.iter().enumerate() {
        let reply = ask(&gateway, exchange, index).await;
        check_reply(&reply, exchange, hold, manner);
        replies.push(reply);
    }
    let logs = gateway.close().await;
    logs.check();
    logs.check_secret(data, &replies.concat());
    script.check_arrived(exchanges);
    let lines: Vec<_> = logs.lines.lines().collect();
    assert_eq!(lines.len(), exchanges.len(), "{}", logs.lines);
    // A line is written when its exchange ends, and the next client comes after that.
    for ((line, exchange), reply) in lines.iter().zip(exchanges).zip(&replies) {
        if line.contains(r#""outcome":"answered""#) {
            let found = answer_in(exchange);
            assert!(found.is_some(), "half an answer is in the log: {line}");
            let read = whole(exchange.method.as_str(), reply);
            assert!(read.is_some(), "the log has more than the client: {line}");
        }
    }
}

/// One client's request, and all that it reads.
async fn ask(gateway: &Gateway, exchange: &Exchange<'_>, index: usize) -> Vec<u8> {
    let (client, serving) = gateway.connect();
    let (mut reader, mut writer) = tokio::io::split(client);
    let body = body_of(index);
    let request = format!(
        "{} /pay/{index} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        exchange.method,
        body.len(),
    );
    let sending = gateway::send(&mut writer, request.as_bytes(), Manner::AtOnce);
    let receiving = tokio::time::timeout(LONGEST, gateway::receive(&mut reader));
    let (reply, (), ()) = tokio::join!(receiving, sending, serving);
    reply.unwrap_or_else(|_| panic!("the client waits for ever"))
}

fn body_of(index: usize) -> String {
    format!("order-{index}")
}

/// The answer that a strict reader finds for this exchange, if it is whole.
fn answer_in(exchange: &Exchange<'_>) -> Option<Message> {
    let mut bytes = exchange.bytes;
    loop {
        let found = reference::find_answer(bytes, exchange.method.as_str(), true);
        let (answer, rest) = found?;
        if answer.status() >= 200 {
            return Some(answer);
        }
        bytes = rest;
    }
}

/// The one reply in these bytes, if it is whole.
fn whole(method: &str, reply: &[u8]) -> Option<Message> {
    let (reply, rest) = reference::answer(reply, method, true)?;
    assert_eq!(rest, b"", "more than a reply");
    assert_ne!(reply.framing, reference::Framing::UntilClose, "{reply:?}");
    Some(reply)
}

fn check_reply(bytes: &[u8], exchange: &Exchange<'_>, hold: Hold, manner: Manner) {
    let method = exchange.method.as_str();
    let expected = answer_in(exchange);
    let Some(reply) = whole(method, bytes) else {
        // It broke off on the way, and the client sees that it did.
        assert_eq!(hold, Hold::Little, "{}", bytes.escape_ascii());
        let is_cut = expected.is_none_or(|answer| {
            // What ends with its connection never ends for an upstream that falls silent.
            answer.framing == reference::Framing::UntilClose && manner == Manner::InPieces
        });
        assert!(is_cut, "a whole answer was cut: {}", bytes.escape_ascii());
        return;
    };
    assert_eq!(reply.only("gateway-environment"), b"sandbox");
    reply.only("x-request-id");
    // An upstream that has two clocks is passed on as it is.
    assert!(reply.values("date").next().is_some(), "{reply:?}");
    for name in NEVER_RETURNED {
        assert_eq!(reply.values(name).count(), 0, "{name}: {reply:?}");
    }
    match reply.only("gateway-outcome") {
        b"answered" => {
            let expected = expected.expect("half an answer looks whole");
            // A 401 says that our credential was refused, which is nothing to tell a client.
            if expected.status() == 401 {
                assert_eq!(reply.status(), 502, "{reply:?}");
                return;
            }
            assert_eq!(reply.status(), expected.status());
            assert_eq!(reply.body, expected.body, "another body");
        }
        b"unknown" => assert!(matches!(reply.status(), 502 | 504), "{reply:?}"),
        other => panic!("{} to a request that was sent", other.escape_ascii()),
    }
}

/// What an upstream says, and what it has received, on all connections together.
#[derive(Clone, Debug)]
struct Script(Arc<Mutex<Scene>>);

#[derive(Debug)]
struct Scene {
    answers: VecDeque<Vec<u8>>,
    manner: Manner,
    arrived: Vec<Message>,
}

impl Script {
    fn new(exchanges: &[Exchange<'_>], manner: Manner) -> Self {
        let answers = exchanges.iter().map(|exchange| exchange.bytes.to_vec());
        Self(Arc::new(Mutex::new(Scene {
            answers: answers.collect(),
            manner,
            arrived: Vec::new(),
        })))
    }

    /// Serves one connection until the gateway gives it up.
    async fn serve(self, mut io: DuplexStream) {
        let mut received = Vec::new();
        loop {
            match io.read_buf(&mut received).await {
                Ok(count) if count > 0 => {}
                _ => return,
            }
            let (requests, _) = reference::requests(&received);
            let Some(request) = requests.into_iter().next() else {
                continue;
            };
            received.clear();
            let (answer, manner) = {
                let mut scene = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                scene.arrived.push(request);
                let answer = scene.answers.pop_front();
                (answer.expect("a request too many"), scene.manner)
            };
            // Only the last thing that is said on a connection ends it.
            let is_followed = reference::is_kept_alive(&answer);
            let manner = match manner {
                Manner::AtOnce if is_followed => Manner::InPieces,
                manner => manner,
            };
            gateway::send(&mut io, &answer, manner).await;
        }
    }

    /// Every request has arrived once, in its turn.
    fn check_arrived(&self, exchanges: &[Exchange<'_>]) {
        let scene = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bodies: Vec<_> = scene.arrived.iter().map(|message| &message.body).collect();
        let sent: Vec<_> = (0..exchanges.len())
            .map(|index| body_of(index).into_bytes())
            .collect();
        assert!(bodies.into_iter().eq(sent.iter()), "{:?}", scene.arrived);
    }
}
