//! What an operator sees: the access log of every request, what the program says of itself, and
//! what can be counted.
//!
//! For: [`access_log`] (one JSON line a request, made by hand, written by a thread of its own),
//! [`log`] (tracing to stderr) and [`metrics`] (the one catalogue). Never does: see a secret, a body
//! or a header value. Called by: `server`, `upstream` and `proxy` (lines and counts), `admin`
//! (showing the metrics), `app` and `main` (set-up). Start reading at [`access_log::AccessLog`] or
//! [`metrics::Metrics`].

pub mod access_log;
pub mod log;
pub mod metrics;
