//! An upstream on raw sockets that does what its script says, byte by byte.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::wire::{self, Message};

/// A server whose script is called once for each connection, on a thread of its own.
pub(crate) struct ScriptedUpstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    is_closing: AtomicBool,
    /// Requests that were read whole, in the order of their end.
    requests: Mutex<Vec<Message>>,
    /// What was read of requests that broke off.
    fragments: Mutex<Vec<Vec<u8>>>,
    /// Owned by their scripts alone, since a reset only leaves with the last handle.
    connections: Mutex<Vec<Weak<TcpStream>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// A socket that can be found again by the upstream's end.
struct Handle(Arc<TcpStream>);

impl Read for Handle {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self.0).read(buffer)
    }
}

/// One connection in the hands of a script; closed when the script ends.
pub(crate) struct Conversation {
    stream: BufReader<Handle>,
    shared: Arc<Shared>,
    /// Counts connections, from 0.
    pub(crate) number: usize,
}

impl ScriptedUpstream {
    /// Listens on a free port of loopback.
    pub(crate) fn start(script: impl Fn(Conversation) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared::default());
        let accepting = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || accept(&listener, &shared, &Arc::new(script)))
        };
        Self {
            address,
            shared,
            accepting: Some(accepting),
        }
    }

    /// The base URL of its sandbox.
    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/pay/sandbox", self.address)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests that arrived whole.
    pub(crate) fn requests(&self) -> Vec<Message> {
        lock(&self.shared.requests).clone()
    }

    /// What arrived of requests that broke off.
    pub(crate) fn fragments(&self) -> Vec<Vec<u8>> {
        lock(&self.shared.fragments).clone()
    }

    /// How many connections there were.
    pub(crate) fn connection_count(&self) -> usize {
        lock(&self.shared.connections).len()
    }
}

fn accept<S: Fn(Conversation) + Send + Sync + 'static>(
    listener: &TcpListener,
    shared: &Arc<Shared>,
    script: &Arc<S>,
) {
    loop {
        let (stream, _) = listener.accept().expect("a connection");
        if shared.is_closing.load(Ordering::Acquire) {
            return;
        }
        stream.set_nodelay(true).expect("a TCP socket");
        let stream = Arc::new(stream);
        let mut connections = lock(&shared.connections);
        connections.push(Arc::downgrade(&stream));
        let conversation = Conversation {
            number: connections.len() - 1,
            stream: BufReader::new(Handle(stream)),
            shared: Arc::clone(shared),
        };
        drop(connections);
        let script = Arc::clone(script);
        let thread = thread::spawn(move || script(conversation));
        lock(&shared.threads).push(thread);
    }
}

impl Drop for ScriptedUpstream {
    fn drop(&mut self) {
        self.shared.is_closing.store(true, Ordering::Release);
        let wake = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            accepting.join().expect("accepting does not panic");
        }
        drop(wake);
        for connection in lock(&self.shared.connections).iter() {
            // Most are gone already; the scripts of the others end now.
            if let Some(connection) = connection.upgrade() {
                let _ = connection.shutdown(Shutdown::Both);
            }
        }
        let threads = std::mem::take(&mut *lock(&self.shared.threads));
        let panicked = threads
            .into_iter()
            .filter_map(|thread| thread.join().err())
            .count();
        assert!(
            panicked == 0 || thread::panicking(),
            "{panicked} scripts panicked"
        );
    }
}

impl Conversation {
    /// Reads one request whole and records it; `None` when the gateway closed instead.
    pub(crate) fn request(&mut self) -> Option<Message> {
        match wire::read_request(&mut self.stream) {
            Ok(request) => {
                lock(&self.shared.requests).push(request.clone());
                Some(request)
            }
            Err(cut) => {
                if !cut.received.is_empty() {
                    lock(&self.shared.fragments).push(cut.received);
                }
                None
            }
        }
    }

    /// Waits for the first bytes of a request and leaves them for [`Self::request`].
    pub(crate) fn await_bytes(&mut self) {
        let _ = self.stream.fill_buf();
    }

    /// Reads this many bytes at most of a request, and records them as one that broke off.
    pub(crate) fn fragment(&mut self, bytes: usize) {
        let mut received = vec![0; bytes];
        let count = self.stream.read(&mut received).unwrap_or_default();
        received.truncate(count);
        if !received.is_empty() {
            lock(&self.shared.fragments).push(received);
        }
    }

    /// Writes bytes; a gateway that is gone is no fault of the script's.
    pub(crate) fn say(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.try_say(bytes);
    }

    /// Writes bytes, as long as the gateway takes them.
    pub(crate) fn try_say(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let mut socket = self.socket();
        socket.write_all(bytes.as_ref())
    }

    /// Says that nothing more will be said, and goes on listening.
    pub(crate) fn finish(&mut self) {
        let _ = self.socket().shutdown(Shutdown::Write);
    }

    /// Reads whatever comes until the gateway closes, and forgets it.
    pub(crate) fn discard(&mut self) {
        let _ = io::copy(&mut self.stream, &mut io::sink());
    }

    /// Writes a complete answer with JSON content.
    pub(crate) fn answer(&mut self, content: &str) {
        let length = content.len();
        self.say(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n\
             {content}"
        ));
    }

    /// Writes what the socket takes within `patience`; how many bytes those are.
    pub(crate) fn say_some(&mut self, bytes: &[u8], patience: Duration) -> io::Result<usize> {
        let mut socket = self.socket();
        socket.set_write_timeout(Some(patience))?;
        socket.write(bytes)
    }

    /// Reads whatever comes until the gateway closes.
    pub(crate) fn listen(&mut self) {
        let mut received = Vec::new();
        let _ = self.stream.read_to_end(&mut received);
        if !received.is_empty() {
            lock(&self.shared.fragments).push(received);
        }
    }

    /// Ends the connection in order: what was said is still delivered.
    pub(crate) fn close(self) {
        let _ = self.socket().shutdown(Shutdown::Both);
    }

    /// Ends the connection with a TCP reset.
    pub(crate) fn reset(self) {
        reset_on_close(self.socket());
    }

    /// The socket itself, for a script that speaks no HTTP from here on.
    pub(crate) fn socket(&self) -> &TcpStream {
        &self.stream.get_ref().0
    }
}

/// A port that is taken and refuses every connection.
#[derive(Debug)]
pub(crate) struct ClosedPort {
    address: SocketAddr,
    /// Bound and not listening, so that nobody else can listen there.
    _socket: tokio::net::TcpSocket,
}

impl ClosedPort {
    /// Takes a free port of loopback.
    pub(crate) fn bind() -> Self {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket
            .bind((Ipv4Addr::LOCALHOST, 0).into())
            .expect("a free port");
        Self {
            address: socket.local_addr().expect("it is bound"),
            _socket: socket,
        }
    }

    /// Where nobody listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL of a sandbox that nobody serves.
    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/pay/sandbox", self.address)
    }
}

/// Makes the close of the last handle a TCP reset.
pub(super) fn reset_on_close(socket: &TcpStream) {
    rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO)).expect("a TCP socket");
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
