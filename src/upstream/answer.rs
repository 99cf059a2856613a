//! The answer: held whole up to a size, so that header and log can tell the truth; else streamed.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::response::Parts;
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, timeout_at};

use super::Lease;
use super::error::{Failure, UpstreamError};
use super::exchange::{Head, failure_of};
use super::metered::Meter;
use super::origin::UpstreamLimits;
use crate::body::{Held, Start};

/// MODEN's answer: its head, and its body whole or on its way.
#[derive(Debug)]
pub struct Answer {
    /// Status and fields, as they came.
    pub head: Parts,
    /// The body.
    pub body: AnswerBody,
}

/// The body of an answer.
#[derive(Debug)]
pub enum AnswerBody {
    /// Complete; the outcome is `answered`. It is counted as held until the count is dropped.
    Held(Bytes, Held),
    /// Longer than `upstream.hold_answer`; the outcome is known when it ends.
    Streamed(Box<AnswerStream>),
}

/// Receives the answer that belongs to `head` until it is complete or too long to hold.
pub(super) async fn receive(
    head: Head,
    lease: Lease,
    limits: &UpstreamLimits,
    deadline: Instant,
    mut held: Held,
) -> Result<Answer, UpstreamError> {
    let Head {
        response, meter, ..
    } = head;
    let (head, mut rest) = response.into_parts();
    let is_long = |bytes: u64| bytes > limits.hold_answer_bytes as u64;
    let status = head.status;
    let stream = |start, rest, mut lease: Lease, meter| {
        lease.long_answer_began(status);
        AnswerBody::Streamed(Box::new(AnswerStream::new(
            start, rest, lease, status, meter, limits, deadline,
        )))
    };

    let mut start = Start::default();
    let mut latest = lease.received;
    let announced_long = rest.size_hint().exact().is_some_and(is_long);
    let body = loop {
        if announced_long || is_long(start.len() as u64) {
            let start = (start.into_bytes(), held);
            break stream(start, rest, lease, meter);
        }
        if rest.is_end_stream() {
            lease.give_back(status);
            break AnswerBody::Held(start.into_bytes(), held);
        }
        let deadline = deadline.min(latest + limits.body_idle_timeout);
        let failure = match timeout_at(deadline, rest.frame()).await {
            Err(_) => Failure::AnswerTimeout,
            Ok(Some(Err(error))) => failure_of(&error, None),
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    held.grow(data.len() as u64);
                    start.push(data);
                }
                latest = Instant::now();
                continue;
            }
            Ok(None) => {
                lease.give_back(status);
                break AnswerBody::Held(start.into_bytes(), held);
            }
        };
        return Err(lease.fail(UpstreamError {
            failure,
            outcome: meter.outcome(),
        }));
    };
    Ok(Answer { head, body })
}

/// A long answer on its way from MODEN to the client.
///
/// Dropping it closes the connection that it comes on.
#[derive(Debug)]
pub struct AnswerStream {
    /// What was received before it proved too long to hold, counted as held; gone once it is
    /// passed on.
    start: Option<(Bytes, Held)>,
    rest: Incoming,
    /// Gone once the answer is complete and its connection given back.
    lease: Option<Lease>,
    status: StatusCode,
    meter: Arc<Meter>,
    idle_timeout: Duration,
    idle: Pin<Box<Sleep>>,
    /// Whether `idle` runs: only waiting for MODEN counts, never the client's own pace.
    is_waiting: bool,
    /// Whether `idle` ends by `deadline`, which the client's pace may have brought near.
    is_short: bool,
    deadline: Instant,
}

impl AnswerStream {
    fn new(
        start: (Bytes, Held),
        rest: Incoming,
        lease: Lease,
        status: StatusCode,
        meter: Arc<Meter>,
        limits: &UpstreamLimits,
        deadline: Instant,
    ) -> Self {
        Self {
            start: Some(start),
            rest,
            lease: Some(lease),
            status,
            meter,
            idle_timeout: limits.body_idle_timeout,
            idle: Box::pin(tokio::time::sleep_until(deadline)),
            is_waiting: false,
            is_short: false,
            deadline,
        }
    }

    /// The length of what is still to come, if MODEN announced it.
    pub fn length(&self) -> Option<u64> {
        let rest = self.rest.size_hint().exact()?;
        let start = self.start.as_ref().map_or(0, |(start, _)| start.len());
        Some(rest + start as u64)
    }

    /// The next chunk; `None` once the answer is complete.
    ///
    /// # Errors
    /// The answer broke off or stalled; it must not look whole to the client.
    pub fn poll_data(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, UpstreamError>>> {
        if let Some((start, _)) = self.start.take()
            && !start.is_empty()
        {
            return Poll::Ready(Some(Ok(start)));
        }
        loop {
            let failure = match Pin::new(&mut self.rest).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.is_waiting = false;
                    match frame.into_data() {
                        Ok(data) => return Poll::Ready(Some(Ok(data))),
                        Err(_trailers) => continue,
                    }
                }
                Poll::Ready(None) => {
                    if let Some(lease) = self.lease.take() {
                        lease.give_back(self.status);
                    }
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(error))) => failure_of(&error, None),
                Poll::Pending => {
                    if !self.is_waiting {
                        self.is_waiting = true;
                        let patience = Instant::now() + self.idle_timeout;
                        self.is_short = self.deadline < patience;
                        self.idle.as_mut().reset(self.deadline.min(patience));
                    }
                    ready!(self.idle.as_mut().poll(context));
                    Failure::AnswerTimeout
                }
            };
            let is_moden_late = !matches!(failure, Failure::AnswerTimeout) || !self.is_short;
            let outcome = self.meter.outcome();
            let error = UpstreamError { failure, outcome };
            let error = match self.lease.take() {
                Some(lease) if is_moden_late => lease.fail(error),
                _ => error,
            };
            return Poll::Ready(Some(Err(error)));
        }
    }
}
