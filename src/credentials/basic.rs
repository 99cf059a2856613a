//! The `Basic` header: built once per rotation, never on the data path.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// Why a pair of APP ID and secret cannot be sent; never shows either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// One part is not UTF-8, the encoding that this gateway sends (RFC 7617 section 2.1).
    #[error("the {0} is not UTF-8 text")]
    NotText(&'static str),
    /// One part is empty.
    #[error("the {0} is empty")]
    Empty(&'static str),
    /// One part holds a control character, which RFC 7617 section 2 forbids.
    #[error("the {0} contains a control character, which HTTP Basic authentication forbids")]
    ControlCharacter(&'static str),
    /// The APP ID holds a colon, which would move the border between the two parts.
    #[error("the app_id contains a colon, which HTTP Basic authentication forbids")]
    ColonInAppId,
}

impl CredentialError {
    /// Which of the two is at fault: `app_id` or `secret`.
    pub fn part(&self) -> &'static str {
        match self {
            Self::NotText(part) | Self::Empty(part) | Self::ControlCharacter(part) => part,
            Self::ColonInAppId => "app_id",
        }
    }
}

/// Builds `Basic base64(app_id ":" secret)`, marked sensitive, in memory that is wiped on drop.
///
/// # Errors
/// See [`CredentialError`].
///
/// # Source
/// RFC 7617 section 2; MODEN help page "Quick start", 2021-03-23.
pub(super) fn header(app_id: &Secret, secret: &Secret) -> Result<HeaderValue, CredentialError> {
    let app_id = checked("app_id", app_id.expose_secret())?;
    let secret = checked("secret", secret.expose_secret())?;
    if app_id.contains(':') {
        return Err(CredentialError::ColonInAppId);
    }

    // Both buffers get their final size at once: growing would leave copies behind unwiped.
    let mut pair = Zeroizing::new(Vec::with_capacity(app_id.len() + 1 + secret.len()));
    pair.extend_from_slice(app_id.as_bytes());
    pair.push(b':');
    pair.extend_from_slice(secret.as_bytes());

    const SCHEME: &[u8] = b"Basic ";
    let encoded_bytes = pair.len().div_ceil(3) * 4;
    let mut value = Zeroizing::new(vec![0; SCHEME.len() + encoded_bytes]);
    let (scheme, encoded) = value.split_at_mut(SCHEME.len());
    scheme.copy_from_slice(SCHEME);
    STANDARD
        .encode_slice(pair.as_slice(), encoded)
        .expect("the buffer has exactly the encoded length");

    let mut header = HeaderValue::from_maybe_shared(Bytes::from_owner(value))
        .expect("base64 is made of visible ASCII only");
    header.set_sensitive(true);
    Ok(header)
}

fn checked<'part>(name: &'static str, part: &'part [u8]) -> Result<&'part str, CredentialError> {
    let part = std::str::from_utf8(part).map_err(|_| CredentialError::NotText(name))?;
    if part.is_empty() {
        return Err(CredentialError::Empty(name));
    }
    if part.chars().any(char::is_control) {
        return Err(CredentialError::ControlCharacter(name));
    }
    Ok(part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn build(app_id: &str, secret: &str) -> Result<HeaderValue, CredentialError> {
        header(&Secret::new(app_id), &Secret::new(secret))
    }

    #[test]
    fn refuses_what_basic_authentication_cannot_carry() {
        assert_eq!(build("", "s"), Err(CredentialError::Empty("app_id")));
        assert_eq!(build("a", ""), Err(CredentialError::Empty("secret")));
        assert_eq!(build("a:b", "s"), Err(CredentialError::ColonInAppId));
        assert_eq!(
            build("a\n", "s"),
            Err(CredentialError::ControlCharacter("app_id"))
        );
        assert_eq!(
            build("a", "s\u{85}"),
            Err(CredentialError::ControlCharacter("secret"))
        );
    }

    #[test]
    fn never_shows_the_value() {
        let message = build("marker:id", "marker")
            .expect_err("a colon is refused")
            .to_string();
        assert!(!message.contains("marker"), "{message}");
        let header = build("marker-id", "marker").expect("a valid pair");
        assert_eq!(format!("{header:?}"), "Sensitive");
    }

    proptest! {
        #[test]
        fn decodes_back_to_the_pair(app_id in "[^:\\pC]{1,40}", secret in "[^\\pC]{1,80}") {
            let header = build(&app_id, &secret).expect("a valid pair");
            let encoded = header.as_bytes().strip_prefix(b"Basic ").expect("the scheme comes first");
            let decoded = STANDARD.decode(encoded).expect("standard alphabet with padding");
            prop_assert_eq!(decoded, format!("{app_id}:{secret}").into_bytes());
        }
    }
}
