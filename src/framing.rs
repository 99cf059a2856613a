//! The framing guard: where one HTTP/1.1 message ends and the next begins, read strictly.
//!
//! For: watching the bytes that hyper will parse, and refusing whatever another reader could frame
//! in another way. hyper takes a bare line feed for a line end and drops `Content-Length` beside
//! `Transfer-Encoding` without a word, so what reaches the service no longer shows it. Never does:
//! read or write a socket, change a byte, or decide the framing for hyper; what both make of a head
//! is compared by the callers, and where they differ the connection dies. Nor does it look at what
//! hyper refuses by itself: characters in names, values and targets. Called by: `server` with the
//! requests of its clients, `upstream` with the answers of MODEN. Start reading at
//! [`RequestGuard::inspect`].
//!
//! ```text
//!             incomplete: nothing passes                a piece of the body passes
//!                ┌─────┐                                   ┌─────┐
//! begin_next ──▶ head ─┴─ complete, framed ──────────▶ body ─────┴─▶ complete: what follows waits
//!                  └────────── broken: nothing passes any more ──────────┘
//! ```

mod answer;
mod body;
mod chunked;
mod head;
mod request;
mod violation;

pub use answer::AnswerGuard;
pub use head::HeadLimits;
pub use request::RequestGuard;
pub use violation::{Meaning, Violation};

/// What may be passed on of the bytes that were shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// How many of the bytes, from the first on; they must not be shown again. The others must,
    /// with more behind them, or when the next message may begin.
    pub bytes: usize,
    /// Whether the message ends with them.
    pub is_complete: bool,
}

/// How long the body of a message is, as its head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// This many bytes; 0 also where no body is announced or none can be.
    Length(u64),
    /// In chunks, the last of them empty.
    Chunked,
    /// All that comes until the connection ends; answers only.
    UntilEnd,
}

#[cfg(test)]
mod tests;
