//! Durations and sizes as they are written: a number with its unit, `"5s"` or `"64KiB"`.

use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

/// What a value should have been; never what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}")]
pub struct Expected(pub(super) &'static str);

/// The longest duration that makes sense in this file: one day. Longer ones are slips of a unit.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The largest size that makes sense in this file: 1 GiB.
const LARGEST_BYTES: u64 = 1 << 30;

/// Parses a duration such as `5s`, `1m 30s` or `20ms`.
///
/// # Errors
/// Without a unit, or above one day.
pub(super) fn parse_duration(text: &str) -> Result<Duration, Expected> {
    if !ends_in_unit(text) {
        return Err(Expected(
            "a duration with a unit such as \"5s\", found a string without one",
        ));
    }
    let duration = humantime::parse_duration(text).map_err(|_| {
        Expected("a duration with a unit such as \"5s\", found a string that is none")
    })?;
    if duration > LONGEST {
        return Err(Expected(
            "a duration of at most one day, found a longer one",
        ));
    }
    Ok(duration)
}

/// Parses a size such as `64KiB`, `4MiB` or `512B`.
///
/// # Errors
/// Without a unit, or above 1 GiB.
pub(super) fn parse_size(text: &str) -> Result<u64, Expected> {
    if !ends_in_unit(text) {
        return Err(Expected(
            "a size with a unit such as \"64KiB\", found a string without one",
        ));
    }
    let size = text.parse::<bytesize::ByteSize>().map_err(|_| {
        Expected("a size with a unit such as \"64KiB\", found a string that is none")
    })?;
    if size.as_u64() > LARGEST_BYTES {
        return Err(Expected("a size of at most 1GiB, found a larger one"));
    }
    Ok(size.as_u64())
}

/// Whether a text ends in a letter; both parsers below take a bare number for something.
fn ends_in_unit(text: &str) -> bool {
    text.ends_with(|last: char| last.is_ascii_alphabetic())
}

/// `#[serde(with = "units::duration")]`: a duration that may be zero.
pub(super) mod duration {
    use std::time::Duration;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::parse_duration;

    pub(in super::super) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*duration))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        parse_duration(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// `#[serde(with = "units::positive_duration")]`: a duration that zero makes no sense for.
pub(super) mod positive_duration {
    use std::time::Duration;

    use serde::de::Error;
    use serde::{Deserializer, Serializer};

    use super::{Expected, duration};

    pub(in super::super) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        duration::serialize(duration, serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        let duration = duration::deserialize(deserializer)?;
        if duration.is_zero() {
            let expected = Expected("a duration longer than zero, found zero");
            return Err(D::Error::custom(expected));
        }
        Ok(duration)
    }
}

/// `#[serde(with = "units::size")]`: a size in bytes, as `u64` or `usize`.
pub(super) mod size {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::parse_size;

    pub(in super::super) fn serialize<N, S>(size: &N, serializer: S) -> Result<S::Ok, S::Error>
    where
        N: Copy + TryInto<u64>,
        S: Serializer,
    {
        let bytes: u64 = (*size).try_into().unwrap_or(u64::MAX);
        // In the largest unit of which it is a whole number: a rounded size would be another one.
        let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        let whole = |(unit, _): &(u64, &str)| bytes > 0 && bytes.is_multiple_of(*unit);
        let (unit, name) = units.into_iter().find(whole).unwrap_or((1, "B"));
        serializer.collect_str(&format_args!("{}{name}", bytes / unit))
    }

    pub(in super::super) fn deserialize<'de, N, D>(deserializer: D) -> Result<N, D::Error>
    where
        N: TryFrom<u64>,
        D: Deserializer<'de>,
    {
        let bytes = parse_size(&String::deserialize(deserializer)?).map_err(D::Error::custom)?;
        N::try_from(bytes).map_err(|_| D::Error::custom("expected a size that fits the machine"))
    }
}

/// How a duration looks in the schema.
pub(super) struct DurationText;

impl JsonSchema for DurationText {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "examples": ["500ms", "5s", "1m 30s"],
            "x-expected": "a duration with a unit such as \"5s\"",
        })
    }
}

/// How a size looks in the schema.
pub(super) struct SizeText;

impl JsonSchema for SizeText {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "examples": ["512B", "64KiB", "4MiB"],
            "x-expected": "a size with a unit such as \"64KiB\"",
        })
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    #[test]
    fn reads_durations_with_their_units() {
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_duration("20ms"), Ok(Duration::from_millis(20)));
        assert_eq!(parse_duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("24h"), Ok(LONGEST));
    }

    #[test]
    fn refuses_durations_without_a_unit_or_a_meaning() {
        for text in [
            "",
            "0",
            "5",
            "5 ",
            "5x",
            "-5s",
            "s",
            "5s5",
            "25h",
            "99999999999999999999s",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn reads_sizes_with_their_units() {
        assert_eq!(parse_size("0B"), Ok(0));
        assert_eq!(parse_size("64KiB"), Ok(65_536));
        assert_eq!(parse_size("64 kB"), Ok(64_000));
        assert_eq!(parse_size("4MiB"), Ok(4 << 20));
    }

    #[test]
    fn writes_every_size_so_that_it_is_read_as_the_same() {
        #[derive(Serialize, Deserialize)]
        struct Size(#[serde(with = "size")] u64);
        for (bytes, written) in [
            (0, "0B"),
            (512, "512B"),
            (1_500, "1500B"),
            (65_536, "64KiB"),
            (64_000, "64000B"),
            (1025 * 1024, "1025KiB"),
            (4 << 20, "4MiB"),
            (1 << 30, "1GiB"),
            (u64::MAX, "18446744073709551615B"),
        ] {
            let text = serde_json::to_string(&Size(bytes)).expect("a string");
            assert_eq!(text, format!("\"{written}\""));
            if bytes <= LARGEST_BYTES {
                let Size(again) = serde_json::from_str(&text).expect("it was written here");
                assert_eq!(again, bytes);
            }
        }
    }

    #[test]
    fn refuses_sizes_without_a_unit_or_a_meaning() {
        for text in [
            "",
            "0",
            "65536",
            "64x",
            "-1KiB",
            "KiB",
            "2GiB",
            "9999999999TiB",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
