//! How do this program's own commands ask a running gateway? By plain HTTP to its admin listener.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use zeroize::Zeroizing;

use super::access;

/// How long one question may take, from connecting to the last byte of its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How often readiness is asked for.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The longest answer that is read.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// The longest token.
const MAX_TOKEN_BYTES: u64 = 4096;

/// The operators' token, ready to be sent; cannot be printed, wiped on drop.
#[derive(Debug)]
pub struct BearerToken(HeaderValue);

/// Why a token cannot be used; never shows it.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It could not be read.
    #[error("the token could not be read")]
    Unreadable(#[source] io::Error),
    /// Nothing is left once the final newline is dropped.
    #[error("the token is empty")]
    Empty,
    /// It is longer than any token.
    #[error("the token is longer than {MAX_TOKEN_BYTES} bytes")]
    TooLong,
    /// It holds what a header field cannot carry: a space, a second line, no ASCII.
    #[error("the token holds something other than visible ASCII characters")]
    NotVisible,
}

impl BearerToken {
    /// Reads the token, all there is but for one final newline; blocks.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn read(source: impl Read) -> Result<Self, TokenError> {
        const SCHEME: &[u8] = b"Bearer ";
        // At its final size from the beginning: growing would leave copies behind unwiped.
        let mut value = Zeroizing::new(Vec::with_capacity(8192));
        value.extend_from_slice(SCHEME);
        source
            .take(MAX_TOKEN_BYTES + 1)
            .read_to_end(&mut value)
            .map_err(TokenError::Unreadable)?;
        for end in [b'\n', b'\r'] {
            if value.last() == Some(&end) {
                value.pop();
            }
        }
        let token = value.strip_prefix(SCHEME).unwrap_or_default();
        if token.is_empty() {
            return Err(TokenError::Empty);
        }
        if u64::try_from(token.len()).is_ok_and(|length| length > MAX_TOKEN_BYTES) {
            return Err(TokenError::TooLong);
        }
        if !token.iter().all(u8::is_ascii_graphic) {
            return Err(TokenError::NotVisible);
        }
        let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(value))
            .expect("visible ASCII and one space");
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

/// Asks the admin listener at one address.
#[derive(Debug)]
pub struct AdminClient {
    address: SocketAddr,
}

/// What is so after a switch was turned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switched {
    /// When the pause began; `None` if requests are forwarded.
    pub paused_since: Option<SystemTime>,
    /// Whether it was otherwise before.
    pub changed: bool,
}

/// Why a gateway did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("no gateway can be reached at {address}: is it running, is this its admin.address?")]
    Unreachable {
        /// Where it was looked for.
        address: SocketAddr,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// No complete answer came.
    #[error("{address} did not answer as an admin listener does")]
    NoAnswer {
        /// Who was asked.
        address: SocketAddr,
    },
    /// The answer is no.
    #[error("{address} answered {status}: {text}")]
    Refused {
        /// Who was asked.
        address: SocketAddr,
        /// What it answered.
        status: StatusCode,
        /// Its words.
        text: String,
    },
    /// It did not become ready in time.
    #[error("not ready after {}", humantime::format_duration(*waited))]
    NotReady {
        /// How long that was.
        waited: Duration,
        /// What was wrong last.
        #[source]
        last: Option<Box<ClientError>>,
    },
}

impl AdminClient {
    /// For a listener on this address; one that listens on all is asked on loopback.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address: access::reachable(address),
        }
    }

    /// Waits until the gateway says that it is ready, running or not as yet.
    ///
    /// # Errors
    /// [`ClientError::NotReady`] after this time, with what was wrong last.
    pub async fn wait_ready(&self, patience: Duration) -> Result<(), ClientError> {
        let deadline = Instant::now() + patience;
        let mut last = None;
        let asking = async {
            while let Err(error) = self.ask(Method::GET, "/readyz", None).await {
                last = Some(Box::new(error));
                sleep(POLL_INTERVAL).await;
            }
        };
        timeout_at(deadline, asking)
            .await
            .map_err(|_| ClientError::NotReady {
                waited: patience,
                last,
            })
    }

    /// Has the gateway forward nothing from now on.
    ///
    /// # Errors
    /// When it cannot be reached, or refuses.
    pub async fn pause(&self, token: Option<&BearerToken>) -> Result<Switched, ClientError> {
        self.switch("/control/pause", token).await
    }

    /// Has the gateway forward again.
    ///
    /// # Errors
    /// When it cannot be reached, or refuses.
    pub async fn resume(&self, token: Option<&BearerToken>) -> Result<Switched, ClientError> {
        self.switch("/control/resume", token).await
    }

    async fn switch(
        &self,
        path: &'static str,
        token: Option<&BearerToken>,
    ) -> Result<Switched, ClientError> {
        #[derive(Deserialize)]
        struct Effect {
            paused_since: Option<String>,
            changed: bool,
        }
        let text = self.ask(Method::POST, path, token).await?;
        let no_answer = || ClientError::NoAnswer {
            address: self.address,
        };
        let effect: Effect = serde_json::from_slice(&text).map_err(|_| no_answer())?;
        let since = effect
            .paused_since
            .map(|since| humantime::parse_rfc3339(&since).map_err(|_| no_answer()));
        Ok(Switched {
            paused_since: since.transpose()?,
            changed: effect.changed,
        })
    }

    /// Asks one question; what a 200 says.
    async fn ask(
        &self,
        method: Method,
        path: &'static str,
        token: Option<&BearerToken>,
    ) -> Result<Bytes, ClientError> {
        let address = self.address;
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().expect("a path of this file");
        let headers = request.headers_mut();
        let host = HeaderValue::try_from(address.to_string()).expect("an address and a port");
        headers.insert(HOST, host);
        if let Some(BearerToken(value)) = token {
            headers.insert(AUTHORIZATION, value.clone());
        }
        let answered = timeout(ANSWER_TIMEOUT, exchange(address, request)).await;
        let (status, text) = answered.unwrap_or(Err(ClientError::NoAnswer { address }))?;
        if status == StatusCode::OK {
            return Ok(text);
        }
        Err(ClientError::Refused {
            address,
            status,
            text: printable(&text),
        })
    }
}

/// Sends a request on a connection of its own and receives the whole answer.
async fn exchange(
    address: SocketAddr,
    request: Request<Empty<Bytes>>,
) -> Result<(StatusCode, Bytes), ClientError> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|source| ClientError::Unreachable { address, source })?;
    let no_answer = || ClientError::NoAnswer { address };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|_| no_answer())?;
    let asking = async move {
        let (head, body) = sender.send_request(request).await.ok()?.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.ok()?;
        Some((head.status, body.to_bytes()))
    };
    // The connection ends with its sender; how, is of no interest once the answer is there.
    let (answer, _ended) = tokio::join!(asking, connection);
    answer.ok_or_else(no_answer)
}

/// The first line of an answer, without anything that could disturb a terminal.
fn printable(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let line = text.lines().next().unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_token_but_for_its_final_newline() {
        for text in ["abc", "abc\n", "abc\r\n"] {
            let token = BearerToken::read(text.as_bytes()).expect("a token");
            assert_eq!(token.0, "Bearer abc");
            assert_eq!(format!("{token:?}"), "BearerToken(Sensitive)");
        }
    }

    #[test]
    fn refuses_what_is_no_token_without_showing_it() {
        let longest = usize::try_from(MAX_TOKEN_BYTES).expect("it fits");
        let too_long = "x".repeat(longest + 1);
        BearerToken::read(&too_long.as_bytes()[1..]).expect("the longest token");
        for text in [
            "",
            "\n",
            "marker marker",
            "marker\nmarker",
            "märker",
            &too_long,
        ] {
            let error = BearerToken::read(text.as_bytes()).expect_err("no token");
            assert!(!format!("{error} {error:?}").contains("ker"), "{error:?}");
        }
    }
}
