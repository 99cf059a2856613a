//! How much of a request's body does the simulator take in, and how did it end?

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time::timeout;

/// The longest request body that is taken in; a longer one is answered 413.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// How long a request body may take to arrive; a slower one is answered 408.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// What came of a request's body.
pub(super) struct ReceivedBody {
    /// What arrived, at most [`BODY_BYTES_MAX`] bytes.
    pub(super) content: Bytes,
    /// Whether that is all of it.
    pub(super) end: BodyEnd,
}

/// How a request's body ended.
pub(super) enum BodyEnd {
    /// All of it is here.
    Complete,
    /// It is, or claims to be, too long.
    TooLarge,
    /// It took too long.
    TooSlow,
    /// The peer hung up or broke the framing in the middle of it.
    Broken,
}

/// Takes a body in, within its bounds.
pub(super) async fn receive(body: Incoming) -> ReceivedBody {
    let mut content = BytesMut::new();
    let end = timeout(BODY_TIMEOUT, collect(body, &mut content))
        .await
        .unwrap_or(BodyEnd::TooSlow);
    ReceivedBody {
        content: content.freeze(),
        end,
    }
}

async fn collect(mut body: Incoming, content: &mut BytesMut) -> BodyEnd {
    // A body that announces its length is refused before it is asked for.
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return BodyEnd::TooLarge;
    }
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return BodyEnd::Broken;
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if content.len() + data.len() > BODY_BYTES_MAX {
            return BodyEnd::TooLarge;
        }
        content.extend_from_slice(&data);
    }
    BodyEnd::Complete
}
