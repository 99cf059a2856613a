//! Requests: the guard in front of hyper's server.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use moden_gateway::framing::{Framing, Passed, RequestGuard, Violation};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::gateway::block_on;
use super::super::reference;
use super::{Guard, judge, limits};

const MAX_HEAD_BYTES: usize = 16 * 1024;

impl Guard for RequestGuard {
    fn inspect(&mut self, bytes: &[u8]) -> Result<Passed, Violation> {
        Self::inspect(self, bytes)
    }

    fn framing(&self) -> Framing {
        Self::framing(self)
    }

    fn begin_next(&mut self) -> bool {
        Self::begin_next(self);
        true
    }
}

/// A request as hyper's server gives it to its service.
#[derive(Debug)]
struct Seen {
    method: String,
    framing: Framing,
    /// `None` if it did not come whole.
    body: Option<Vec<u8>>,
}

pub(super) fn check(data: &[u8]) {
    let verdict = judge(|| RequestGuard::new(limits(MAX_HEAD_BYTES)), data);
    let passed = &data[..verdict.passed];
    let seen = block_on(serve(passed));
    let (sent, _) = reference::requests(passed);
    let ends = &verdict.messages;
    let whole = seen.iter().filter(|seen| seen.body.is_some()).count();
    assert!(
        whole <= ends.len(),
        "hyper sees more: {seen:?}, {verdict:?}"
    );
    assert!(whole <= sent.len(), "a strict reader sees less: {seen:?}");
    for (index, seen) in seen.iter().enumerate() {
        let Some(body) = &seen.body else {
            assert_eq!(index, whole, "hyper goes on behind half a request");
            continue;
        };
        let (_, framing) = ends[index];
        assert_eq!(seen.framing, framing, "{seen:?}");
        assert_eq!(sent[index].request_line().0, seen.method);
        assert_eq!(sent[index].body, *body, "another body");
    }
    // What a strict reader takes, the guard may refuse but never read otherwise.
    let mut start = 0;
    for ((end, _), sent) in ends.iter().zip(&sent) {
        let (again, _) = reference::requests(&data[start..*end]);
        assert_eq!(again.len(), 1, "a message ends elsewhere");
        assert_eq!(again[0], *sent, "a message ends elsewhere");
        start = *end;
    }
}

/// What hyper's server makes of the bytes.
async fn serve(bytes: &[u8]) -> Vec<Seen> {
    let (client, server) = tokio::io::duplex(1 << 20);
    let requests = Rc::new(RefCell::new(Vec::new()));
    let service = hyper::service::service_fn(|request: Request<Incoming>| {
        let requests = Rc::clone(&requests);
        async move {
            let (head, body) = request.into_parts();
            let framing = match body.size_hint().exact() {
                Some(length) => Framing::Length(length),
                None => Framing::Chunked,
            };
            let index = requests.borrow().len();
            requests.borrow_mut().push(Seen {
                method: head.method.to_string(),
                framing,
                body: None,
            });
            if let Ok(whole) = body.collect().await {
                requests.borrow_mut()[index].body = Some(whole.to_bytes().to_vec());
            }
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let serving = http1::Builder::new()
        .half_close(true)
        .max_buf_size(MAX_HEAD_BYTES)
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(server), service);
    let talking = async {
        let (mut reader, mut writer) = tokio::io::split(client);
        // Its replies are of no interest, and may find no room.
        let sending = async {
            let _ = writer.write_all(bytes).await;
            let _ = writer.shutdown().await;
        };
        let mut replies = Vec::new();
        let _ = tokio::join!(sending, reader.read_to_end(&mut replies));
    };
    let _ = tokio::join!(serving, talking);
    requests.take()
}
