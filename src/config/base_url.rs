//! Base URLs: the origin and path that a request's `/pay` is mapped onto.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Expected;

/// What `/pay` of a request is mapped onto: origin and path, in one spelling only.
///
/// https, or http to this machine itself; no userinfo, query or fragment; the path is made of
/// unreserved characters and has no final slash. Two equal base URLs reach the same place.
///
/// # Source
/// RFC 3986 sections 2.3 (unreserved) and 6.2.2 (normalization).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("x-expected" = "a base URL such as \"https://api.modenpay.io/pay\""))]
pub struct BaseUrl {
    is_tls: bool,
    host: String,
    port: u16,
    authority: String,
    path: String,
}

impl BaseUrl {
    /// Parses and normalizes: host in lower case, no default port, no final slash.
    ///
    /// # Errors
    /// Says which rule is broken, never with the text.
    pub fn parse(text: &str) -> Result<Self, Expected> {
        let (is_tls, rest) = if let Some(rest) = text.strip_prefix("https://") {
            (true, rest)
        } else if let Some(rest) = text.strip_prefix("http://") {
            (false, rest)
        } else {
            return Err(Expected("a URL that begins with https://"));
        };
        if rest.contains(['?', '#']) {
            return Err(Expected("a URL without query and fragment"));
        }
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, path),
            None => (rest, ""),
        };
        if authority.contains('@') {
            return Err(Expected(
                "a URL without user and password; the credential is configured beside it",
            ));
        }
        let (host, port) = parse_authority(authority).ok_or(Expected(
            "a URL with a valid host, and a port if it has one",
        ))?;
        if !is_tls && !is_loopback(&host) {
            return Err(Expected(
                "a URL that begins with https://; http:// is for loopback addresses only",
            ));
        }
        let default_port = if is_tls { 443 } else { 80 };
        let port = port.unwrap_or(default_port);
        let mut authority = bracketed(&host);
        if port != default_port {
            authority = format!("{authority}:{port}");
        }
        Ok(Self {
            is_tls,
            host,
            port,
            authority,
            path: parse_path(path)?,
        })
    }

    /// Whether it is https.
    pub const fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Host name or IP address in lower case; an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, also where it is the scheme's default.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The value of `Host`: the host, an IPv6 address in brackets, and the port unless it is the
    /// scheme's default.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The path without a final slash, such as `/pay/sandbox`; empty when there is none.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(formatter, "{scheme}://{}{}", self.authority, self.path)
    }
}

impl TryFrom<String> for BaseUrl {
    type Error = Expected;

    fn try_from(text: String) -> Result<Self, Expected> {
        Self::parse(&text)
    }
}

impl From<BaseUrl> for String {
    fn from(url: BaseUrl) -> Self {
        url.to_string()
    }
}

/// Splits `host[:port]`; the host comes back in lower case, an IPv6 address without brackets.
pub(super) fn parse_authority(authority: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(parse_port(port)?)),
        _ => (authority, None),
    };
    Some((parse_host(host)?, port))
}

fn parse_port(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|port| *port != 0)?;
    is_number.then_some(port)
}

/// An IP address or a DNS name, in lower case; nothing that a resolver might read in two ways.
///
/// # Source
/// RFC 1123 section 2.1 (names), RFC 3986 section 3.2.2 (a name that ends in a number is none).
fn parse_host(text: &str) -> Option<String> {
    if let Some(address) = text.strip_prefix('[') {
        let address: Ipv6Addr = address.strip_suffix(']')?.parse().ok()?;
        return Some(address.to_string());
    }
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Some(address.to_string());
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let last_is_number = text
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    let is_name = text.len() <= 253 && !last_is_number && text.split('.').all(is_label);
    is_name.then(|| text.to_ascii_lowercase())
}

/// Whether a host is this machine itself.
///
/// # Source
/// RFC 6761 section 6.3: `localhost` is always loopback.
fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<Ipv4Addr>()
            .is_ok_and(|address| address.is_loopback())
        || host
            .parse::<Ipv6Addr>()
            .is_ok_and(|address| address.is_loopback())
}

fn bracketed(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.into()
    }
}

/// Checks a path without its first slash; it comes back with that one and without a final one.
fn parse_path(path: &str) -> Result<String, Expected> {
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() {
        return Ok(String::new());
    }
    let is_plain =
        |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(is_unreserved);
    if !path.split('/').all(is_plain) {
        return Err(Expected(
            "a URL whose path has plain segments: letters, digits and -._~ only, none of them \
             empty, \".\" or \"..\"",
        ));
    }
    Ok(format!("/{path}"))
}

/// Whether a byte means the same in every URL, encoded or not.
///
/// # Source
/// RFC 3986 section 2.3.
pub(super) const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> BaseUrl {
        BaseUrl::parse(text).expect("a base URL")
    }

    #[test]
    fn takes_a_base_url_apart() {
        let url = parse("https://api.modenpay.io/pay/sandbox");
        assert!(url.is_tls());
        assert_eq!((url.host(), url.port()), ("api.modenpay.io", 443));
        assert_eq!(url.authority(), "api.modenpay.io");
        assert_eq!(url.path(), "/pay/sandbox");

        let url = parse("http://[::1]:9000");
        assert!(!url.is_tls());
        assert_eq!((url.host(), url.port()), ("::1", 9000));
        assert_eq!((url.authority(), url.path()), ("[::1]:9000", ""));
    }

    #[test]
    fn knows_one_spelling_of_a_base_url() {
        let url = parse("https://api.modenpay.io/pay");
        assert_eq!(parse("https://API.modenpay.io:443/pay/"), url);
        assert_eq!(url.to_string(), "https://api.modenpay.io/pay");
        assert_ne!(parse("https://api.modenpay.io/PAY"), url);
        assert_eq!(parse("http://localhost:80/"), parse("http://localhost"));
    }

    #[test]
    fn accepts_plain_http_for_this_machine_only() {
        for host in [
            "127.0.0.1",
            "127.8.8.8:81",
            "[::1]",
            "localhost:8080",
            "LOCALHOST",
        ] {
            assert!(
                BaseUrl::parse(&format!("http://{host}/pay")).is_ok(),
                "{host}"
            );
        }
        for host in [
            "api.modenpay.io",
            "10.0.0.1",
            "[::2]",
            "localhost.evil",
            "0.0.0.0",
        ] {
            assert!(
                BaseUrl::parse(&format!("http://{host}/pay")).is_err(),
                "{host}"
            );
        }
    }

    #[test]
    fn refuses_urls_that_can_be_read_in_two_ways() {
        for text in [
            "",
            "api.modenpay.io/pay",
            "HTTPS://api.modenpay.io",
            "ftp://api.modenpay.io",
            "https://",
            "https:///pay",
            "https://user@api.modenpay.io/pay",
            "https://user:marker@api.modenpay.io/pay",
            "https://api.modenpay.io/pay?a=b",
            "https://api.modenpay.io/pay#a",
            "https://api.modenpay.io:0/pay",
            "https://api.modenpay.io:/pay",
            "https://api.modenpay.io:+443/pay",
            "https://api.modenpay.io:65536/pay",
            "https://api.modenpay.io./pay",
            "https://api..io/pay",
            "https://-api.io/pay",
            "https://api_x.io/pay",
            "https://127.1/pay",
            "https://1.2.3.4.5/pay",
            "https://[::1/pay",
            "https://::1/pay",
            "https://api.modenpay.io//pay",
            "https://api.modenpay.io/pay//",
            "https://api.modenpay.io/./pay",
            "https://api.modenpay.io/a/../pay",
            "https://api.modenpay.io/p%61y",
            "https://api.modenpay.io/pay;a",
            "https://api.modenpay.io/pay\\a",
            "https://api.modenpay.io/pay a",
        ] {
            let error = BaseUrl::parse(text).expect_err(text).to_string();
            assert!(!error.contains("marker"), "{error}");
        }
    }
}
