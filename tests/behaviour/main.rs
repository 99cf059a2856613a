//! What the gateway promises, one module for each promise of the design; each test is a sentence.
//!
//! The real application runs in this process, on real sockets, in front of the built-in simulator
//! or of scripted ones, and is only looked at from outside. Start reading at [`support`].

mod environment_firewall;
mod injects_credential;
mod outcome;
mod support;
