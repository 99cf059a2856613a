//! What an operator sees: the access log of every request, and what the program says of itself.
//!
//! For: [`access_log`] (one JSON line a request, made by hand, written by a thread of its own),
//! [`log`] (tracing to stderr) and [`metrics`] (the one catalogue). Never does: see a secret, a body or a header value. Called by:
//! `proxy` (lines), `app` and `main` (set-up). Start reading at [`access_log::AccessLog`].

pub mod access_log;
pub mod log;
pub mod metrics;
