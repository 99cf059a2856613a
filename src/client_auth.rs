//! Who is calling: the proof that a request has an admitted client.
//!
//! For: making a [`ClientIdentity`], without which no request can be authorized. Never does:
//! decide what that client may do. Called by: `proxy`. Start reading at
//! [`ClientIdentity::anonymous`].
//!
//! No `[[clients]]` can be configured yet, so every listener serves the built-in client
//! `anonymous`; which listeners may do so is checked when the configuration is loaded.

/// The client that a request was admitted as; only this room makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    name: &'static str,
}

impl ClientIdentity {
    /// The built-in client of a gateway without `[[clients]]`.
    pub fn anonymous() -> Self {
        Self { name: "anonymous" }
    }

    /// The name that the access log shows.
    pub fn name(&self) -> &'static str {
        self.name
    }
}
