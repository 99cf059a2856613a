//! moden-gateway: the one process in a merchant's network that knows the MODEN payment secret.
//!
//! Internal services call `http://gateway/pay/<endpoint>` without a credential of MODEN's. The
//! gateway adds `Authorization: Basic …`, sends the request to MODEN's sandbox or production,
//! whichever the configuration names, and says with every reply what became of the request.
//!
//! # Rooms, in reading order
//!
//! A room is `name.rs` (front door) beside `name/` (furniture). Rooms import downwards only;
//! ARCHITECTURE.md shows the floors, and `tests/architecture.rs` keeps them.
//!
//! - [`proxy`]: the hot path, one request's way through the house
//! - [`app`]: the composition root; from a configuration to a running gateway and its drain
//! - [`upstream`]: connections to MODEN, deadlines, the outcome by counting bytes
//! - [`credentials`]: the credential in use, and the only way to put it on a request
//! - [`server`]: accepting and serving client connections, for any service
//! - [`framing`]: the guard under hyper on both sides, where one message ends and the next begins
//! - [`routing`], [`client_auth`]: which route, which client
//! - [`limits`]: how much is admitted
//! - [`body`], [`domain`]: request bodies held or streamed; nouns that rooms share
//! - [`config`], [`secret`]: the operator's file; where a secret may come from
//! - [`telemetry`]: the access log, the application log, the metrics
//! - [`systemd`]: sockets that are passed, and what the service manager is told
//! - [`admin`]: health, metrics, status, the kill switch, and the client that asks for them
//! - [`simulator`]: a MODEN to test against
//! - [`explain`], [`doctor`]: what would happen to a request; whether all that it needs is there
//!
//! # Words
//!
//! One word for each thing, never a synonym.
//!
//! | word | meaning |
//! |---|---|
//! | client | an internal service that calls the gateway |
//! | upstream | MODEN, as this process reaches it |
//! | environment | sandbox or production; one for each process |
//! | route | which paths and methods are forwarded, and how |
//! | listener | an address where clients are served |
//! | credential | what is injected; made of an APP ID and a secret |
//! | secret | the bytes that nobody may see |
//! | source | where a secret comes from |
//! | slot | which of the configured pairs a credential is |
//! | snapshot | one generation of the configuration in its working form |
//! | policy | a named limit |
//! | permit | the proof that every policy had room for a request |
//! | exchange | one request's life at the upstream |
//! | outcome | what became of a request at MODEN: `not-sent`, `answered`, `unknown` |
//! | drain | ending without losing what was accepted |
//! | kill switch | pause and resume: whether requests are admitted at all |
//! | access log | one line for every request |
//! | simulator | the stand-in for MODEN inside this program |

pub mod admin;
pub mod app;
pub mod body;
pub mod client_auth;
pub mod config;
pub mod credentials;
pub mod doctor;
pub mod domain;
pub mod explain;
pub mod framing;
pub mod limits;
pub mod proxy;
pub mod routing;
pub mod secret;
pub mod server;
pub mod simulator;
pub mod systemd;
pub mod telemetry;
pub mod upstream;
