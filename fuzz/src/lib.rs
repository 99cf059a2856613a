//! What must hold whatever comes: one function for each fuzz target.
//!
//! Each takes any bytes and panics if a promise is broken. The programs in `fuzz_targets` call them
//! for libFuzzer; `tests/fuzz.rs` of the gateway includes this very file and calls them for the
//! corpus and for mutations of it, so that `cargo test` needs neither cargo-fuzz nor a nightly
//! compiler. Checks are written anew here and take nothing from the code that they judge.

mod answer;
mod asked;
mod configuration;
mod framing;
mod gateway;
mod headers;
mod path;
mod reference;
mod request;

pub use answer::answer;
pub use configuration::configuration;
pub use framing::framing;
pub use headers::headers;
pub use path::path;
pub use request::request;
