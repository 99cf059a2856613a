use std::io::Write as _;
use std::net::TcpListener;
use std::time::Duration;

use hyper_util::rt::TokioIo;

use super::*;
use crate::domain::Environment;
use crate::framing::Violation;
use crate::telemetry::metrics::Metrics;

/// A connection whose driver has had no chance to look since, and its peer.
async fn connection() -> (Connection, std::net::TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let socket = tokio::net::TcpStream::connect(address).await;
    let socket = socket.expect("it listens");
    let (peer, _) = listener.accept().expect("it is connected");
    let probe = rustix::io::dup(&socket).expect("a second handle");
    let metrics = Metrics::build(Environment::Sandbox).upstream();
    let connection = Connection::start(TokioIo::new(socket), Some(probe), 65_536, &metrics).await;
    tokio::task::yield_now().await;
    (connection.expect("hyper starts"), peer)
}

#[tokio::test]
async fn what_a_peer_says_before_it_is_asked_is_found_before_the_first_request() {
    let (connection, peer) = connection().await;
    assert!(connection.unasked().await.is_none());
    (&peer)
        .write_all(b"HTTP/1.1 200 OK\r\n")
        .expect("it is open");
    assert!(matches!(
        connection.unasked().await,
        Some(InvalidAnswer::Framing(Violation::Unasked))
    ));
    assert!(!connection.is_ready());
    drop(peer);
}

#[tokio::test]
async fn sees_what_the_peer_did_before_hyper_does() {
    let (connection, peer) = connection().await;
    assert!(connection.is_quiet());
    drop(peer);
    assert!(connection.is_ready() && !connection.is_quiet(), "closed");

    let (connection, mut peer) = self::connection().await;
    peer.write_all(b"x").expect("it is open");
    assert!(connection.is_ready() && !connection.is_quiet(), "unasked");
}

#[tokio::test]
async fn an_answer_that_overtakes_its_request_ends_the_connection() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter};

    // The peer takes in less than the request has; what it has not taken is kept, as by TLS.
    let (ours, mut peer) = tokio::io::duplex(1024);
    let ours = BufWriter::new(ours);
    let metrics = Metrics::build(Environment::Sandbox).upstream();
    let connection = Connection::start(TokioIo::new(ours), None, 65_536, &metrics).await;
    let mut connection = connection.expect("hyper starts");
    let request = Request::post("/")
        .body(RequestBody::held(vec![b'x'; 4 * 1024].into()))
        .expect("a request");
    let limits = UpstreamLimits {
        connect_timeout: Duration::from_secs(10),
        tls_timeout: Duration::from_secs(10),
        response_timeout: Duration::from_secs(10),
        body_idle_timeout: Duration::from_secs(10),
        exchange_timeout: Duration::from_secs(10),
        queue_timeout: Duration::from_secs(10),
        reuse_within: Duration::from_secs(10),
        hold_answer_bytes: 65_536,
        max_header_bytes: 65_536,
    };
    let deadline = Instant::now() + limits.exchange_timeout;
    let early = async {
        peer.read_exact(&mut [0; 64]).await.expect("its beginning");
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        peer.write_all(answer).await.expect("it is open");
    };
    let (answer, ()) = tokio::join!(connection.exchange(request, None, &limits, deadline), early);
    assert!(answer.is_ok_and(|head| head.response.body().is_end_stream()));
    tokio::task::yield_now().await;
    assert!(!connection.is_ready(), "the rest of it is still to be sent");
}
