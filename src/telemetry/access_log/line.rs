//! One line of the access log: a flat JSON object, written field by field into a buffer.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A JSON object under construction; the closing brace is the buffer's.
#[derive(Debug)]
pub struct Line<'buffer> {
    bytes: &'buffer mut Vec<u8>,
}

impl<'buffer> Line<'buffer> {
    /// Starts a line with its time, `ts`, in UTC with milliseconds.
    pub(super) fn begin(bytes: &'buffer mut Vec<u8>, stamp: &mut Stamp) -> Self {
        bytes.extend_from_slice(b"{\"ts\":\"");
        stamp.write(SystemTime::now(), bytes);
        bytes.push(b'"');
        Self { bytes }
    }

    /// Adds a text that needs no escaping: our own words, or text checked before.
    pub fn plain(&mut self, key: &'static str, value: &str) {
        debug_assert!(
            !value.bytes().any(needs_escape),
            "{key} would break the line"
        );
        self.key(key);
        self.bytes.push(b'"');
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(b'"');
    }

    /// Adds a text that a peer chose: quotes, backslashes, controls and everything beyond ASCII
    /// are escaped, so that no line can be broken, forged, or make a terminal do things.
    pub fn text(&mut self, key: &'static str, value: &str) {
        self.key(key);
        self.bytes.push(b'"');
        if value.bytes().any(needs_escape) {
            self.escape(value);
        } else {
            self.bytes.extend_from_slice(value.as_bytes());
        }
        self.bytes.push(b'"');
    }

    /// Adds a whole number.
    pub fn number(&mut self, key: &'static str, value: u64) {
        self.key(key);
        self.bytes
            .extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    /// Adds a signed whole number.
    pub fn signed(&mut self, key: &'static str, value: i64) {
        self.key(key);
        self.bytes
            .extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    /// Adds a duration in milliseconds with three decimals.
    pub fn millis(&mut self, key: &'static str, value: Duration) {
        self.key(key);
        let micros = value.as_micros();
        self.bytes
            .extend_from_slice(itoa::Buffer::new().format(micros / 1000).as_bytes());
        self.bytes.push(b'.');
        push_three_digits(self.bytes, micros % 1000);
    }

    fn key(&mut self, key: &'static str) {
        self.bytes.extend_from_slice(b",\"");
        self.bytes.extend_from_slice(key.as_bytes());
        self.bytes.extend_from_slice(b"\":");
    }

    fn escape(&mut self, value: &str) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let hex_digit = |unit: u16, shift: u16| HEX[usize::from((unit >> shift) & 0xf)];
        for unit in value.encode_utf16() {
            match u8::try_from(unit) {
                Ok(byte) if !needs_escape(byte) => self.bytes.push(byte),
                _ => {
                    self.bytes.extend_from_slice(b"\\u");
                    self.bytes
                        .extend([12, 8, 4, 0].map(|shift| hex_digit(unit, shift)));
                }
            }
        }
    }
}

fn needs_escape(byte: u8) -> bool {
    !matches!(byte, b' '..=b'~') || matches!(byte, b'"' | b'\\')
}

fn push_three_digits(bytes: &mut Vec<u8>, number: impl TryInto<u16>) {
    let number: u16 = number.try_into().unwrap_or_default();
    let digit = |place: u16| b'0' + u8::try_from(number / place % 10).unwrap_or_default();
    bytes.extend([100, 10, 1].map(digit));
}

/// The time as RFC 3339 text; the part down to the second is made once a second.
#[derive(Debug, Default)]
pub(super) struct Stamp {
    second: u64,
    text: String,
}

impl Stamp {
    fn write(&mut self, now: SystemTime, bytes: &mut Vec<u8>) {
        let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second != since_epoch.as_secs() || self.text.is_empty() {
            self.second = since_epoch.as_secs();
            self.text = humantime::format_rfc3339_seconds(now).to_string();
            self.text.pop();
        }
        bytes.extend_from_slice(self.text.as_bytes());
        bytes.push(b'.');
        push_three_digits(bytes, since_epoch.subsec_millis());
        bytes.push(b'Z');
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn line(build: impl FnOnce(&mut Line<'_>)) -> (String, Value) {
        let mut bytes = Vec::new();
        build(&mut Line::begin(&mut bytes, &mut Stamp::default()));
        bytes.push(b'}');
        let text = String::from_utf8(bytes).expect("a line is ASCII");
        let value = serde_json::from_str(&text).expect("a line is JSON");
        (text, value)
    }

    #[test]
    fn stamps_with_milliseconds_in_utc() {
        let mut stamp = Stamp::default();
        let mut bytes = Vec::new();
        for millis in [1_790_000_000_007, 1_790_000_000_999, 1_790_000_001_000] {
            stamp.write(UNIX_EPOCH + Duration::from_millis(millis), &mut bytes);
            bytes.push(b' ');
        }
        let text = String::from_utf8(bytes).expect("ASCII");
        assert_eq!(
            text,
            "2026-09-21T14:13:20.007Z 2026-09-21T14:13:20.999Z 2026-09-21T14:13:21.000Z "
        );
    }

    #[test]
    fn writes_numbers_and_durations() {
        let (_, value) = line(|line| {
            line.number("n", u64::MAX);
            line.signed("code", -10_000);
            line.millis("duration_ms", Duration::from_micros(12_034));
            line.millis("short_ms", Duration::from_nanos(999));
        });
        assert_eq!(value["n"], json!(u64::MAX));
        assert_eq!(value["code"], json!(-10_000));
        assert_eq!(value["duration_ms"], json!(12.034));
        assert_eq!(value["short_ms"], json!(0.0));
    }

    proptest! {
        #[test]
        fn nothing_a_peer_sends_can_break_a_line(text in ".*|[\\x00-\\x1f\"\\\\\u{7f}-\u{9f}😀]{0,20}") {
            let (raw, value) = line(|line| line.text("path", &text));
            prop_assert_eq!(value["path"].as_str(), Some(text.as_str()));
            prop_assert!(raw.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        }
    }
}
