//! What of a message's head is passed on.
//!
//! For: taking off whatever belongs to one hop, whatever a client must not say to MODEN, and
//! whatever MODEN must not say in our name. Never does: set the fields that the gateway sends (it
//! cleans first, others inject last, so no client can have ours removed), decide a route, or touch
//! a value that is passed on. Called by: `proxy`. Start reading at
//! [`RequestCleaner::clean_request`].

use http::Version;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

#[cfg(test)]
mod tests;

/// The field that carries a request's id, both ways.
pub static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The name by which this hop goes in `Via`: a pseudonym, so that no internal host is told.
const PSEUDONYM: &str = "moden-gateway";

/// Fields that concern one connection only, whether or not `Connection` names them.
///
/// # Source
/// RFC 9110, 7.6.1, 10.1.4, 6.6.2 and 7.8; RFC 9112, 6.1.
static HOP_BY_HOP: [HeaderName; 7] = [
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("keep-alive"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
];

/// Further fields of a request that end here.
///
/// `Host` and `Content-Length` are set anew from the environment and the body, `Authorization` from
/// the credential. `Expect` has been answered by the time a request is sent. Some web frameworks
/// take the path or the method from the last five instead of the request line; MODEN must read the
/// ones that we have matched.
///
/// # Source
/// RFC 9110, 7.2, 8.6, 10.1.1 and 11.7.2; RFC 7540, 3.2.1 (`HTTP2-Settings`); CVE-2018-14773
/// (`X-Original-URL`, `X-Rewrite-URL`).
static NOT_FORWARDED: [HeaderName; 11] = [
    HeaderName::from_static("http2-settings"),
    header::PROXY_AUTHORIZATION,
    header::AUTHORIZATION,
    header::EXPECT,
    header::HOST,
    header::CONTENT_LENGTH,
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-method-override"),
];

/// Fields that are set or forwarded, and beside which no twin may pass.
static WITHOUT_TWIN: [HeaderName; 2] = [
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("idempotency-key"),
];

/// Further fields of an answer that end here, besides all that begin with `gateway-`.
///
/// The names that this gateway's own replies use, so that a client can trust them, and
/// fields that would bind a client to MODEN's host.
///
/// # Source
/// RFC 9110, 11.7.3; RFC 7838, 3 (`Alt-Svc`).
static NOT_RETURNED: [HeaderName; 7] = [
    header::SET_COOKIE,
    header::ALT_SVC,
    HeaderName::from_static("proxy-authentication-info"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("idempotent-replayed"),
    HeaderName::from_static("ratelimit"),
    HeaderName::from_static("ratelimit-policy"),
];

/// Removes from requests what MODEN is not to see; built at load.
#[derive(Debug)]
pub struct RequestCleaner {
    /// Names that are removed: the fixed ones, then the operator's.
    removed: Vec<HeaderName>,
    /// Names with a hyphen in them, hence names that can have a twin.
    guarded: Vec<HeaderName>,
}

impl RequestCleaner {
    /// Prepares the names; `remove` is the operator's `headers.remove`.
    pub fn build(remove: &[HeaderName]) -> Self {
        let removed: Vec<_> = HOP_BY_HOP
            .iter()
            .chain(&NOT_FORWARDED)
            .chain(remove)
            .cloned()
            .collect();
        let guarded = removed
            .iter()
            .chain(&WITHOUT_TWIN)
            .filter(|name| name.as_str().contains('-'))
            .cloned()
            .collect();
        Self { removed, guarded }
    }

    /// Removes all lines of every field that is not the client's to send on.
    ///
    /// First what `Connection` names, end-to-end fields such as `Content-Type` included, as the
    /// standard wants it; then the fixed names and the operator's; then twins. What the caller
    /// injects afterwards cannot be removed by anything in the request. What is left keeps its
    /// lines and their order. Read [`is_own_loop`] and [`request_id`] before: a client may name
    /// those fields, too.
    ///
    /// Allocates nothing unless there is a twin.
    ///
    /// # Source
    /// RFC 9110, 5.1, 5.3 and 7.6.1.
    pub fn clean_request(&self, headers: &mut HeaderMap) {
        remove_what_connection_names(headers);
        for name in &self.removed {
            headers.remove(name);
        }
        remove_while(headers, |name| self.is_twin(name));
    }

    /// Whether a server that hands fields on as variables (`HTTP_CONTENT_LENGTH`) would take this
    /// name for a guarded one: with `_` and `.` read as `-` they are equal.
    fn is_twin(&self, name: &str) -> bool {
        name.contains(['_', '.'])
            && self.guarded.iter().any(|guarded| {
                let guarded = guarded.as_str();
                let alike = |(ours, theirs)| ours == hyphenated(theirs);
                guarded.len() == name.len() && guarded.bytes().zip(name.bytes()).all(alike)
            })
    }
}

/// The fields that end here in every request, whatever is configured.
pub fn always_removed() -> impl Iterator<Item = &'static HeaderName> {
    std::iter::once(&header::CONNECTION)
        .chain(&HOP_BY_HOP)
        .chain(&NOT_FORWARDED)
}

/// Removes from MODEN's answer what concerns its connection, and what would speak in our name.
///
/// `Content-Length` stays: the body is passed on as it is. So does `Proxy-Status`: each hop appends
/// its own member and keeps those before it, which tell apart whose fault an error was.
///
/// Allocates nothing unless there is a `Gateway-…` field.
///
/// # Source
/// RFC 9110, 7.6.1; RFC 9209, 2.
pub fn clean_answer(headers: &mut HeaderMap) {
    remove_what_connection_names(headers);
    for name in HOP_BY_HOP.iter().chain(&NOT_RETURNED) {
        headers.remove(name);
    }
    remove_while(headers, |name| name.starts_with("gateway-"));
}

/// Appends this hop's member to `Via`, on a line of its own after those that are there.
///
/// `received` is the version in which the client spoke: 1.0, or 1.1 as everybody else.
///
/// # Source
/// RFC 9110, 7.6.3.
pub fn append_via(headers: &mut HeaderMap, received: Version) {
    let member = match received {
        Version::HTTP_10 => HeaderValue::from_static("1.0 moden-gateway"),
        _ => HeaderValue::from_static("1.1 moden-gateway"),
    };
    headers.append(header::VIA, member);
}

/// Whether the request has passed this gateway before: `Via` names our pseudonym as a recipient.
///
/// To be asked before the request is cleaned.
///
/// # Source
/// RFC 9110, 7.6 and 7.6.3.
pub fn is_own_loop(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::VIA)
        .iter()
        .any(|line| names_us(line.as_bytes()))
}

/// How many more hops a client wants its request to take; `None` where it does not say.
///
/// A number beyond what is counted here is as good as none at all, and stands for the largest.
///
/// # Errors
/// It says so twice, or not in digits.
///
/// # Source
/// RFC 9110, 7.6.2.
pub fn max_forwards(headers: &HeaderMap) -> Result<Option<u64>, NotANumber> {
    let mut lines = headers.get_all(header::MAX_FORWARDS).iter();
    let (line, None) = (lines.next(), lines.next()) else {
        return Err(NotANumber);
    };
    let Some(digits) = line.map(HeaderValue::as_bytes) else {
        return Ok(None);
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(NotANumber);
    }
    Ok(Some(digits.iter().fold(0_u64, |number, digit| {
        let digit = u64::from(digit - b'0');
        number.saturating_mul(10).saturating_add(digit)
    })))
}

/// A field that must be a number and is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the field is no number")]
pub struct NotANumber;

/// Counts this hop in `Max-Forwards`, if it is there; a request that names none gets none.
///
/// # Source
/// RFC 9110, 7.6.2.
pub fn count_hop(headers: &mut HeaderMap) {
    if let Ok(Some(hops)) = max_forwards(headers) {
        let left = HeaderValue::from(hops.saturating_sub(1));
        headers.insert(header::MAX_FORWARDS, left);
    }
}

/// The client's own id for the request, if it sent exactly one and it fits
/// `[A-Za-z0-9._~-]{1,128}`; otherwise the caller makes one.
///
/// To be asked before the request is cleaned.
pub fn request_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut lines = headers.get_all(&X_REQUEST_ID).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return None;
    };
    let id = line.as_bytes();
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"._~-".contains(byte);
    ((1..=128).contains(&id.len()) && id.iter().all(fits)).then_some(line)
}

/// Whether the request names exactly one host, as HTTP/1.1 demands; HTTP/1.0 may name none.
///
/// What it names is not looked at: the gateway serves under every name and sends its own.
///
/// # Source
/// RFC 9112, 3.2; RFC 9110, 7.2.
pub fn names_one_host(headers: &HeaderMap, received: Version) -> bool {
    let mut lines = headers.get_all(header::HOST).iter();
    match (lines.next(), lines.next()) {
        (Some(host), None) => is_host(host.as_bytes()),
        (None, _) => received < Version::HTTP_11,
        (Some(_), Some(_)) => false,
    }
}

/// Whether this is a host and perhaps a port; an empty value names no host, validly.
///
/// # Source
/// RFC 9110, 7.2; RFC 3986, 3.2.2 and 3.2.3: `uri-host [ ":" port ]`, without user information.
fn is_host(value: &[u8]) -> bool {
    let (is_name, after) = match value.strip_prefix(b"[") {
        Some(literal) => {
            let Some(end) = literal.iter().position(|byte| *byte == b']') else {
                return false;
            };
            let (literal, after) = literal.split_at(end);
            let is_address = !literal.is_empty()
                && literal
                    .iter()
                    .all(|byte| byte.is_ascii_alphanumeric() || b":.-_~".contains(byte));
            (is_address, after.get(1..).unwrap_or_default())
        }
        None => {
            let end = value.iter().position(|byte| *byte == b':');
            let (name, after) = value.split_at(end.unwrap_or(value.len()));
            let is_name = name
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(byte));
            (is_name, after)
        }
    };
    let is_port = match after.strip_prefix(b":") {
        Some(port) => port.len() <= 5 && port.iter().all(u8::is_ascii_digit),
        None => after.is_empty(),
    };
    is_name && is_port
}

/// Removes every field that a `Connection` line names, then `Connection`.
///
/// What is not a field name (`close`, a quoted string, bytes beyond ASCII) removes nothing.
fn remove_what_connection_names(headers: &mut HeaderMap) {
    // The lines are taken one by one, since the map changes in between; a line that names
    // `Connection` itself must not hide those after it.
    let mut number = 0;
    while let Some(line) = headers
        .get_all(header::CONNECTION)
        .iter()
        .nth(number)
        .cloned()
    {
        for option in line.as_bytes().split(|byte| *byte == b',') {
            match str::from_utf8(option.trim_ascii()) {
                Ok(name) if !name.eq_ignore_ascii_case("connection") => headers.remove(name),
                _ => None,
            };
        }
        number += 1;
    }
    headers.remove(header::CONNECTION);
}

/// Removes the fields whose names are unwanted, one after the other: there is hardly ever one.
fn remove_while(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    while let Some(name) = headers.keys().find(|name| unwanted(name.as_str())).cloned() {
        headers.remove(name);
    }
}

fn hyphenated(byte: u8) -> u8 {
    match byte {
        b'_' | b'.' => b'-',
        other => other,
    }
}

/// Whether a member of this line of `Via` has our pseudonym where it names the recipient: second,
/// after the protocol. Commas in comments end no member.
fn names_us(line: &[u8]) -> bool {
    let mut depth = 0_usize;
    let mut escaped = false;
    let mut members = line.split(|byte| {
        if escaped {
            escaped = false;
            return false;
        }
        match byte {
            b'\\' => escaped = depth > 0,
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && *byte == b','
    });
    members.any(|member| {
        let mut words = member
            .split(|byte| byte.is_ascii_whitespace() || *byte == b'(')
            .filter(|word| !word.is_empty());
        words
            .nth(1)
            .is_some_and(|recipient| recipient.eq_ignore_ascii_case(PSEUDONYM.as_bytes()))
    })
}
