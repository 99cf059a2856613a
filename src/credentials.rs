//! The credential of MODEN: its ready-made header, and the only way to put it on a request.
//!
//! For: building the `Basic` header once, keeping the one in use, and turning a cleaned request
//! into an [`AuthorizedRequest`], which is all that `upstream` accepts. Never does: read a secret
//! source on the data path, or show the value. Called by: `app` (loading) and `proxy`
//! (authorizing). Start reading at [`Credentials::authorize`].

mod basic;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use http::Request;
use http::header::{AUTHORIZATION, HeaderValue};

use crate::body::RequestBody;
use crate::client_auth::ClientIdentity;
use crate::secret::{Secret, Source};

pub use basic::CredentialError;

/// Which of the configured pairs a credential came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// `app_id` and `secret` of the environment.
    Current,
}

impl Slot {
    /// The value of the access-log field `credential`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
        }
    }
}

/// One APP ID and secret as MODEN wants to see them, built once and shared by all cores.
///
/// The header's memory is wiped when the last request that carries it is gone; its `Debug` shows
/// nothing but that it is sensitive.
#[derive(Debug)]
pub struct Credential {
    header: HeaderValue,
    slot: Slot,
    loaded: Instant,
    /// The kind of the secret's source, if it came from one.
    source: Option<&'static str>,
}

impl Credential {
    /// Builds the `Basic` header from a pair.
    ///
    /// # Errors
    /// When either part cannot be sent as RFC 7617 wants it; the message never shows a value.
    pub fn build(app_id: &Secret, secret: &Secret) -> Result<Self, CredentialError> {
        Ok(Self {
            header: basic::header(app_id, secret)?,
            slot: Slot::Current,
            loaded: Instant::now(),
            source: None,
        })
    }

    /// Notes the kind of place that its secret was read from, for operators.
    pub fn read_from(mut self, source: &Source) -> Self {
        self.source = Some(source.kind());
        self
    }
}

/// What may be known of the credential in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CredentialFacts {
    /// Which pair it is.
    pub slot: Slot,
    /// For how long it has been in use.
    pub age: Duration,
    /// The kind of place that its secret came from: `file`, `env`, `credential` or `command`.
    pub source: Option<&'static str>,
}

/// The credential in use, or none; read by every request without a lock.
#[derive(Debug, Default)]
pub struct Credentials {
    current: ArcSwapOption<Credential>,
}

/// There is no credential to send: nothing is forwarded until there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no usable credential is loaded")]
pub struct CredentialUnavailable;

impl Credentials {
    /// Takes a credential into use for every request that is authorized from now on.
    pub fn replace(&self, credential: Credential) {
        self.current.store(Some(Arc::new(credential)));
    }

    /// Whether a request could be authorized now.
    pub fn is_available(&self) -> bool {
        self.current.load().is_some()
    }

    /// What operators are shown of the credential in use; `None` while there is none.
    pub fn facts(&self) -> Option<CredentialFacts> {
        let current = self.current.load();
        current.as_ref().map(|credential| CredentialFacts {
            slot: credential.slot,
            age: credential.loaded.elapsed(),
            source: credential.source,
        })
    }

    /// Puts the credential on a request: the only writer of `Authorization`.
    ///
    /// The request must have been cleaned before; whatever stands in `Authorization` is replaced,
    /// so that exactly one value leaves. Needing a [`ClientIdentity`] makes it impossible to
    /// authorize a request whose client was never admitted.
    ///
    /// # Errors
    /// [`CredentialUnavailable`]: fail closed, forward nothing.
    pub fn authorize(
        &self,
        mut request: Request<RequestBody>,
        _admitted: &ClientIdentity,
    ) -> Result<AuthorizedRequest, CredentialUnavailable> {
        let current = self.current.load();
        let credential = current.as_ref().ok_or(CredentialUnavailable)?;
        request
            .headers_mut()
            .insert(AUTHORIZATION, credential.header.clone());
        Ok(AuthorizedRequest {
            request,
            slot: credential.slot,
        })
    }
}

/// A request that carries MODEN's credential and may be sent; nothing else makes one.
#[derive(Debug)]
pub struct AuthorizedRequest {
    request: Request<RequestBody>,
    slot: Slot,
}

impl AuthorizedRequest {
    /// The pair that the credential came from.
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// The request itself, for the room that sends it.
    pub fn into_request(self) -> Request<RequestBody> {
        self.request
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn request() -> Request<RequestBody> {
        Request::post("/pay/sandbox/gateway")
            .header(AUTHORIZATION, "Bearer of-the-client")
            .header(AUTHORIZATION, "Basic twice")
            .body(RequestBody::held(Bytes::new()))
            .expect("a valid request")
    }

    #[test]
    fn puts_exactly_one_authorization_on_a_request() {
        let credentials = Credentials::default();
        let pair = (Secret::new("app"), Secret::new("top"));
        credentials.replace(Credential::build(&pair.0, &pair.1).expect("a valid pair"));
        let authorized = credentials
            .authorize(request(), &ClientIdentity::anonymous())
            .expect("a credential is loaded");
        let request = authorized.into_request();
        let values: Vec<_> = request.headers().get_all(AUTHORIZATION).iter().collect();
        assert_eq!(values, ["Basic YXBwOnRvcA=="]);
        assert!(values.iter().all(|value| value.is_sensitive()));
        assert!(!format!("{request:?}").contains("YXBwOnRvcA"));
    }

    #[test]
    fn refuses_to_authorize_without_a_credential() {
        let refusal = Credentials::default()
            .authorize(request(), &ClientIdentity::anonymous())
            .expect_err("nothing is loaded");
        assert_eq!(refusal, CredentialUnavailable);
    }
}
