//! The way of a request through the gateway.

pub mod headers;
pub mod path;
