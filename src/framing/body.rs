//! Bodies: how many of the next bytes still belong to one.

use super::Framing;
use super::chunked::Chunked;
use super::violation::Violation;

/// What is still to come of a body.
#[derive(Debug)]
pub(super) enum Body {
    /// This many bytes.
    Counted(u64),
    Chunked(Chunked),
    UntilEnd,
}

/// How far a body has come with the bytes it was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// How many of the bytes belong to it.
    pub(super) bytes: usize,
    pub(super) state: Result<State, Violation>,
}

/// Whether a body is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Incomplete,
    Complete,
}

impl Body {
    pub(super) fn new(framing: Framing, max_trailers: usize) -> Self {
        match framing {
            Framing::Length(length) => Self::Counted(length),
            Framing::Chunked => Self::Chunked(Chunked::new(max_trailers)),
            Framing::UntilEnd => Self::UntilEnd,
        }
    }

    /// Looks at the next bytes of it.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Progress {
        match self {
            Self::Counted(left) => {
                let taken =
                    usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= taken as u64;
                let state = match *left {
                    0 => State::Complete,
                    _ => State::Incomplete,
                };
                Progress {
                    bytes: taken,
                    state: Ok(state),
                }
            }
            Self::Chunked(chunked) => chunked.read(bytes),
            Self::UntilEnd => Progress {
                bytes: bytes.len(),
                state: Ok(State::Incomplete),
            },
        }
    }
}
