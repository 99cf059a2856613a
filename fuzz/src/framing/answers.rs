//! Answers: the guard in front of hyper's client.

use bytes::Bytes;
use http::{Method, Request, Version};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use moden_gateway::framing::{AnswerGuard, Framing, Passed, Violation};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::asked::{self, Exchange};
use super::super::gateway::block_on;
use super::super::reference;
use super::{Guard, judge, limits};

const MAX_HEAD_BYTES: usize = 64 * 1024;

/// A guard that waits for one answer.
struct Asked(AnswerGuard);

impl Guard for Asked {
    fn inspect(&mut self, bytes: &[u8]) -> Result<Passed, Violation> {
        self.0.inspect(bytes)
    }

    fn framing(&self) -> Framing {
        self.0.framing()
    }

    fn begin_next(&mut self) -> bool {
        false
    }
}

/// What the guard makes of an exchange.
#[derive(Debug)]
struct Guarded<'d> {
    /// What hyper gets to see.
    passed: &'d [u8],
    /// Whether the answer is whole, now or when the connection ends.
    is_whole: bool,
    framing: Framing,
}

pub(super) fn check(data: &[u8]) {
    let exchanges = asked::exchanges(data);
    let mut guard = AnswerGuard::new(limits(MAX_HEAD_BYTES));
    let mut guarded = Vec::new();
    for Exchange { method, bytes } in &exchanges {
        let is_head = method == Method::HEAD;
        // In any pieces, as the first on its connection.
        let verdict = judge(
            || {
                let mut guard = AnswerGuard::new(limits(MAX_HEAD_BYTES));
                guard.expect_answer(is_head);
                Asked(guard)
            },
            bytes,
        );
        guard.expect_answer(is_head);
        let mut passed = 0;
        let mut is_whole = false;
        while let Ok(more) = guard.inspect(&bytes[passed..]) {
            passed += more.bytes;
            is_whole |= more.is_complete;
            if more.bytes == 0 {
                break;
            }
        }
        let is_until_end = guard.framing() == Framing::UntilEnd && guard.may_end();
        guarded.push(Guarded {
            passed: &bytes[..passed],
            is_whole: is_whole || is_until_end,
            framing: guard.framing(),
        });
        if guarded.len() == 1 {
            assert_eq!(verdict.passed, passed, "another verdict");
            assert_eq!(
                verdict.messages.len(),
                usize::from(is_whole),
                "another verdict"
            );
        }
        if !is_whole || guard.violation().is_some() {
            break;
        }
    }
    block_on(ask(&exchanges, &guarded));
}

/// Sends the requests through hyper's client, and compares each answer.
async fn ask(exchanges: &[Exchange<'_>], guarded: &[Guarded<'_>]) {
    let (client, mut server) = tokio::io::duplex(1 << 20);
    let handshake = http1::Builder::new()
        .max_buf_size(MAX_HEAD_BYTES)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(client));
    let (mut sender, driver) = handshake.await.expect("hyper starts");
    let asking = async move {
        for (exchange, guarded) in exchanges.iter().zip(guarded) {
            let request = Request::builder()
                .method(&exchange.method)
                .uri("/pay/a")
                .header("host", "moden")
                .body(Empty::new())
                .expect("a request");
            if sender.ready().await.is_err() {
                return;
            }
            let is_last = !guarded.is_whole || guarded.framing == Framing::UntilEnd;
            let answering = async {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    if server.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                let _ = server.write_all(guarded.passed).await;
                if is_last {
                    let _ = server.shutdown().await;
                }
            };
            let receiving = async {
                let (head, body) = sender.send_request(request).await?.into_parts();
                let body = body.collect().await?.to_bytes();
                Ok::<_, hyper::Error>((head, body))
            };
            let ((), answer) = tokio::join!(answering, receiving);
            let Ok((head, body)) = answer else {
                return;
            };
            assert!(guarded.is_whole, "half an answer looks whole: {guarded:?}");
            let expected = expected(exchange.method.as_str(), guarded.passed);
            assert_eq!(expected.status(), head.status.as_u16());
            assert_eq!(expected.body, body, "another body");
            if is_last || head.version != Version::HTTP_11 {
                return;
            }
        }
    };
    // The driver ends with the sender, or with the connection.
    let _ = tokio::join!(driver, asking);
}

/// The final answer in these bytes, to a strict reader.
fn expected(method: &str, mut bytes: &[u8]) -> reference::Message {
    loop {
        let (answer, rest) =
            reference::answer(bytes, method, true).expect("hyper and the guard found one");
        if answer.status() >= 200 {
            assert_eq!(rest, b"", "more than an answer has passed");
            return answer;
        }
        bytes = rest;
    }
}
