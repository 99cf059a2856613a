//! A client that sees every byte, and how a connection ends.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What the demo credential looks like on the wire, written out by hand.
pub(super) const DEMO: &str = "Basic ZGVtby1hcHA6ZGVtby1zZWNyZXQ=";

/// How long a test waits for bytes before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// One complete answer.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) content: Vec<u8>,
}

impl Received {
    pub(super) fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.content).context("the content is no JSON")
    }
}

/// One connection.
pub(super) struct Client<S> {
    stream: BufReader<S>,
}

impl Client<TcpStream> {
    pub(super) async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self::over(TcpStream::connect(address).await?))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(super) fn over(stream: S) -> Self {
        Self {
            stream: BufReader::new(stream),
        }
    }

    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> anyhow::Result<()> {
        self.stream.write_all(bytes.as_ref()).await?;
        self.stream.flush().await?;
        Ok(())
    }

    /// Sends a request and reads its answer.
    pub(super) async fn ask(&mut self, request: impl AsRef<[u8]>) -> anyhow::Result<Received> {
        self.send(request).await?;
        self.answer().await
    }

    /// Reads one answer, exactly as long as it says it is.
    pub(super) async fn answer(&mut self) -> anyhow::Result<Received> {
        timeout(PATIENCE, self.read_answer()).await?
    }

    async fn read_answer(&mut self) -> anyhow::Result<Received> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut head).await? == 0 {
                bail!("the connection ended in the head: {head:?}");
            }
        }
        let status = head.get(9..12).context("no status line")?.parse()?;
        let lower = head.to_ascii_lowercase();
        let announced = lower
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length = announced.map_or(Ok(0), str::parse)?;
        let mut content = vec![0; length];
        self.stream.read_exact(&mut content).await?;
        Ok(Received {
            status,
            head,
            content,
        })
    }

    /// Reads to the end of the connection: what came, and whether it ended in peace.
    pub(super) async fn rest(&mut self) -> anyhow::Result<(Vec<u8>, io::Result<()>)> {
        let mut content = Vec::new();
        let end = timeout(PATIENCE, self.stream.read_to_end(&mut content)).await?;
        Ok((content, end.map(drop)))
    }
}

/// A request with the demo credential, `Content-Length` and what else is given.
pub(super) fn post(path: &str, fields: &[(&str, &str)], content: &str) -> String {
    let length = content.len().to_string();
    let own = [
        ("authorization", DEMO),
        ("content-type", "application/json"),
        ("content-length", length.as_str()),
    ];
    request("POST", path, &[&own, fields].concat(), content)
}

/// A request with exactly these fields, and `Host` before them.
pub(super) fn request(method: &str, path: &str, fields: &[(&str, &str)], content: &str) -> String {
    let lines: String = fields
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{lines}\r\n{content}")
}
