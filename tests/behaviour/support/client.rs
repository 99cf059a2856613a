//! A client that sends exactly the bytes it is given and sees every byte that comes back.

use std::io::{self, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::PATIENCE;
use super::wire::{self, Cut, Message};

/// One connection to the gateway.
#[derive(Debug)]
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    /// The method of the last request, since the answer to HEAD has no content.
    method: String,
}

impl Client {
    /// Connects; nothing is sent yet.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the gateway accepts connections");
        Self::on(stream)
    }

    /// Connects from this address of the machine.
    pub(crate) fn connect_from(source: Ipv4Addr, address: SocketAddr) -> Self {
        use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        bind(&socket, &SocketAddr::from((source, 0))).expect("an address of this machine");
        connect(&socket, &address).expect("the gateway accepts connections");
        Self::on(socket.into())
    }

    fn on(stream: TcpStream) -> Self {
        let patience = Some(PATIENCE);
        stream.set_read_timeout(patience).expect("a valid timeout");
        stream.set_write_timeout(patience).expect("a valid timeout");
        stream.set_nodelay(true).expect("a TCP socket");
        Self {
            stream: BufReader::new(stream),
            method: String::new(),
        }
    }

    /// Gives up on a write that makes no progress for this long.
    pub(crate) fn set_write_patience(&mut self, patience: Duration) {
        let stream = self.stream.get_ref();
        stream.set_write_timeout(Some(patience)).expect("a timeout");
    }

    /// Writes what the socket takes of the bytes; how many those are.
    pub(crate) fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.get_mut().write(bytes)
    }

    /// Writes all of the bytes.
    pub(crate) fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())
    }

    /// Writes all of the bytes, which must succeed.
    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_write(bytes).expect("the gateway takes the bytes");
    }

    /// Writes a request, or the start of one, and remembers its method.
    pub(crate) fn begin(&mut self, request: impl AsRef<[u8]>) {
        self.method = method_of(request.as_ref());
        self.write(request);
    }

    /// Reads one answer, or what there is of it.
    pub(crate) fn try_answer(&mut self) -> Result<Message, Cut> {
        wire::read_answer(&mut self.stream, &self.method)
    }

    /// Reads one answer, which must be complete.
    pub(crate) fn answer(&mut self) -> Message {
        let answer = self.try_answer();
        answer.unwrap_or_else(|cut| panic!("no complete answer: {cut:?}"))
    }

    /// Sends a request and reads its answer.
    pub(crate) fn exchange(&mut self, request: impl AsRef<[u8]>) -> Message {
        self.begin(request);
        self.answer()
    }

    /// Reads up to this many bytes of whatever comes.
    pub(crate) fn read_some(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }

    /// Waits until the gateway closes, and returns what it said before.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the gateway did not close: {error}"),
        }
        rest
    }

    /// Leaves with a TCP reset.
    pub(crate) fn reset(self) {
        super::upstream::reset_on_close(self.stream.get_ref());
    }

    /// Says that nothing more will be sent, and goes on listening.
    pub(crate) fn half_close(&mut self) {
        let stream = self.stream.get_ref();
        stream.shutdown(Shutdown::Write).expect("it is open");
    }
}

/// Sends one request on a connection of its own and reads its answer.
pub(crate) fn exchange(address: SocketAddr, request: impl AsRef<[u8]>) -> Message {
    Client::connect(address).exchange(request)
}

/// The bytes of a POST with these fields, `Host` and `Content-Length` added.
pub(crate) fn post(path: &str, fields: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut request = format!("POST {path} HTTP/1.1\r\nHost: gateway.test\r\n");
    for (name, value) in fields {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    request.into_bytes()
}

/// The bytes of a valid payment for this order, which is also its request id.
pub(crate) fn payment(sn: &str) -> Vec<u8> {
    let body = serde_json::json!({
        "coin": "USDT", "currency_code": "VND", "amount": 150_000, "sn": sn,
        "notify_url": "https://shop.example/notify", "timestamp": 1_700_000_000,
    });
    let fields = [("Content-Type", "application/json"), ("X-Request-Id", sn)];
    post("/pay/gateway", &fields, &body.to_string())
}

fn method_of(request: &[u8]) -> String {
    let method = request.split(|byte| *byte == b' ').next();
    String::from_utf8_lossy(method.unwrap_or_default()).into_owned()
}
