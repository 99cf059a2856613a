//! An upstream in memory: it reads strictly, keeps what it read, and answers as the path asks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::super::reference::{self, End, Message};

/// A request that has arrived.
#[derive(Clone, Debug)]
pub(super) struct Arrived {
    pub(super) message: Message,
    /// What was found behind it; nothing may be.
    pub(super) ends: End,
}

/// All that has arrived, on any connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Arrivals(Arc<Mutex<All>>);

/// What one gateway has sent.
#[derive(Debug, Default)]
pub(super) struct All {
    /// Whole requests, in their order.
    pub(super) whole: Vec<Arrived>,
    /// What there was of those that broke off.
    pub(super) cut: Vec<Vec<u8>>,
}

impl Arrivals {
    pub(super) fn take(&self) -> All {
        std::mem::take(&mut *self.all())
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves one connection until it ends; the next request is read when its answer is out.
    pub(super) async fn serve(self, mut io: DuplexStream) {
        let mut received = Vec::new();
        while io
            .read_buf(&mut received)
            .await
            .is_ok_and(|count| count > 0)
        {
            let (requests, ends) = reference::requests(&received);
            if ends == End::Incomplete {
                continue;
            }
            let mut requests = requests.into_iter();
            let Some(message) = requests.next() else {
                panic!("no request: {}", received.escape_ascii());
            };
            assert_eq!(requests.next(), None, "two requests at once");
            received.clear();
            let (method, target, _) = message.request_line();
            let whole = answer_to(target);
            let answer = match method {
                "HEAD" => whole.split_at(head_bytes(whole)).0,
                _ => whole,
            };
            let arrived = Arrived { message, ends };
            self.all().whole.push(arrived);
            if io.write_all(answer).await.is_err() {
                return;
            }
            if whole == UNTIL_CLOSE {
                return;
            }
        }
        if !received.is_empty() {
            self.all().cut.push(received);
        }
    }
}

const UNTIL_CLOSE: &[u8] = b"HTTP/1.1 200 OK\r\n\r\nuntil the end";

/// How long an answer is without its body.
fn head_bytes(answer: &[u8]) -> usize {
    const END: &[u8] = b"\r\n\r\n";
    let ends = |end: &usize| answer[..*end].ends_with(END);
    // The only one with two heads has no body.
    let is_first = !answer.starts_with(b"HTTP/1.1 103");
    let mut all = (0..=answer.len()).filter(ends);
    let found = if is_first {
        all.next()
    } else {
        all.next_back()
    };
    found.expect("an answer has a head")
}

fn answer_to(target: &str) -> &'static [u8] {
    let path = target.split('?').next().unwrap_or_default();
    match path.rsplit('/').next().unwrap_or_default() {
        "chunked" => {
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nSet-Cookie: a\r\n\r\n\
              3;x=y\r\nabc\r\n0\r\nGateway-Outcome: x\r\n\r\n"
        }
        "close" => UNTIL_CLOSE,
        "empty" => b"HTTP/1.1 204 No Content\r\nGateway-Outcome: unknown\r\n\r\n",
        "refused" => {
            b"HTTP/1.1 412 Precondition Failed\r\nContent-Type: application/json\r\n\
              Content-Length: 14\r\n\r\n{\"code\": 1001}"
        }
        "early" => b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        _ => b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok",
    }
}
