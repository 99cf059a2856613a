//! What the gateway promises, one module for each promise; each test is a sentence.
//!
//! The real application runs in this process, on real sockets, in front of the built-in simulator
//! or of scripted ones, and is only looked at from outside. Start reading at [`support`].

mod access_log;
mod admin;
mod bounds;
mod config_files;
mod deploy_files;
mod doctor;
mod drains;
mod environment_firewall;
mod explain;
mod header_hygiene;
mod http_conformance;
mod injects_credential;
mod limits;
mod never_doubles_a_payment;
mod never_leaks;
mod outcome;
mod sheds_load;
mod shows_itself;
mod streams;
mod support;
mod survives_faults;
mod tls;
mod tls_listeners;
mod withstands_hostile_clients;
