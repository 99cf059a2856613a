//! What of a message's head is passed on.

use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, VIA};
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use moden_gateway::proxy::headers::{
    RequestCleaner, X_REQUEST_ID, append_via, clean_answer, is_own_loop, names_one_host, request_id,
};

/// What an operator has removed besides.
const OPERATORS: [&str; 3] = ["cookie", "x-forwarded-for", "x-real-ip"];

/// What is removed from a request without anybody's asking.
const NEVER_SENT: [&str; 19] = [
    "connection",
    "proxy-connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "proxy-authenticate",
    "proxy-authorization",
    "authorization",
    "expect",
    "host",
    "content-length",
    "x-original-url",
    "x-rewrite-url",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
];

/// What an answer cannot say.
const NEVER_RETURNED: [&str; 15] = [
    "connection",
    "proxy-connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "proxy-authenticate",
    "set-cookie",
    "alt-svc",
    "proxy-authentication-info",
    "x-request-id",
    "idempotent-replayed",
    "ratelimit",
    "ratelimit-policy",
];

/// One line: its name in lower case, and its value.
type Line = (String, Vec<u8>);

/// Nothing hop-by-hop, nothing that `Connection` names, no credential of the client's and no twin
/// of a guarded name survives; all else does, its lines in order; and nothing in the head can take
/// away what is injected.
///
/// The input is the lines of a head, `Name: value`; what is no field is left out.
pub fn headers(data: &[u8]) {
    let lines = lines(data);
    let received = map_of(&lines);
    // What is asked before the cleaning must cope with anything.
    names_one_host(&received, Version::HTTP_11);
    is_own_loop(&received);
    if let Some(id) = request_id(&received) {
        assert!((1..=128).contains(&id.len()), "an id of that length");
        let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"._~-".contains(byte);
        assert!(id.as_bytes().iter().all(fits), "{id:?}");
        let count = lines.iter().filter(|(name, _)| name == "x-request-id");
        assert_eq!(count.count(), 1, "an id that was sent twice");
    }
    check_request(&lines, received.clone());
    check_answer(&lines, received);
}

fn check_request(lines: &[Line], mut headers: HeaderMap) {
    let remove = OPERATORS.map(HeaderName::from_static);
    RequestCleaner::build(&remove).clean_request(&mut headers);
    let passes = |name: &str| {
        !NEVER_SENT.contains(&name)
            && !OPERATORS.contains(&name)
            && !is_named(name, lines)
            && !is_twin(name)
    };
    check_left(lines, &headers, passes);

    let before = headers.get_all(VIA).iter().count();
    append_via(&mut headers, Version::HTTP_11);
    let ours = HeaderValue::from_static("ours");
    for name in [HOST, X_REQUEST_ID.clone(), CONTENT_LENGTH, AUTHORIZATION] {
        headers.insert(&name, ours.clone());
        assert!(headers.get_all(&name).iter().eq([&ours]), "{name}");
    }
    let members: Vec<_> = headers.get_all(VIA).iter().collect();
    assert_eq!(members.len(), before + 1);
    assert_eq!(
        members.last().copied(),
        Some(&HeaderValue::from_static("1.1 moden-gateway"))
    );
    assert!(is_own_loop(&headers), "we would not know ourselves again");
}

fn check_answer(lines: &[Line], mut headers: HeaderMap) {
    clean_answer(&mut headers);
    let passes = |name: &str| {
        !NEVER_RETURNED.contains(&name) && !name.starts_with("gateway-") && !is_named(name, lines)
    };
    check_left(lines, &headers, passes);
}

/// What is left is what passes, and the lines of each name are in the order in which they came.
fn check_left(lines: &[Line], headers: &HeaderMap, passes: impl Fn(&str) -> bool) {
    let passed: Vec<_> = lines.iter().filter(|(name, _)| passes(name)).collect();
    assert_eq!(headers.len(), passed.len(), "{headers:?}");
    for name in headers.keys() {
        let left = headers.get_all(name).iter().map(HeaderValue::as_bytes);
        let expected = passed.iter().filter(|(other, _)| other == name.as_str());
        assert!(
            left.eq(expected.map(|(_, value)| value.as_slice())),
            "{name}"
        );
    }
}

/// Whether a line of `Connection` names this field.
fn is_named(name: &str, lines: &[Line]) -> bool {
    lines
        .iter()
        .filter(|(name, _)| name == "connection")
        .flat_map(|(_, value)| value.split(|byte| *byte == b','))
        .any(|option| option.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
}

/// Whether some servers read this name as a guarded one.
fn is_twin(name: &str) -> bool {
    let read = name.replace(['_', '.'], "-");
    let guarded = [
        &NEVER_SENT[..],
        &OPERATORS,
        &["x-request-id", "idempotency-key"],
    ]
    .concat();
    read != name && guarded.contains(&read.as_str())
}

fn lines(data: &[u8]) -> Vec<Line> {
    let lines = data.split(|byte| *byte == b'\n').filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = line[colon + 1..].trim_ascii();
        HeaderValue::from_bytes(value).ok()?;
        Some((name.as_str().to_owned(), value.to_vec()))
    });
    lines.take(200).collect()
}

fn map_of(lines: &[Line]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("it was one");
        let value = HeaderValue::from_bytes(value).expect("it was one");
        headers.append(name, value);
    }
    headers
}
