//! The end of a connection: a last reply, and patience with a client that still sends.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE};
use http::{HeaderValue, Response};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::rt::{Read, Write};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::guarded::GuardedIo;

/// How long a client may take to receive the reply to what was no request; it is short, and fits
/// into any socket that takes something.
const LAST_REPLY_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a client may go on sending after its last reply before that is at risk.
const LINGER: Duration = Duration::from_secs(2);

/// How much it may go on sending, in bytes.
const LINGER_BYTES: usize = 16 * 1024 * 1024;

/// Writes a reply that hyper knows nothing of, and closes the connection behind it.
pub(super) async fn refuse<T, B>(
    mut io: GuardedIo<T>,
    reply: Response<B>,
    draining: CancellationToken,
) where
    T: Read + Write + Unpin,
    B: Body<Data = Bytes>,
{
    let Some(bytes) = encode(reply, io.is_head()).await else {
        return;
    };
    if let Ok(Ok(())) = timeout(LAST_REPLY_TIMEOUT, io.write_last(&bytes)).await {
        close(io, draining).await;
    }
}

/// Closes a connection whose sending side is closed already.
///
/// A socket that is closed while the client still sends is reset, and with the reset the client's
/// system may throw away the reply that the client has not read yet. So what still comes is read
/// for a while. A drain waits for none of it: what has come by then is read, and no more.
///
/// # Source
/// RFC 9112 section 9.6.
pub(super) async fn close<T: Read + Unpin>(mut io: GuardedIo<T>, draining: CancellationToken) {
    if io.is_at_end() {
        return;
    }
    tokio::select! {
        biased;
        // However it ends, there is nothing left to do.
        _ = timeout(LINGER, io.discard(LINGER_BYTES)) => {}
        () = draining.cancelled() => {}
    }
}

/// The bytes of a whole reply, the last of its connection, without its body if that is for a HEAD;
/// `None` if its body broke off.
///
/// # Source
/// RFC 9110 section 6.6.1 (`Date`), RFC 9112 section 9.6 (`Connection: close`).
async fn encode<B: Body<Data = Bytes>>(reply: Response<B>, is_head: bool) -> Option<Vec<u8>> {
    let (mut head, body) = reply.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    let date = httpdate::fmt_http_date(SystemTime::now());
    let date = HeaderValue::try_from(date).ok()?;
    head.headers.insert(DATE, date);
    head.headers.insert(CONTENT_LENGTH, body.len().into());
    head.headers
        .insert(CONNECTION, HeaderValue::from_static("close"));

    let reason = head.status.canonical_reason().unwrap_or_default();
    let start = format!("HTTP/1.1 {} {reason}\r\n", head.status.as_str());
    let mut bytes = start.into_bytes();
    for (name, value) in &head.headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    if !is_head {
        bytes.extend_from_slice(&body);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    #[tokio::test]
    async fn a_last_reply_is_whole() {
        let mut reply = Response::new(Full::new(Bytes::from("hello")));
        *reply.status_mut() = http::StatusCode::BAD_REQUEST;
        let value = HeaderValue::from_static("b");
        reply.headers_mut().insert("a", value);
        let head = encode(reply.clone(), true).await.expect("a whole body");
        let bytes = encode(reply, false).await.expect("a whole body");
        assert!(bytes.starts_with(&head) && bytes.len() == head.len() + 5);
        let text = String::from_utf8(bytes).expect("ASCII");
        assert!(text.starts_with("HTTP/1.1 400 Bad Request\r\na: b\r\ndate: "));
        let end = "\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
        assert!(text.ends_with(end), "{text}");
    }
}
