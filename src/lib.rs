//! moden-gateway: the one process in a merchant's network that knows the MODEN payment secret.

pub mod config;
pub mod domain;
pub mod secret;
