//! The simulator of MODEN: its API, its orders and its failures, inside the binary.
//!
//! For: the demo, the `simulate` command, the behaviour tests and merchants' CI. It answers as
//! MODEN's public pages say, remembers every request and every order, and misbehaves on demand.
//! Never does: connect anywhere, so it cannot reach production; print; invent undocumented
//! behaviour silently (what is ours and not MODEN's is said so at its place). Called by: `simulate`,
//! `demo`, tests. Start reading at [`Simulator::start`], then `api.rs`.
//!
//! ```text
//! connection.rs   accept -> TLS -> HTTP -> answer, or the abrupt end that a fault asks for
//!   api.rs          /pay/… and /pay/sandbox/…: credential, endpoint, answer
//!     payment.rs      the fields of "create payment"
//!     orders.rs       what was committed, and how often
//!     faults.rs       what goes wrong, and how often
//!     records.rs      what arrived
//!   control.rs      the same powers for a test (Control) and over HTTP (/simulator/…)
//! ```
//!
//! Framing faults (a lying `Content-Length`, garbage instead of HTTP) are not its business: those
//! are tested with scripted raw sockets.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use crate::domain::Environment;

mod answer;
mod api;
mod body;
mod connection;
mod control;
mod credential;
mod faults;
mod orders;
mod payment;
mod records;
#[cfg(test)]
mod tests;
mod tls;

pub use control::Control;
pub use faults::{FAULT_HEADER, Fault, FaultError, Times};
pub use orders::OrderRecord;
pub use records::RecordedRequest;

use credential::AcceptedCredential;
use faults::Faults;
use orders::Orders;
use records::Records;

/// The APP ID that the simulator accepts unless told otherwise; known to everybody.
pub const DEMO_APP_ID: &str = "demo-app";

/// The secret that the simulator accepts unless told otherwise; known to everybody, so no secret.
pub const DEMO_SECRET: &str = "demo-secret";

/// How a simulator is set up; the default serves the demo credential on a free loopback port.
#[derive(Clone, Debug)]
pub struct SimulatorOptions {
    /// Where to listen; port 0 takes a free one. Default `127.0.0.1:0`.
    pub address: SocketAddr,
    /// The APP ID that requests must carry. Default [`DEMO_APP_ID`].
    pub app_id: String,
    /// The secret that requests must carry. Default [`DEMO_SECRET`].
    pub secret: SimulatorSecret,
    /// Whether to speak TLS, with a certificate authority made at start. Default no.
    pub tls: bool,
    /// DNS names and addresses that the certificate holds besides `localhost`, `127.0.0.1` and
    /// `::1`. Default none.
    pub extra_sans: Vec<String>,
    /// Host names other than loopback ones under which `/simulator/…` answers, such as the
    /// service's name in a compose file. Default none.
    pub control_hosts: Vec<String>,
    /// Whether requests are remembered at all; benchmarks turn it off. Default yes.
    pub record: bool,
    /// How many requests are remembered; beyond it the oldest are forgotten. Default 100 000,
    /// which is some 150 MB of usual requests.
    pub record_limit: usize,
    /// How many orders are remembered; beyond it a new one is answered 503. Default 1 000 000.
    pub order_limit: usize,
}

impl Default for SimulatorOptions {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            app_id: DEMO_APP_ID.to_owned(),
            secret: DEMO_SECRET.into(),
            tls: false,
            extra_sans: Vec::new(),
            control_hosts: Vec::new(),
            record: true,
            record_limit: 100_000,
            order_limit: 1_000_000,
        }
    }
}

/// The secret that a simulator accepts: never printed, wiped on drop.
///
/// The gateway's own `Secret` is not used here: only the rooms that inject or compare the real
/// credential may look into that one, and a simulated secret should not lengthen their list.
#[derive(Clone)]
pub struct SimulatorSecret(Zeroizing<String>);

impl SimulatorSecret {
    /// Reads it from a file, as containers get their secrets; one final newline is dropped.
    ///
    /// Who else can read the file is not judged, and nothing is checked but that it is text: what
    /// Basic cannot carry is refused by [`Simulator::start`].
    ///
    /// # Errors
    /// When the file cannot be read or is not UTF-8.
    pub fn load(path: &Path) -> io::Result<Self> {
        let mut text = Zeroizing::new(fs::read_to_string(path)?);
        if text.ends_with('\n') {
            text.pop();
        }
        Ok(Self(text))
    }
}

impl From<&str> for SimulatorSecret {
    fn from(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }
}

impl From<String> for SimulatorSecret {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl fmt::Debug for SimulatorSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SimulatorSecret(not shown)")
    }
}

/// Why a simulator could not be started or changed.
#[derive(Debug, thiserror::Error)]
pub enum SimulatorError {
    /// The APP ID is empty or has a colon or a control character, so Basic cannot carry it.
    #[error("the app id is empty or contains a colon or a control character")]
    AppIdInvalid,
    /// The secret is empty or has a control character, so Basic cannot carry it.
    #[error("the secret is empty or contains a control character")]
    SecretInvalid,
    /// The address could not be listened on.
    #[error("could not listen on {address}")]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The certificates could not be made; an extra name may be no DNS name.
    #[error("could not make the certificates")]
    Certificate(#[source] rcgen::Error),
    /// The TLS library refused the certificates.
    #[error("could not set up TLS")]
    Tls(#[source] rustls::Error),
}

/// What all connections and all [`Control`] handles of one simulator share.
struct State {
    credential: ArcSwap<AcceptedCredential>,
    orders: Orders,
    records: Records,
    faults: Faults,
    control_hosts: Vec<String>,
}

/// A running simulator; dropping it ends it without waiting, [`Simulator::stop`] waits.
pub struct Simulator {
    address: SocketAddr,
    ca_pem: Option<String>,
    state: Arc<State>,
    /// Cancelled once, by `stop` or drop; every task ends on it.
    stopping: CancellationToken,
    /// The accept loop and one task for each connection.
    tasks: TaskTracker,
}

impl fmt::Debug for Simulator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Simulator")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Simulator {
    /// Binds the address and serves on the current tokio runtime until stopped or dropped.
    ///
    /// Any address may be bound, also one that others can reach: compose files need that, and
    /// there is nothing of value inside.
    ///
    /// # Errors
    /// The credential cannot be used with Basic, the address is taken, or the certificates
    /// cannot be made; nothing keeps running then.
    pub async fn start(options: SimulatorOptions) -> Result<Self, SimulatorError> {
        let credential = AcceptedCredential::build(&options.app_id, &options.secret)?;
        let tls = match options.tls {
            true => Some(tls::build(&options.extra_sans)?),
            false => None,
        };
        let bind_error = |source| SimulatorError::Bind {
            address: options.address,
            source,
        };
        let listener = TcpListener::bind(options.address)
            .await
            .map_err(bind_error)?;
        let address = listener.local_addr().map_err(bind_error)?;

        let state = Arc::new(State {
            credential: ArcSwap::from_pointee(credential),
            orders: Orders::new(options.order_limit),
            records: Records::new(options.record, options.record_limit),
            faults: Faults::new(),
            control_hosts: options.control_hosts,
        });
        let stopping = CancellationToken::new();
        let tasks = TaskTracker::new();
        let (acceptor, ca_pem) = match tls {
            Some(tls) => (Some(tls.acceptor), Some(tls.ca_pem)),
            None => (None, None),
        };
        let accepting = connection::accept(
            listener,
            acceptor,
            Arc::clone(&state),
            tasks.clone(),
            stopping.clone(),
        );
        tasks.spawn(stopping.clone().run_until_cancelled_owned(accepting));

        Ok(Self {
            address,
            ca_pem,
            state,
            stopping,
            tasks,
        })
    }

    /// The address that is listened on, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL to configure for an environment, without a slash at its end.
    ///
    /// A simulator that listens on all addresses names the loopback one.
    pub fn base_url(&self, environment: Environment) -> String {
        let scheme = if self.ca_pem.is_some() {
            "https"
        } else {
            "http"
        };
        let address = reachable(self.address);
        let prefix = match environment {
            Environment::Sandbox => "/pay/sandbox",
            Environment::Production => "/pay",
        };
        format!("{scheme}://{address}{prefix}")
    }

    /// The certificate authority to trust, as PEM; none without TLS. Its key is gone already.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// The handle that sets faults and looks at what arrived; it may outlive the simulator.
    pub fn control(&self) -> Control {
        Control::new(Arc::clone(&self.state))
    }

    /// Closes the listener and all connections at once, and waits until they are closed.
    pub async fn stop(self) {
        self.stopping.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

/// The address under which this machine reaches a listener on `address`.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
