//! One exchange in the eyes of the breaker: begun, and ended with a verdict.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::StatusCode;
use tokio::time::Instant;

use super::{Breaker, Phase, State};
use crate::upstream::error::{Failure, UpstreamError};

/// Leave for one exchange, which tells how it ended; dropped without, it has told nothing, and a
/// probe's place is free again.
#[derive(Debug)]
pub(in super::super) struct Ticket {
    pub(super) breaker: Arc<Breaker>,
    /// Of the phase that it belongs to.
    pub(super) word: u64,
    pub(super) is_settled: bool,
}

impl Ticket {
    /// Asks once more, after a wait; may become a ticket of another phase.
    ///
    /// # Errors
    /// As [`Breaker::check`].
    pub(in super::super) fn renew(&mut self) -> Result<(), UpstreamError> {
        let Some(circuit) = &self.breaker.circuit else {
            return Ok(());
        };
        // The word of a running probe does not change, so this is no probe.
        if circuit.phase.load(Ordering::Acquire) != self.word {
            *self = self.breaker.begin()?;
        }
        Ok(())
    }

    /// A complete answer with this status came.
    pub(in super::super) fn answered(mut self, status: StatusCode, now: Instant) {
        self.settle(Verdict::of_status(status), now);
    }

    /// The beginning of a long answer came. It has shown what a probe is to show, and its end may be
    /// far off; from here on it is one exchange among others.
    pub(in super::super) fn long_answer_began(
        mut self,
        status: StatusCode,
        now: Instant,
    ) -> Option<Self> {
        if self.is_probe() || Verdict::of_status(status) == Verdict::Failed {
            self.settle(Verdict::of_status(status), now);
            return self.breaker.begin().ok();
        }
        Some(self)
    }

    /// The exchange failed; returns what is wrong with it.
    pub(in super::super) fn failed(mut self, error: UpstreamError) -> UpstreamError {
        let verdict = Verdict::of_failure(&error.failure);
        self.settle(verdict, Instant::now());
        error
    }

    fn is_probe(&self) -> bool {
        Phase::of_word(self.word).state == State::Probing
    }

    fn settle(&mut self, verdict: Verdict, now: Instant) {
        self.is_settled = true;
        if let Some(circuit) = &self.breaker.circuit {
            circuit.settle(self.word, verdict, now);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.is_settled && self.is_probe() {
            self.settle(Verdict::Nothing, Instant::now());
        }
    }
}

/// What the end of an exchange says of MODEN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It answers.
    Answered,
    /// It, or the network, is at fault.
    Failed,
    /// Nothing: it was never asked, or others are at fault.
    Nothing,
}

impl Verdict {
    pub(super) fn of_failure(failure: &Failure) -> Self {
        match failure {
            Failure::Dns(_)
            | Failure::Refused
            | Failure::ConnectTimeout
            | Failure::Unreachable(_)
            | Failure::Tunnel(_)
            | Failure::Certificate(_)
            | Failure::Tls(_)
            | Failure::ResponseTimeout
            | Failure::AnswerTimeout
            | Failure::Reset
            | Failure::Invalid(_) => Self::Failed,
            Failure::QueueTimeout | Failure::BreakerOpen(_) | Failure::RequestBody(_) => {
                Self::Nothing
            }
        }
    }

    /// A 500 is no failure: one request that MODEN stumbles over must not close the shop.
    pub(super) fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Self::Failed,
            _ => Self::Answered,
        }
    }
}
