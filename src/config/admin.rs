//! `[admin]`: where operators are served.

use std::net::{Ipv4Addr, SocketAddr};

use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use super::Expected;

/// The admin listener; it serves health only, so that any address is accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    /// IP address and port; default `127.0.0.1:9090`. Restart-only.
    #[serde(deserialize_with = "deserialize_address")]
    #[schemars(
        with = "String",
        extend("x-expected" = "an IP address and a port such as \"127.0.0.1:9090\"")
    )]
    pub address: SocketAddr,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self {
            address: (Ipv4Addr::LOCALHOST, 9090).into(),
        }
    }
}

fn deserialize_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        D::Error::custom(Expected(
            "an IP address and a port such as \"127.0.0.1:9090\", found another string",
        ))
    })
}
