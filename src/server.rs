//! Accepting connections and serving HTTP/1.1 on them, for whatever service is given.
//!
//! For: listeners, the bounds on connections, handing each connection to a core, TLS and the
//! certificates of listeners, the framing guard between a client and hyper, the deadlines of a client
//! that is silent, and closing down without losing a request or a reply. Never does: know what the
//! service does, or say anything to a client that the service has not said. Called by: `app`, and
//! `doctor` for [`SocketFile`]. Start reading at [`Listener::accept_until`] and [`serve_connection`].
//!
//! ```text
//! control thread                         core (one thread, one runtime)
//! Listener::accept_until --socket-->     Accepted::serve -> first byte -> TLS, if configured
//!                                          -> serve_connection
//!                                          socket <-> GuardedIo <-> hyper -> service
//! Renewal::look --certificate-->         Tls, for the next connection
//! ```

mod accepted;
mod addresses;
mod certificate;
mod close;
mod connection;
mod guarded;
mod listener;
mod silence;
mod socket;
mod socket_file;
mod tls;
mod watch;

pub use accepted::Accepted;
pub use certificate::{CertificateError, LoadedCertificate};
pub use connection::{Malformed, Service, serve_connection};
pub use listener::{BindError, ConnectionInfo, Listener, ListenerInfo};
pub use socket::listen_tcp;
pub use socket_file::SocketFile;
pub use tls::{Renewal, Tls};
