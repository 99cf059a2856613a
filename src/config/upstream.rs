//! `[upstream]`: how MODEN is talked to.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::base_url::parse_authority;
use super::{Expected, units};

/// Deadlines, pool and trust towards MODEN. Durations are longer than zero unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamConfig {
    /// DNS and TCP, for each address; default 3 s.
    #[serde(with = "units::positive_duration")]
    #[schemars(with = "units::DurationText")]
    pub connect_timeout: Duration,
    /// The TLS handshake; default 3 s.
    #[serde(with = "units::positive_duration")]
    #[schemars(with = "units::DurationText")]
    pub tls_timeout: Duration,
    /// From the last byte of the request to the final head of the answer; default 30 s.
    #[serde(with = "units::positive_duration")]
    #[schemars(with = "units::DurationText")]
    pub response_timeout: Duration,
    /// Between two pieces of the answer's body; default 10 s.
    #[serde(with = "units::positive_duration")]
    #[schemars(with = "units::DurationText")]
    pub body_idle_timeout: Duration,
    /// The whole exchange, from the wait for a connection to the answer's last byte; default 60 s.
    #[serde(with = "units::positive_duration")]
    #[schemars(with = "units::DurationText")]
    pub exchange_timeout: Duration,
    /// Waiting for a connection when all are busy; default 1 s, zero does not wait.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub queue_timeout: Duration,
    /// Connections to MODEN at once; default 256.
    #[schemars(range(min = 1, max = 65_535))]
    pub max_connections: usize,
    /// How long after its last complete exchange a connection is trusted with another; default
    /// 10 s, zero gives every request a fresh connection.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub reuse_within: Duration,
    /// The longest `Retry-After` of a 429 of MODEN's that is honoured for all; default 60 s, zero
    /// honours none.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub limit_max: Duration,
    /// Request bodies up to this size are received whole before anything leaves; default 64 KiB.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub hold_body: usize,
    /// Answers up to this size are received whole before the client gets any of it; default
    /// 64 KiB.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub hold_answer: usize,
    /// Which certificate authorities vouch for MODEN; default bundled.
    pub roots: Roots,
    /// A PEM file of certificate authorities that are trusted in addition; none by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub ca_file: Option<PathBuf>,
    /// An egress proxy that is asked to CONNECT, with TLS to MODEN inside; none by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ProxyUrl")]
    pub proxy: Option<ProxyUrl>,
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            tls_timeout: Duration::from_secs(3),
            response_timeout: Duration::from_secs(30),
            body_idle_timeout: Duration::from_secs(10),
            exchange_timeout: Duration::from_secs(60),
            queue_timeout: Duration::from_secs(1),
            max_connections: 256,
            reuse_within: Duration::from_secs(10),
            limit_max: Duration::from_secs(60),
            hold_body: 64 * 1024,
            hold_answer: 64 * 1024,
            roots: Roots::Bundled,
            ca_file: None,
            proxy: None,
        }
    }
}

/// Where trusted certificate authorities come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Roots {
    /// Mozilla's list as compiled into this binary.
    #[default]
    Bundled,
    /// The list of the machine.
    Platform,
}

/// An egress proxy: `http://host:port` and nothing more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("x-expected" = "a proxy such as \"http://egress:3128\""))]
pub struct ProxyUrl {
    host: String,
    port: u16,
}

impl ProxyUrl {
    /// Host name or IP address, lower case; an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; it has no default, since proxies have no usual one.
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "http://[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "http://{}:{}", self.host, self.port)
        }
    }
}

impl TryFrom<String> for ProxyUrl {
    type Error = Expected;

    fn try_from(text: String) -> Result<Self, Expected> {
        let form = Expected("a proxy such as \"http://egress:3128\", found another string");
        if text.contains('@') {
            return Err(Expected(
                "a proxy without user and password, which would be a secret in the configuration",
            ));
        }
        let authority = text.strip_prefix("http://").ok_or(form)?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let (host, port) = parse_authority(authority).ok_or(form)?;
        let port = port.ok_or(form)?;
        Ok(Self { host, port })
    }
}

impl From<ProxyUrl> for String {
    fn from(proxy: ProxyUrl) -> Self {
        proxy.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_a_host_and_a_port_as_proxy() {
        let proxy = ProxyUrl::try_from("http://Egress:3128".to_owned()).expect("a proxy");
        assert_eq!((proxy.host(), proxy.port()), ("egress", 3128));
        let proxy = ProxyUrl::try_from("http://[::1]:3128/".to_owned()).expect("a proxy");
        assert_eq!((proxy.host(), proxy.port()), ("::1", 3128));
        assert_eq!(proxy.to_string(), "http://[::1]:3128");
    }

    #[test]
    fn refuses_everything_else_as_proxy() {
        for text in [
            "",
            "egress:3128",
            "http://egress",
            "https://egress:3128",
            "socks5://egress:1080",
            "http://egress:3128/path",
            "http://egress:3128?query",
            "http://egress:0",
            "http://egress:99999",
            "http://:3128",
        ] {
            assert!(ProxyUrl::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn says_why_a_proxy_has_no_password() {
        let error = ProxyUrl::try_from("http://user:marker@egress:3128".to_owned());
        let message = error.expect_err("userinfo").to_string();
        assert!(message.contains("without user and password"), "{message}");
        assert!(!message.contains("marker"), "{message}");
    }
}
