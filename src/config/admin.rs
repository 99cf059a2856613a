//! `[admin]`: where operators are served, and who is one.

use std::net::{Ipv4Addr, SocketAddr};

use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use super::Expected;
use super::faults::Report;
use crate::secret::TokenDigest;

/// The longest host name.
///
/// # Source
/// RFC 1035 section 2.3.4.
const LONGEST_HOST_BYTES: usize = 253;

/// The admin listener; all of it is restart-only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminConfig {
    /// Where it listens; any address is accepted, since off loopback all but health and metrics
    /// wants the token.
    pub address: SocketAddr,
    /// What the operators' token is known by; without it nothing can be changed.
    pub token_sha256: Option<TokenDigest>,
    /// Host names, in lower case, that requests may name besides IP addresses and `localhost`.
    pub hosts: Vec<String>,
}

/// The section as it is written; restart-only.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AdminFile {
    /// IP address and port; default `127.0.0.1:9090`. Off loopback all but `/livez`, `/readyz` and
    /// `/metrics` wants the token. Restart-only.
    #[serde(deserialize_with = "deserialize_address")]
    #[schemars(
        with = "String",
        extend("x-expected" = "an IP address and a port such as \"127.0.0.1:9090\"")
    )]
    address: SocketAddr,
    /// The SHA-256 over the text of the operators' token, 64 lower-case hexadecimal digits; without
    /// it nothing can be changed by anybody. Restart-only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    token_sha256: Option<String>,
    /// Host names under which the listener is called, besides IP addresses and `localhost`; none by
    /// default. Restart-only.
    hosts: Vec<String>,
}

impl Default for AdminFile {
    fn default() -> Self {
        Self {
            address: (Ipv4Addr::LOCALHOST, 9090).into(),
            token_sha256: None,
            hosts: Vec::new(),
        }
    }
}

impl AdminFile {
    /// Parses digest and names; each that is none is told.
    pub(super) fn build(self, report: &mut Report) -> AdminConfig {
        let token_sha256 = self.token_sha256.and_then(|text| {
            let digest = TokenDigest::parse(&text);
            if digest.is_none() {
                report.fault(
                    "admin.token_sha256",
                    "expected 64 lower-case hexadecimal digits, as sha256sum prints them, found \
                     another string",
                );
            }
            digest
        });
        let mut hosts = Vec::new();
        for (index, name) in self.hosts.iter().enumerate() {
            if is_host_name(name) {
                hosts.push(name.to_ascii_lowercase());
            } else {
                report.fault(
                    &format!("admin.hosts[{index}]"),
                    "expected a host name such as \"gateway.internal\", without scheme and port, \
                     found another string",
                );
            }
        }
        AdminConfig {
            address: self.address,
            token_sha256,
            hosts,
        }
    }
}

fn is_host_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    !text.is_empty() && text.len() <= LONGEST_HOST_BYTES && text.bytes().all(allowed)
}

fn deserialize_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        D::Error::custom(Expected(
            "an IP address and a port such as \"127.0.0.1:9090\", found another string",
        ))
    })
}
