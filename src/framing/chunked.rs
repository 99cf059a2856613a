//! Chunked bodies: chunk lines and trailers byte by byte, the data skipped.

use super::body::{Progress, State};
use super::violation::Violation;

/// What the extensions of all chunks of a message may have together, in bytes. Nobody sends any;
/// hyper takes 16 KiB.
const MAX_EXTENSION_BYTES: usize = 4 * 1024;

/// What the trailers of a message may have, in bytes; they are dropped anyway. hyper takes 16 KiB.
const MAX_TRAILER_BYTES: usize = 8 * 1024;

/// The most digits of a chunk's size: with them it stays below 2^60.
const MAX_SIZE_DIGITS: u8 = 15;

/// A chunked body that is being read.
///
/// # Source
/// RFC 9112 section 7.1.
#[derive(Debug)]
pub(super) struct Chunked {
    at: At,
    /// Of the chunk's data, what is still to come.
    size: u64,
    extension_bytes: usize,
    trailer_bytes: usize,
    trailers: usize,
    max_trailers: usize,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// The size of a chunk, of which this many digits were there.
    Size(u8),
    /// Whitespace behind the size; only an extension may follow.
    Whitespace,
    Extension,
    /// The line feed of a chunk line.
    SizeEnd,
    Data,
    /// The carriage return behind a chunk's data.
    DataReturn,
    DataEnd,
    /// The start of a trailer, or the carriage return of the last line.
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerEnd,
    /// The line feed of the last line.
    LastEnd,
    Complete,
}

impl Chunked {
    pub(super) fn new(max_trailers: usize) -> Self {
        Self {
            at: At::Size(0),
            size: 0,
            extension_bytes: 0,
            trailer_bytes: 0,
            trailers: 0,
            max_trailers,
        }
    }

    /// Looks at the next bytes of the body.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Progress {
        let mut rest = bytes;
        let state = loop {
            if self.at == At::Complete {
                break Ok(State::Complete);
            }
            if self.at == At::Data {
                rest = self.skip_data(rest);
            }
            let Some((byte, behind)) = rest.split_first() else {
                break Ok(State::Incomplete);
            };
            match self.step(*byte) {
                Ok(next) => self.at = next,
                Err(violation) => break Err(violation),
            }
            rest = behind;
        };
        Progress {
            bytes: bytes.len() - rest.len(),
            state,
        }
    }

    fn skip_data<'bytes>(&mut self, bytes: &'bytes [u8]) -> &'bytes [u8] {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        match bytes.split_at_checked(size) {
            Some((_, rest)) => {
                self.at = At::DataReturn;
                rest
            }
            None => {
                self.size -= bytes.len() as u64;
                &[]
            }
        }
    }

    fn step(&mut self, byte: u8) -> Result<At, Violation> {
        match (self.at, byte) {
            (At::Size(digits), _) => self.read_size(digits, byte),

            (At::Whitespace, b' ' | b'\t') => self.count_extension(At::Whitespace),
            (At::Whitespace, b';') => self.count_extension(At::Extension),
            (At::Whitespace, _) => Err(Violation::ChunkSize),

            (At::Extension, b'\r') => Ok(At::SizeEnd),
            (At::Extension, _) if is_control(byte) => Err(control(byte)),
            (At::Extension, _) => self.count_extension(At::Extension),

            (At::SizeEnd, b'\n') if self.size == 0 => Ok(At::TrailerStart),
            (At::SizeEnd, b'\n') => Ok(At::Data),
            (At::DataEnd, b'\n') => {
                self.size = 0;
                Ok(At::Size(0))
            }
            (At::TrailerEnd, b'\n') => Ok(At::TrailerStart),
            (At::LastEnd, b'\n') => Ok(At::Complete),
            (At::SizeEnd | At::DataEnd | At::TrailerEnd | At::LastEnd, _) => {
                Err(Violation::BareCarriageReturn)
            }

            (At::DataReturn, b'\r') => Ok(At::DataEnd),
            (At::DataReturn, _) => Err(Violation::ChunkEnd),

            (At::TrailerStart, b'\r') => Ok(At::LastEnd),
            (At::TrailerStart, b' ' | b'\t') if self.trailers == 0 => {
                Err(Violation::LeadingWhitespace)
            }
            (At::TrailerStart, b' ' | b'\t') => Err(Violation::Folded),
            (At::TrailerStart, b':') => Err(Violation::EmptyName),
            (At::TrailerStart, _) if self.trailers == self.max_trailers => {
                Err(Violation::TooManyFields)
            }
            (At::TrailerName, b'\r') => Err(Violation::TrailerLine),
            (At::TrailerName, b' ' | b'\t') => Err(Violation::SpaceBeforeColon),
            (At::TrailerName, b':') => self.count_trailer(At::TrailerValue),
            (At::TrailerValue, b'\r') => self.count_trailer(At::TrailerEnd),
            (At::TrailerStart | At::TrailerName | At::TrailerValue, _) if is_control(byte) => {
                Err(control(byte))
            }
            (At::TrailerStart, _) => {
                self.trailers += 1;
                self.count_trailer(At::TrailerName)
            }
            (At::TrailerName | At::TrailerValue, _) => self.count_trailer(self.at),

            // Neither is ever shown a byte.
            (At::Data | At::Complete, _) => Ok(self.at),
        }
    }

    fn read_size(&mut self, digits: u8, byte: u8) -> Result<At, Violation> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if digits > 0 => return Ok(At::SizeEnd),
            b';' if digits > 0 => return self.count_extension(At::Extension),
            b' ' | b'\t' if digits > 0 => return self.count_extension(At::Whitespace),
            b'\n' => return Err(Violation::BareLineFeed),
            _ => return Err(Violation::ChunkSize),
        };
        if digits == MAX_SIZE_DIGITS {
            return Err(Violation::ChunkSize);
        }
        self.size = self.size << 4 | u64::from(digit);
        Ok(At::Size(digits + 1))
    }

    fn count_extension(&mut self, next: At) -> Result<At, Violation> {
        self.extension_bytes += 1;
        match self.extension_bytes > MAX_EXTENSION_BYTES {
            true => Err(Violation::ExtensionsTooLong),
            false => Ok(next),
        }
    }

    fn count_trailer(&mut self, next: At) -> Result<At, Violation> {
        self.trailer_bytes += 1;
        match self.trailer_bytes > MAX_TRAILER_BYTES {
            true => Err(Violation::TrailersTooLong),
            false => Ok(next),
        }
    }
}

fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && byte != b'\t'
}

fn control(byte: u8) -> Violation {
    match byte {
        b'\n' => Violation::BareLineFeed,
        _ => Violation::ControlCharacter,
    }
}
