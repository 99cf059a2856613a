//! Heads: lines that end with CRLF, and the two fields that say how long a body is.

use memchr::memchr2;

use super::violation::Violation;

/// One more than the longest length that is believed; nobody can send that much.
const LENGTHS_END: u64 = 1 << 63;

/// How large a head may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// From its first byte to its last, the empty line included.
    pub max_bytes: usize,
    /// Field lines; as many again may stand in trailers. hyper takes 100.
    pub max_fields: usize,
}

/// What becomes of `Content-Length: 5, 5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lists {
    /// It is invalid, as for hyper's server.
    Refused,
    /// It is a 5, as for hyper's client.
    Folded,
}

/// A head that is being read; it remembers what it has seen, so that bytes that come one by one
/// are looked at once.
#[derive(Debug)]
pub(super) struct Head {
    /// Where the line begins that is not complete yet.
    line_start: usize,
    /// Up to here there is no line end that was not seen.
    searched: usize,
    /// Field lines so far.
    fields: usize,
    has_start_line: bool,
    content_length: Option<u64>,
    is_chunked: bool,
}

/// A line of a head, without its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line<'head> {
    /// The first one; it may be empty.
    Start(&'head [u8]),
    /// The empty one, with which the head ends; its length.
    End(usize),
    /// There is no further line yet.
    Incomplete,
}

/// How a head says that its body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Announced {
    Nothing,
    Length(u64),
    Chunked,
}

impl Head {
    pub(super) const fn new() -> Self {
        Self {
            line_start: 0,
            searched: 0,
            fields: 0,
            has_start_line: false,
            content_length: None,
            is_chunked: false,
        }
    }

    /// Reads on in `bytes`, which begin where the head does and are more than at the last call;
    /// stops behind the start line and at the end.
    #[inline]
    pub(super) fn read<'head>(
        &mut self,
        bytes: &'head [u8],
        limits: HeadLimits,
        lists: Lists,
    ) -> Result<Line<'head>, Violation> {
        // What lies behind the longest head is not looked at, so that it matters not how much of
        // it has come.
        let window = bytes.get(..limits.max_bytes).unwrap_or(bytes);
        loop {
            let unsearched = window.get(self.searched..).unwrap_or_default();
            let Some(found) = memchr2(b'\r', b'\n', unsearched) else {
                self.searched = window.len();
                return self.wait(window, limits);
            };
            let end = self.searched + found;
            match (window.get(end), window.get(end + 1)) {
                (Some(b'\n'), _) => return Err(Violation::BareLineFeed),
                (_, Some(b'\n')) => {}
                (_, Some(_)) => return Err(Violation::BareCarriageReturn),
                (_, None) => {
                    self.searched = end;
                    return self.wait(window, limits);
                }
            }
            let line = window.get(self.line_start..end).unwrap_or_default();
            self.line_start = end + 2;
            self.searched = end + 2;
            if !self.has_start_line {
                self.has_start_line = true;
                return Ok(Line::Start(line));
            }
            match line.first() {
                None => return Ok(Line::End(self.line_start)),
                Some(first) => self.read_field(*first, line, limits, lists)?,
            }
        }
    }

    /// Reads the start line once more: what stood there was an empty line before it.
    pub(super) fn await_start_line(&mut self) {
        self.has_start_line = false;
    }

    /// Where the line begins that is not complete yet.
    pub(super) fn line_start(&self) -> usize {
        self.line_start
    }

    fn wait(&self, window: &[u8], limits: HeadLimits) -> Result<Line<'static>, Violation> {
        match window.len() < limits.max_bytes {
            true => Ok(Line::Incomplete),
            false if self.has_start_line => Err(Violation::HeadTooLong),
            false => Err(Violation::RequestLineTooLong),
        }
    }

    /// Few fields begin with one of these letters, so most are done with the first look.
    #[inline]
    fn read_field(
        &mut self,
        first: u8,
        line: &[u8],
        limits: HeadLimits,
        lists: Lists,
    ) -> Result<(), Violation> {
        self.fields += 1;
        if self.fields > limits.max_fields {
            return Err(Violation::TooManyFields);
        }
        match first {
            b'C' | b'c' => match value_of(b"content-length", line) {
                None => Ok(()),
                Some(value) => self.read_length(value?, lists),
            },
            b'T' | b't' => match value_of(b"transfer-encoding", line) {
                None => Ok(()),
                Some(value) => self.read_coding(value?),
            },
            b' ' | b'\t' if self.fields == 1 => Err(Violation::LeadingWhitespace),
            b' ' | b'\t' => Err(Violation::Folded),
            b':' => Err(Violation::EmptyName),
            _ => Ok(()),
        }
    }

    fn read_length(&mut self, value: &[u8], lists: Lists) -> Result<(), Violation> {
        match lists {
            Lists::Refused => self.agree_on(value),
            Lists::Folded => value
                .split(|byte| *byte == b',')
                .try_for_each(|value| self.agree_on(value)),
        }
    }

    fn agree_on(&mut self, value: &[u8]) -> Result<(), Violation> {
        let length = number(trimmed(value)).ok_or(Violation::ContentLength)?;
        match self.content_length.replace(length) {
            Some(other) if other != length => Err(Violation::ContentLengthConflict),
            _ => Ok(()),
        }
    }

    fn read_coding(&mut self, value: &[u8]) -> Result<(), Violation> {
        if self.is_chunked {
            return Err(Violation::RepeatedCoding);
        }
        let is_chunked = |coding: &[u8]| trimmed(coding).eq_ignore_ascii_case(b"chunked");
        let mut codings = value.rsplit(|byte| *byte == b',');
        if !codings.next().is_some_and(is_chunked) {
            return Err(Violation::ChunkedNotLast);
        }
        self.is_chunked = true;
        match codings.clone().next() {
            None => Ok(()),
            Some(_) if codings.any(is_chunked) => Err(Violation::RepeatedCoding),
            Some(_) => Err(Violation::UnknownCoding),
        }
    }

    /// How the body is framed, once the head has ended.
    ///
    /// # Source
    /// RFC 9112 sections 6.1 and 6.3; of what may be repaired there, nothing is.
    pub(super) fn announced(&self, is_old_version: bool) -> Result<Announced, Violation> {
        match (self.is_chunked, self.content_length) {
            (false, None) => Ok(Announced::Nothing),
            (false, Some(length)) => Ok(Announced::Length(length)),
            (true, _) if is_old_version => Err(Violation::CodingInOldVersion),
            (true, Some(_)) => Err(Violation::TwoFramings),
            (true, None) => Ok(Announced::Chunked),
        }
    }
}

/// The value of a field line, if this is its name.
#[inline]
fn value_of<'line, const LENGTH: usize>(
    name: &[u8; LENGTH],
    line: &'line [u8],
) -> Option<Result<&'line [u8], Violation>> {
    let (start, rest) = line.split_first_chunk::<LENGTH>()?;
    let (behind, value) = rest.split_first()?;
    // The byte behind the name first: it tells most other fields apart.
    if !matches!(behind, b':' | b' ' | b'\t') || !start.eq_ignore_ascii_case(name) {
        return None;
    }
    Some(match behind {
        b':' => Ok(value),
        _ => Err(Violation::SpaceBeforeColon),
    })
}

/// Without the whitespace that may stand around a value.
fn trimmed(mut value: &[u8]) -> &[u8] {
    while let Some((b' ' | b'\t', rest)) = value.split_first() {
        value = rest;
    }
    while let Some((b' ' | b'\t', rest)) = value.split_last() {
        value = rest;
    }
    value
}

/// Digits and nothing else, below [`LENGTHS_END`].
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let mut number = 0_u64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    (number < LENGTHS_END).then_some(number)
}
