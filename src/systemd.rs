//! The service manager: the sockets that it passes, and what it wants to be told.
//!
//! For: socket activation and `Type=notify` with its watchdog. Never does: decide when something is
//! told, or wait for somebody who does not listen; without systemd nothing here does anything.
//! Called by: `main`, `server` and `app`. Start reading at [`PassedSockets::take`] and
//! [`Notifier::start`].
//!
//! Both protocols are variables of the environment, which the libraries read by themselves:
//! `LISTEN_PID`, `LISTEN_FDS`, `LISTEN_FDNAMES`; `NOTIFY_SOCKET`; `WATCHDOG_USEC`, `WATCHDOG_PID`.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::thread;
use std::time::Duration;

use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;
use sd_notify::NotifyState;
use tokio::sync::{mpsc, oneshot};

/// Messages that may wait for a service manager that does not listen; there are three in a run,
/// and one that says "alive". Beyond it they are dropped.
const WAITING_MESSAGES: usize = 8;

/// How often a process should say that it is alive, at least.
const LONGEST_BEAT: Duration = Duration::from_secs(1);

/// The sockets that systemd has opened for this process and nobody has claimed yet.
#[derive(Debug, Default)]
pub struct PassedSockets(Vec<(String, PassedSocket)>);

/// What systemd has passed as one descriptor.
#[derive(Debug)]
pub enum PassedSocket {
    /// A TCP socket that listens.
    Tcp(TcpListener),
    /// A Unix stream socket that listens, with a path or without.
    Unix(UnixListener),
    /// Nothing that accepts connections: a datagram socket, a connection that systemd has accepted
    /// itself (`Accept=yes`), a FIFO, a file.
    Other,
}

impl PassedSockets {
    /// None, as without socket activation.
    pub fn none() -> Self {
        Self::default()
    }

    /// Takes what was passed to this process, so that no program started later inherits it.
    ///
    /// To be called once, before there is a second thread: it changes the environment.
    ///
    /// # Errors
    /// When the variables contradict each other or the descriptors.
    ///
    /// # Source
    /// sd_listen_fds(3).
    pub fn take() -> io::Result<Self> {
        // Only with our own number in LISTEN_PID: what is left over from a parent was meant for it.
        if sd_notify::listen_fds()?.len() == 0 {
            return Ok(Self::none());
        }
        let names = sd_notify::listen_fds_with_names()?.map(|(_, name)| name);
        // The one crate knows the names, the other makes sockets of numbers.
        let mut sockets = ListenFd::from_env();
        let passed = names
            .enumerate()
            .map(|(index, name)| (name, PassedSocket::take(&mut sockets, index)))
            .collect();
        Ok(Self(passed))
    }

    /// All sockets of a name, in the order in which they were passed; never twice.
    pub fn claim(&mut self, name: &str) -> Vec<PassedSocket> {
        let is_wanted = |passed: &mut (String, PassedSocket)| passed.0 == name;
        let claimed = self.0.extract_if(.., is_wanted);
        claimed.map(|(_, socket)| socket).collect()
    }

    /// The names of those that nobody has claimed.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }
}

impl PassedSocket {
    fn take(sockets: &mut ListenFd, index: usize) -> Self {
        if let Ok(Some(socket)) = sockets.take_tcp_listener(index) {
            return Self::of(socket, Self::Tcp);
        }
        if let Ok(Some(socket)) = sockets.take_unix_listener(index) {
            return Self::of(socket, Self::Unix);
        }
        Self::Other
    }

    fn of<S: AsFd>(socket: S, kind: impl FnOnce(S) -> Self) -> Self {
        match socket_acceptconn(&socket) {
            Ok(true) => kind(socket),
            Ok(false) | Err(_) => Self::Other,
        }
    }
}

/// Tells the service manager, if there is one, by a thread of its own.
///
/// The kernel keeps a handful of messages for a service manager that does not read (PID 1 frozen, a
/// container runtime's shim stopped); after that sending blocks, which must stop no payment. The
/// thread ends with this, or with the process.
#[derive(Debug)]
pub struct Notifier {
    messages: mpsc::Sender<Message>,
}

/// Lines for the service manager, on their way.
#[derive(Debug)]
struct Message {
    lines: String,
    /// Dropped when there is nothing more to wait for.
    _told: oneshot::Sender<()>,
}

impl Notifier {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there can be no more threads.
    pub fn start() -> io::Result<Self> {
        let (messages, mut waiting) = mpsc::channel::<Message>(WAITING_MESSAGES);
        thread::Builder::new()
            .name("notify".to_owned())
            .spawn(move || {
                while let Some(message) = waiting.blocking_recv() {
                    let lines = NotifyState::Custom(&message.lines);
                    if let Err(error) = sd_notify::notify(&[lines]) {
                        tracing::warn!(%error, "failed to tell the service manager");
                    }
                }
            })?;
        Ok(Self { messages })
    }

    /// Says that the start is over, and in words what the state is.
    pub fn ready(&self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// Says in words what the state is.
    pub fn status(&self, status: &str) {
        self.tell(&[NotifyState::Status(status)]);
    }

    /// Says that the end has begun, and in words what the state is.
    ///
    /// What is returned ends when it has been said; the process should not end before, but not
    /// wait for long either.
    pub fn stopping(&self, status: &str) -> impl Future<Output = ()> + use<> {
        let told = self.tell(&[NotifyState::Stopping, NotifyState::Status(status)]);
        async {
            // Nothing is ever sent: the channel ends with the message.
            let _ = told.await;
        }
    }

    /// Says that the process is alive; see [`watchdog_interval`].
    ///
    /// Not while an older message waits: a beat that comes late says nothing.
    pub fn alive(&self) {
        if self.messages.capacity() == WAITING_MESSAGES {
            self.tell(&[NotifyState::Watchdog]);
        }
    }

    fn tell(&self, states: &[NotifyState<'_>]) -> oneshot::Receiver<()> {
        let lines: Vec<_> = states.iter().map(ToString::to_string).collect();
        let (told, is_told) = oneshot::channel();
        let message = Message {
            lines: lines.join("\n"),
            _told: told,
        };
        if self.messages.try_send(message).is_err() {
            tracing::warn!("the service manager does not listen; a message to it is lost");
        }
        is_told
    }
}

/// How often [`Notifier::alive`] has to be said: four times in `WatchdogSec=`, and every second at
/// least, so that a beat that is left out is made up for. `None` if it is not expected.
///
/// # Source
/// sd_watchdog_enabled(3), which recommends half: then one beat that falls into a moment of standing
/// still can end the process.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled()
        .map(|limit| (limit / 4).min(LONGEST_BEAT))
        .filter(|interval| !interval.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp() -> PassedSocket {
        PassedSocket::Tcp(TcpListener::bind("127.0.0.1:0").expect("a free port"))
    }

    #[test]
    fn gives_all_sockets_of_a_name_once_and_knows_what_is_left() {
        let passed = [("http", tcp()), ("other", tcp()), ("http", tcp())];
        let passed = passed.map(|(name, socket)| (name.to_owned(), socket));
        let mut passed = PassedSockets(passed.into());
        assert_eq!(passed.claim("http").len(), 2);
        assert_eq!(passed.claim("http").len(), 0);
        assert_eq!(passed.names().collect::<Vec<_>>(), ["other"]);
    }

    #[test]
    fn a_socket_that_does_not_listen_is_no_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let connection = std::net::TcpStream::connect(address).expect("it listens");
        let connected = PassedSocket::of(connection, |_| unreachable!("it does not listen"));
        assert!(matches!(connected, PassedSocket::Other));
        let listening = PassedSocket::of(listener, PassedSocket::Tcp);
        assert!(matches!(listening, PassedSocket::Tcp(_)));
    }
}
