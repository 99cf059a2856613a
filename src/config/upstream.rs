//! `[upstream]`: how MODEN is talked to.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::base_url::parse_authority;
use super::{Expected, units};

/// The word that turns the circuit breaker off.
const OFF: &str = "off";

/// What `breaker` may be.
const BREAKER_FORM: &str = "a table such as { failures = 50 }, or \"off\"";

/// The smallest and the largest `max_header_bytes`.
const ANSWER_HEAD_LEAST: usize = 8 * 1024;
const ANSWER_HEAD_MOST: usize = 1024 * 1024;

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
    /// The longest head of an answer, in bytes, with all 1xx answers before it; default 64 KiB, from
    /// 8 KiB to 1 MiB.
    #[serde(
        deserialize_with = "answer_head_size",
        serialize_with = "units::size::serialize"
    )]
    #[schemars(with = "units::SizeText")]
    pub max_header_bytes: usize,
    /// When requests are refused because MODEN fails; a table, or `"off"`.
    pub breaker: BreakerConfig,
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
            max_header_bytes: 64 * 1024,
            breaker: BreakerConfig::default(),
            roots: Roots::Bundled,
            ca_file: None,
            proxy: None,
        }
    }
}

/// hyper's client wants 8 KiB at least, and no server has a reason for more than 1 MiB.
fn answer_head_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let size = units::size::deserialize(deserializer)?;
    match size {
        0..ANSWER_HEAD_LEAST => Err(D::Error::custom(Expected(
            "a size of at least 8KiB, found a smaller one",
        ))),
        ANSWER_HEAD_LEAST..=ANSWER_HEAD_MOST => Ok(size),
        _ => Err(D::Error::custom(Expected(
            "a size of at most 1MiB, found a larger one",
        ))),
    }
}

/// When requests are refused because MODEN, or the way to it, fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BreakerConfig {
    /// Never: `"off"`.
    Off,
    /// The default.
    On(BreakerSettings),
}

/// When the circuit breaker opens, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerSettings {
    /// How many exchanges must fail within `window`; they must be at least half of all, too.
    /// Default 50.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub failures: u32,
    /// How far back exchanges count, in tenths; default 10 s.
    #[serde(with = "units::positive_duration")]
    #[schemars(with = "units::DurationText")]
    pub window: Duration,
    /// How long requests are refused before one is let through to try; default 5 s.
    #[serde(with = "units::positive_duration")]
    #[schemars(with = "units::DurationText")]
    pub open_for: Duration,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            failures: 50,
            window: Duration::from_secs(10),
            open_for: Duration::from_secs(5),
        }
    }
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self::On(BreakerSettings::default())
    }
}

impl Serialize for BreakerConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_str(OFF),
            Self::On(settings) => settings.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for BreakerConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrTable;

        impl<'de> Visitor<'de> for WordOrTable {
            type Value = BreakerConfig;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(BREAKER_FORM)
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<BreakerConfig, E> {
                match word {
                    OFF => Ok(BreakerConfig::Off),
                    _ => Err(E::custom(Expected(BREAKER_FORM))),
                }
            }

            fn visit_map<M: MapAccess<'de>>(self, table: M) -> Result<BreakerConfig, M::Error> {
                let table = MapAccessDeserializer::new(table);
                BreakerSettings::deserialize(table).map(BreakerConfig::On)
            }
        }

        deserializer.deserialize_any(WordOrTable)
    }
}

impl JsonSchema for BreakerConfig {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Breaker".into()
    }

    /// The table's schema, with one word beside it.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = BreakerSettings::json_schema(generator);
        schema.remove("type");
        schema.insert(
            "oneOf".into(),
            serde_json::json!([{ "type": "object" }, { "const": OFF }]),
        );
        schema.insert("x-expected".into(), BREAKER_FORM.into());
        schema
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
    fn a_breaker_is_a_table_or_turned_off() {
        let parse = |json: serde_json::Value| serde_json::from_value::<BreakerConfig>(json);
        let off = serde_json::json!("off");
        assert_eq!(parse(off.clone()).expect("a word"), BreakerConfig::Off);
        assert_eq!(
            serde_json::to_value(BreakerConfig::Off).expect("a word"),
            off
        );
        let settings = parse(serde_json::json!({ "failures": 3, "open_for": "1s" }));
        assert_eq!(
            settings.expect("a table"),
            BreakerConfig::On(BreakerSettings {
                failures: 3,
                window: Duration::from_secs(10),
                open_for: Duration::from_secs(1),
            })
        );
        for wrong in [
            serde_json::json!("on"),
            serde_json::json!(50),
            serde_json::json!(true),
            serde_json::json!({ "window": "0s" }),
            serde_json::json!({ "windows": "1s" }),
        ] {
            assert!(parse(wrong.clone()).is_err(), "{wrong}");
        }
    }

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
