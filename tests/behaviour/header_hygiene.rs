//! What of a head is passed on, and what never is: the rules of RFC 9110 that bind a gateway.

use std::collections::BTreeSet;

use moden_gateway::simulator::RecordedRequest;

use crate::support::{
    AUTHORIZATION, Client, Message, ScriptedUpstream, TestGateway, TestSimulator, alone,
    in_parallel, payment, post,
};

/// Lets every usual method through to the simulator's echo.
const ALL_METHODS: &str = r#"
[[routes]]
name = "echo"
path = "/pay/echo/*"
methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
[[routes]]
name = "everything-else"
path = "/pay/*"
"#;

const REQUESTS: usize = 10_000;
const CONNECTIONS: usize = 64;

/// What a hostile or careless client may add to any request.
const UNWANTED: &str = "Authorization: Basic of-the-client\r\n\
    Connection: keep-alive, X-Hop-One\r\n\
    Keep-Alive: timeout=5\r\n\
    connection: x-hop-two , te\r\n\
    X-Hop-One: of-the-client\r\n\
    X-Hop-Two: of-the-client\r\n\
    TE: trailers\r\n\
    Proxy-Connection: keep-alive\r\n\
    Proxy-Authorization: Basic of-the-client\r\n\
    Cookie: session=of-the-client\r\n\
    X-Forwarded-For: 10.0.0.1\r\n\
    Forwarded: for=10.0.0.1\r\n";

/// The bytes of request number `number`: nine kinds in turn.
fn mixed_request(number: usize) -> Vec<u8> {
    let id = format!("X-Request-Id: request-{number}\r\n");
    let head = format!("Host: gateway.test\r\n{id}");
    let text = match number % 9 {
        0 => return payment(&format!("request-{number}")),
        1 => format!("POST /pay/inquire/wallet HTTP/1.1\r\n{head}{UNWANTED}\r\n"),
        2 => format!(
            "POST /pay/sandbox/echo/a HTTP/1.1\r\n{head}{UNWANTED}Trailer: Authorization\r\n\
             Transfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\n\
             Authorization: Basic of-the-client\r\nX-Trailer: of-the-client\r\n\r\n"
        ),
        3 => format!("GET /pay/echo/b?x=1 HTTP/1.1\r\n{head}{UNWANTED}\r\n"),
        4 => format!(
            "PUT /pay/echo/c HTTP/1.1\r\n{head}{UNWANTED}Content-Length: 5\r\n\
             Expect: 100-continue\r\n\r\nhello"
        ),
        5 => format!(
            "DELETE /pay/echo/d HTTP/1.1\r\n{head}Connection: Upgrade, HTTP2-Settings\r\n\
             Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n"
        ),
        6 => format!("PATCH /pay/echo/e HTTP/1.1\r\n{head}Content-Length: 0\r\n\r\n"),
        7 => format!("HEAD /pay/echo/f HTTP/1.1\r\n{head}{UNWANTED}\r\n"),
        _ => format!("OPTIONS /pay/echo/g HTTP/1.1\r\n{head}{UNWANTED}\r\n"),
    };
    text.into_bytes()
}

#[test]
fn ten_thousand_mixed_requests_reach_moden_clean() {
    let _alone = alone();
    let simulator = TestSimulator::start();
    let gateway = TestGateway::builder()
        .simulator(&simulator)
        .tables(ALL_METHODS)
        .start();
    in_parallel(CONNECTIONS, CONNECTIONS, |first| {
        let mut client = gateway.connect();
        for number in (first..REQUESTS).step_by(CONNECTIONS) {
            let answer = client.exchange(mixed_request(number));
            assert_eq!(answer.status(), 200, "request {number}: {answer:?}");
            assert_eq!(answer.outcome(), "answered");
            assert_eq!(answer.field("x-request-id"), format!("request-{number}"));
        }
    });
    let answered = gateway.stop();
    let answered = answered.iter().filter(|line| line["outcome"] == "answered");
    assert_eq!(answered.count(), REQUESTS);

    let requests = simulator.control().requests();
    let ids: BTreeSet<_> = requests.iter().map(assert_clean).collect();
    assert_eq!(requests.len(), REQUESTS, "as many as the log has lines");
    assert_eq!(ids.len(), REQUESTS, "each once");
}

/// Checks one request as MODEN saw it; its id.
#[track_caller]
fn assert_clean(request: &RecordedRequest) -> String {
    let values = |name: &str| request.headers.get_all(name).iter().collect::<Vec<_>>();
    assert_eq!(values("authorization"), [AUTHORIZATION]);
    assert_eq!(values("via"), ["1.1 moden-gateway"]);
    for name in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
        "expect",
        "x-hop-one",
        "x-hop-two",
        "x-trailer",
        "cookie",
        "x-forwarded-for",
        "forwarded",
    ] {
        assert!(values(name).is_empty(), "{name} reached MODEN: {request:?}");
    }
    let may_be_empty = ["POST", "PUT", "PATCH"].contains(&request.method.as_str());
    let expected = (may_be_empty || request.body_length > 0).then_some(request.body_length);
    assert_eq!(request.content_length, expected, "{request:?}");
    let ids = values("x-request-id");
    assert_eq!(ids.len(), 1, "{request:?}");
    ids[0].to_str().expect("an id").to_owned()
}

/// A gateway before an upstream that answers every request with these words.
fn gateway_before(words: impl Into<String>) -> (ScriptedUpstream, TestGateway) {
    let words = words.into();
    let upstream = ScriptedUpstream::start(move |mut conversation| {
        while conversation.request().is_some() {
            conversation.say(&words);
        }
    });
    let gateway = TestGateway::builder()
        .scripted(&upstream)
        .tables(ALL_METHODS)
        .start();
    (upstream, gateway)
}

const FINE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

#[test]
fn an_answer_loses_what_concerns_its_hop_or_speaks_in_our_name() {
    let (_upstream, gateway) = gateway_before(
        "HTTP/1.1 200 Fine\r\nContent-Length: 2\r\nSet-Cookie: a=b\r\nset-cookie: c=d\r\n\
         Alt-Svc: h3=\":443\"\r\nConnection: x-hop\r\nX-Hop: 1\r\nconnection: X-Hop-Two\r\n\
         X-Hop-Two: 2\r\nKeep-Alive: timeout=5\r\nUpgrade: h2c\r\nProxy-Authenticate: Basic\r\n\
         Gateway-Outcome: not-sent\r\nGateway-Environment: production\r\nGateway-Order: new\r\n\
         X-Request-Id: forged\r\nRateLimit: \"a\";r=1\r\nIdempotent-Replayed: true\r\n\
         X-Kept: one\r\nX-Kept: two\r\nServer: moden\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
         \r\n{}",
    );
    let answer = gateway.exchange(payment("order-1"));
    assert_eq!(answer.body, b"{}");
    let names: BTreeSet<_> = answer
        .fields
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    let expected = [
        "content-length",
        "date",
        "gateway-environment",
        "gateway-outcome",
        "server",
        "x-kept",
        "x-request-id",
    ];
    assert!(names.iter().eq(&expected), "{names:?}");
    assert_eq!(answer.field("gateway-outcome"), "answered");
    assert_eq!(answer.field("gateway-environment"), "sandbox");
    assert_eq!(answer.field("x-request-id"), "order-1");
    assert_eq!(answer.all("x-kept"), ["one", "two"]);
    assert_eq!(answer.field("date"), "Sun, 06 Nov 1994 08:49:37 GMT");
}

#[test]
fn a_length_that_moden_says_twice_is_passed_on_once() {
    // Held, and long enough to be streamed.
    for length in [5, 100_000] {
        let body = "x".repeat(length);
        for fields in [
            format!("Content-Length: {length}, {length}\r\n"),
            format!("Content-Length: {length}\r\nContent-Length: {length}\r\n"),
            format!("Content-Length: {length}\r\ncontent-length: {length} ,{length}\r\n"),
        ] {
            let (_upstream, gateway) =
                gateway_before(format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}"));
            let mut client = gateway.connect();
            for number in 0..2 {
                let answer = client.exchange(payment(&format!("order-{number}")));
                assert_eq!(answer.all("content-length"), [length.to_string()]);
                assert!(answer.all("transfer-encoding").is_empty());
                assert_eq!(answer.outcome(), "answered");
                assert_eq!(answer.body, body.as_bytes());
            }
        }
    }
}

#[test]
fn an_answer_to_head_keeps_the_length_of_what_it_leaves_out() {
    for length in ["0", "5", "100000"] {
        let (_upstream, gateway) = gateway_before(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"
        ));
        let mut client = gateway.connect();
        for _ in 0..2 {
            let answer = client.exchange("HEAD /pay/echo/a HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
            assert_eq!(answer.status(), 200, "{answer:?}");
            assert_eq!(answer.all("content-length"), [length]);
            assert!(answer.all("transfer-encoding").is_empty());
            assert_eq!(answer.outcome(), "answered");
        }
    }
}

#[test]
fn moden_s_own_refusals_and_failures_pass_unchanged() {
    let answers = [
        "HTTP/1.1 412 Precondition Failed\r\nContent-Type: application/json\r\n\
         Content-Length: 46\r\n\r\n{\"status\":\"fail\",\"code\":10000,\"message\":\"no\" }",
        "HTTP/1.1 500 Oops\r\nContent-Type: text/html\r\nContent-Length: 3\r\n\r\n<p>",
        "HTTP/1.1 429 Slow\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nno",
        "HTTP/1.1 302 Found\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nno",
    ];
    for words in answers {
        let (_upstream, gateway) = gateway_before(words);
        let answer = gateway.exchange(payment("order-1"));
        let status = words.split(' ').nth(1).expect("a status");
        assert_eq!(answer.status().to_string(), status);
        assert_eq!(answer.outcome(), "answered");
        let body = words.split("\r\n\r\n").nth(1).expect("a body");
        assert_eq!(answer.body, body.as_bytes());
    }
}

#[test]
fn refuses_trace_and_connect() {
    let (upstream, gateway) = gateway_before(FINE);
    for request in [
        "TRACE /pay/gateway HTTP/1.1\r\nHost: gateway.test\r\n\r\n",
        "TRACE /pay/echo/a HTTP/1.1\r\nHost: gateway.test\r\nMax-Forwards: 0\r\n\r\n",
        "CONNECT gateway.test:443 HTTP/1.1\r\nHost: gateway.test:443\r\n\r\n",
        "CONNECT /pay/gateway HTTP/1.1\r\nHost: gateway.test\r\n\r\n",
    ] {
        let answer = gateway.exchange(request);
        assert!([400, 405].contains(&answer.status()), "{answer:?}");
        if answer.status() == 405 {
            assert_eq!(answer.code(), "method-not-allowed");
            assert_eq!(answer.outcome(), "not-sent");
            assert!(answer.field("allow").contains("POST"));
            assert!(!answer.field("allow").contains("TRACE"));
        }
    }
    drop(gateway);
    assert_eq!(upstream.connection_count(), 0);
}

#[test]
fn what_follows_a_refused_connect_is_no_tunnel_and_no_payment() {
    let (upstream, gateway) = gateway_before(FINE);
    let mut client = gateway.connect();
    client.begin("CONNECT gateway.test:443 HTTP/1.1\r\nHost: gateway.test:443\r\n\r\n\x16\x03\x01");
    assert_eq!(client.answer().status(), 405);
    drop(client);
    drop(gateway);
    assert_eq!(upstream.connection_count(), 0);
}

#[test]
fn a_method_that_no_route_allows_is_told_which_are() {
    let (upstream, gateway) = gateway_before(FINE);
    let answer = gateway.exchange("GET /pay/gateway HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
    assert_eq!(answer.status(), 405);
    assert_eq!(answer.field("allow"), "POST");
    drop(gateway);
    assert_eq!(upstream.connection_count(), 0);
}

#[test]
fn an_upgrade_as_java_sends_it_is_served_as_plain_http() {
    let (upstream, gateway) = gateway_before(FINE);
    let answer = gateway.exchange(
        "POST /pay/gateway HTTP/1.1\r\nHost: gateway.test\r\n\
         Connection: Upgrade, HTTP2-Settings\r\nContent-Length: 2\r\n\
         HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\nUpgrade: h2c\r\n\r\n{}",
    );
    assert_eq!(answer.start_line, "HTTP/1.1 200 OK");
    assert!(answer.interim.is_empty(), "{:?}", answer.interim);
    drop(gateway);
    let requests = upstream.requests();
    for name in ["upgrade", "connection", "http2-settings"] {
        assert!(requests[0].all(name).is_empty(), "{name} reached MODEN");
    }
    assert_eq!(requests[0].body, b"{}");
}

#[test]
fn interim_answers_of_the_upstream_are_swallowed() {
    let (_upstream, gateway) = gateway_before(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
         HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    );
    let answer = gateway.exchange(payment("order-1"));
    assert_eq!(answer.status(), 200);
    assert!(answer.interim.is_empty(), "{:?}", answer.interim);
    assert!(answer.all("link").is_empty());
}

#[test]
fn an_unknown_expectation_is_refused() {
    let (upstream, gateway) = gateway_before(FINE);
    for value in ["something", "100-continue, something", "y 100-continue"] {
        let answer = gateway.exchange(post("/pay/gateway", &[("Expect", value)], "{}"));
        assert_eq!(answer.status(), 417, "{value}");
        assert_eq!(answer.code(), "expectation-failed");
        assert_eq!(answer.outcome(), "not-sent");
    }
    drop(gateway);
    assert_eq!(upstream.connection_count(), 0);
}

fn expecting(client: &mut Client, path: &str) {
    client.begin(format!(
        "POST {path} HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 2\r\n\
         Expect: 100-continue\r\n\r\n"
    ));
}

#[test]
fn a_client_that_waits_for_100_is_told_to_go_on() {
    let (upstream, gateway) = gateway_before(FINE);
    let mut client = gateway.connect();
    expecting(&mut client, "/pay/gateway");
    let mut interim = [0; 25];
    let mut received = 0;
    while received < interim.len() {
        let room = interim.get_mut(received..).expect("there is room");
        let read = client.read_some(room).expect("the gateway answers");
        assert!(read > 0, "the gateway closed");
        received += read;
    }
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.write("{}");
    assert_eq!(client.answer().outcome(), "answered");
    drop(client);
    drop(gateway);
    assert!(upstream.requests()[0].all("expect").is_empty());
}

#[test]
fn a_client_that_waits_for_100_and_is_refused_is_not_told_to_go_on() {
    let (upstream, gateway) = gateway_before(FINE);
    let mut client = gateway.connect();
    expecting(&mut client, "/other");
    let answer = client.answer();
    assert_eq!(answer.status(), 404);
    assert!(answer.interim.is_empty(), "{:?}", answer.interim);
    drop(gateway);
    assert_eq!(upstream.connection_count(), 0);
}

#[test]
fn a_request_that_came_through_here_before_is_a_loop() {
    let (upstream, gateway) = gateway_before(FINE);
    for value in ["1.1 moden-gateway", "1.0 a, 1.1 MODEN-Gateway (x)"] {
        let answer = gateway.exchange(post("/pay/gateway", &[("Via", value)], "{}"));
        assert_eq!(answer.status(), 508, "{value}");
        assert_eq!(answer.code(), "loop-detected");
        assert_eq!(answer.outcome(), "not-sent");
    }
    let other = [("Via", "1.0 fred, 1.1 gateway.example")];
    assert_eq!(
        gateway
            .exchange(post("/pay/gateway", &other, "{}"))
            .status(),
        200
    );
    drop(gateway);
    let requests = upstream.requests();
    assert_eq!(
        requests[0].all("via").join(", "),
        "1.0 fred, 1.1 gateway.example, 1.1 moden-gateway"
    );
}

#[test]
fn a_request_id_that_does_not_fit_is_replaced() {
    let (upstream, gateway) = gateway_before(FINE);
    for value in ["", "a b", "a\"b", "a%0d%0aX", &"x".repeat(129)] {
        let answer = gateway.exchange(post("/pay/gateway", &[("X-Request-Id", value)], "{}"));
        let id = answer.field("x-request-id").to_owned();
        assert_eq!(id.len(), 36, "{value:?} became {id:?}");
        assert_eq!(last(&upstream).field("x-request-id"), id);
    }
    let longest = "x".repeat(128);
    let answer = gateway.exchange(post("/pay/gateway", &[("X-Request-Id", &longest)], "{}"));
    assert_eq!(answer.field("x-request-id"), longest);
}

fn last(upstream: &ScriptedUpstream) -> Message {
    upstream.requests().pop().expect("a request arrived")
}
