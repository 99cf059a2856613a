//! What is kept of a token that others present: its SHA-256, never the token.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};

/// The SHA-256 over a token's text; whoever reads it cannot present the token.
///
/// Its `Debug` shows nothing all the same: a token that a person has chosen could be guessed from it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenDigest([u8; SHA256_OUTPUT_LEN]);

impl TokenDigest {
    /// Reads 64 lower-case hexadecimal digits; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if !rest.is_empty() {
            return None;
        }
        let bytes: Option<Vec<u8>> = pairs
            .iter()
            .map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?))
            .collect();
        bytes?.try_into().ok().map(Self)
    }

    /// Whether this is the digest of what was presented; takes the same time wherever they differ.
    pub fn is_of(&self, presented: &[u8]) -> bool {
        verify_slices_are_equal(&self.0, digest(&SHA256, presented).as_ref()).is_ok()
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TokenDigest([hidden])")
    }
}

fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `printf abc | sha256sum` prints.
    const OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn knows_the_token_it_was_made_from_and_no_other() {
        let digest = TokenDigest::parse(OF_ABC).expect("64 digits");
        assert!(digest.is_of(b"abc"));
        for other in ["", "ab", "abcd", "abc\n", "ABC", OF_ABC] {
            assert!(!digest.is_of(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn is_read_from_64_lower_case_digits_only() {
        let short = OF_ABC.strip_suffix("ad").expect("it ends so");
        for text in [
            String::new(),
            short.to_owned(),
            format!("{short}a"),
            format!("{OF_ABC}00"),
            OF_ABC.to_uppercase(),
            format!("{short}+d"),
            format!("{short}é"),
            format!(" {short}a"),
        ] {
            assert_eq!(TokenDigest::parse(&text), None, "{text}");
        }
    }

    #[test]
    fn never_shows_its_digits() {
        let digest = TokenDigest::parse(OF_ABC).expect("64 digits");
        assert_eq!(format!("{digest:?}"), "TokenDigest([hidden])");
    }
}
