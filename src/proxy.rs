//! The way of a request through the gateway.

pub mod path;
