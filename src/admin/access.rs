//! Who may ask the admin listener for what?

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, StatusCode};

use crate::config::AdminConfig;
use crate::secret::TokenDigest;

/// What browsers put before the names of fields that say who made them ask.
///
/// # Source
/// W3C "Fetch Metadata Request Headers", section 2.
const FETCH_METADATA: &str = "sec-fetch-";

/// How much a request gets to see or to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Right {
    /// Health and metrics: for everybody who reaches the listener.
    Health,
    /// Everything else that only reads.
    Read,
    /// What changes the gateway's state.
    Change,
}

/// The rules of one admin listener.
#[derive(Debug)]
pub(super) struct Access {
    /// Whether only processes of this machine can reach it.
    is_loopback: bool,
    token: Option<TokenDigest>,
    hosts: Vec<String>,
}

/// Why a request is refused; the texts are for operators and tell what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// `Host` is missing, there twice, or no host.
    #[error("a request names exactly one valid Host")]
    HostInvalid,
    /// A name that is not known here, as a web page would use that points its own name at us.
    #[error(
        "this host name is not known here: call the admin listener by its IP address or as \
         localhost, or list the name in admin.hosts"
    )]
    HostUnknown,
    /// A web page, or somebody who looks like one, wants to change something.
    #[error(
        "web pages cannot change anything here: requests with Origin or Sec-Fetch-* are refused"
    )]
    Browser,
    /// Nobody can read this, since no token is configured.
    #[error(
        "other machines can reach this address, so that this wants a token, and none is \
         configured: set admin.token_sha256 and restart"
    )]
    ReadingClosed,
    /// Nobody can change anything, since no token is configured.
    #[error("nothing can be changed without a token: set admin.token_sha256 and restart")]
    ChangingClosed,
    /// The token is missing, or is another one.
    #[error("this wants Authorization: Bearer and the token that admin.token_sha256 is of")]
    TokenWanted,
}

impl Refusal {
    /// What it is answered with.
    ///
    /// An unknown name gets 421, not 403: nothing is wrong with the request but where it went
    /// (RFC 9110 section 15.5.20).
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::HostInvalid => StatusCode::BAD_REQUEST,
            Self::HostUnknown => StatusCode::MISDIRECTED_REQUEST,
            Self::Browser | Self::ReadingClosed | Self::ChangingClosed => StatusCode::FORBIDDEN,
            Self::TokenWanted => StatusCode::UNAUTHORIZED,
        }
    }
}

impl Access {
    /// Takes the rules from the configuration, for a listener that is bound to this address.
    pub(super) fn new(config: &AdminConfig, address: SocketAddr) -> Self {
        Self {
            is_loopback: address.ip().to_canonical().is_loopback(),
            token: config.token_sha256,
            hosts: config.hosts.clone(),
        }
    }

    /// Checks by what name a request calls us; comes first and holds for every path, health too.
    ///
    /// A page in a browser can make a name of its own point here (DNS rebinding), but the name that
    /// it then sends is its own. Probes call an address, which nobody can make point anywhere.
    pub(super) fn check_host(&self, head: &Parts) -> Result<(), Refusal> {
        let mut fields = head.headers.get_all(HOST).iter();
        let (Some(field), None) = (fields.next(), fields.next()) else {
            return Err(Refusal::HostInvalid);
        };
        let named = Authority::try_from(field.as_bytes()).map_err(|_| Refusal::HostInvalid)?;
        let is_known = |name: &Authority| self.is_known(name);
        // An absolute-form target names a host as well (RFC 9112 section 3.2.2).
        if is_known(&named) && head.uri.authority().is_none_or(is_known) {
            Ok(())
        } else {
            Err(Refusal::HostUnknown)
        }
    }

    /// Decides whether a request has the right that it needs.
    pub(super) fn check_right(&self, right: Right, headers: &HeaderMap) -> Result<(), Refusal> {
        match right {
            Right::Health => Ok(()),
            Right::Read if self.is_loopback => Ok(()),
            Right::Read => self.check_token(headers, Refusal::ReadingClosed),
            Right::Change if is_from_browser(headers) => Err(Refusal::Browser),
            Right::Change => self.check_token(headers, Refusal::ChangingClosed),
        }
    }

    fn is_known(&self, name: &Authority) -> bool {
        let host = name.host();
        // `host` leaves out who is said to call; nobody who means it well says so.
        !name.as_str().contains('@')
            && (is_address(host)
                || host.eq_ignore_ascii_case("localhost")
                || self
                    .hosts
                    .iter()
                    .any(|known| host.eq_ignore_ascii_case(known)))
    }

    fn check_token(&self, headers: &HeaderMap, without: Refusal) -> Result<(), Refusal> {
        let Some(expected) = self.token else {
            return Err(without);
        };
        match bearer_token(headers) {
            Some(token) if expected.is_of(token) => Ok(()),
            _ => Err(Refusal::TokenWanted),
        }
    }
}

/// Whether a host is an IP literal; of IPv6 in brackets, as everywhere in URIs.
fn is_address(host: &str) -> bool {
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    match bracketed {
        Some(host) => host.parse::<Ipv6Addr>().is_ok(),
        None => host.parse::<Ipv4Addr>().is_ok(),
    }
}

fn is_from_browser(headers: &HeaderMap) -> bool {
    headers.contains_key(ORIGIN)
        || headers
            .keys()
            .any(|name| name.as_str().starts_with(FETCH_METADATA))
}

/// The token of the one `Authorization` field.
///
/// # Source
/// RFC 6750 section 2.1; RFC 9110 section 11.1 for the scheme's letter case.
fn bearer_token(headers: &HeaderMap) -> Option<&[u8]> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else {
        return None;
    };
    let (scheme, token) = field.as_bytes().split_at_checked(b"Bearer ".len())?;
    let is_bearer = scheme.eq_ignore_ascii_case(b"Bearer ");
    (is_bearer && !token.is_empty()).then_some(token)
}

/// The address under which this machine reaches a listener on `address`.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn access(hosts: &[&str]) -> Access {
        Access {
            is_loopback: true,
            token: None,
            hosts: hosts.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    fn check_host(target: &str, hosts: &[&str]) -> Result<(), Refusal> {
        let mut request = Request::get(target);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let (head, ()) = request.body(()).expect("a valid request").into_parts();
        access(&["gateway.internal"]).check_host(&head)
    }

    #[test]
    fn knows_addresses_localhost_and_the_names_that_are_listed() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:9090",
            "10.1.2.3:1",
            "[::1]:9090",
            "[fe80::1]",
            "localhost",
            "LOCALHOST:9090",
            "gateway.internal",
            "Gateway.Internal:9090",
        ] {
            assert_eq!(check_host("/status", &[host]), Ok(()), "{host}");
            let absolute = format!("http://{host}/status");
            assert_eq!(check_host(&absolute, &["localhost"]), Ok(()), "{host}");
        }
    }

    #[test]
    fn knows_no_other_name() {
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil.gateway.internal",
            "gateway.internal.",
            "evil@127.0.0.1",
            "0x7f000001",
            "2130706433",
            "127.1",
        ] {
            let refused = Err(Refusal::HostUnknown);
            assert_eq!(check_host("/status", &[host]), refused, "{host}");
            let absolute = format!("http://{host}/status");
            assert_eq!(check_host(&absolute, &["localhost"]), refused, "{host}");
        }
        for hosts in [&[][..], &[""], &["a b"], &["localhost", "localhost"]] {
            let refused = Err(Refusal::HostInvalid);
            assert_eq!(check_host("/status", hosts), refused, "{hosts:?}");
        }
    }

    #[test]
    fn takes_a_token_from_one_bearer_field_only() {
        let token = |fields: &[&str]| {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(AUTHORIZATION, field.parse().expect("a valid value"));
            }
            bearer_token(&headers).map(<[u8]>::to_vec)
        };
        assert_eq!(token(&["Bearer abc"]), Some(b"abc".to_vec()));
        assert_eq!(token(&["bEARER abc"]), Some(b"abc".to_vec()));
        for fields in [
            &[][..],
            &["Bearer"],
            &["Bearer "],
            &["Basic abc"],
            &["abc"],
            &["Bearer abc", "Bearer abc"],
        ] {
            assert_eq!(token(fields), None, "{fields:?}");
        }
    }
}
