//! Does a request carry the credential that the simulator accepts?

use std::hint::black_box;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use zeroize::Zeroizing;

use super::{SimulatorError, SimulatorSecret};

/// The one credential that is accepted now, in the form that travels.
pub(super) struct AcceptedCredential {
    /// `base64(APP_ID ":" SECRET)`, without the scheme.
    encoded: Zeroizing<String>,
}

impl AcceptedCredential {
    /// Builds the form that travels.
    ///
    /// # Errors
    /// The pair cannot be carried by Basic.
    ///
    /// # Source
    /// RFC 7617 section 2: no colon in the user-id, no control characters in either part.
    pub(super) fn build(app_id: &str, secret: &SimulatorSecret) -> Result<Self, SimulatorError> {
        let secret = secret.0.as_str();
        if app_id.is_empty() || app_id.contains(|c: char| c == ':' || c.is_control()) {
            return Err(SimulatorError::AppIdInvalid);
        }
        if secret.is_empty() || secret.contains(char::is_control) {
            return Err(SimulatorError::SecretInvalid);
        }
        let pair = Zeroizing::new(format!("{app_id}:{secret}"));
        Ok(Self {
            encoded: Zeroizing::new(STANDARD.encode(pair.as_bytes())),
        })
    }

    /// Whether there is exactly one `Authorization` line and it holds this credential.
    ///
    /// Two lines are refused even if both are right: a gateway that lets the client's own through
    /// beside its own must not look well.
    pub(super) fn accepts(&self, headers: &HeaderMap) -> bool {
        let mut lines = headers.get_all(AUTHORIZATION).iter();
        let (Some(line), None) = (lines.next(), lines.next()) else {
            return false;
        };
        let Some((scheme, encoded)) = line.to_str().ok().and_then(|line| line.split_once(' '))
        else {
            return false;
        };
        scheme.eq_ignore_ascii_case("Basic")
            && equal_in_constant_time(encoded.as_bytes(), self.encoded.as_bytes())
    }
}

/// Compares without telling by its duration where the first difference is; the length is no secret.
fn equal_in_constant_time(left: &[u8], right: &[u8]) -> bool {
    let difference = left
        .iter()
        .zip(right)
        .fold(0, |seen, (a, b)| black_box(seen | (a ^ b)));
    left.len() == right.len() && difference == 0
}
