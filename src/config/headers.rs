//! `[headers]`: which fields of a request are taken out before it leaves.

use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::faults::Report;

/// Fields that the gateway itself sets or reads; to name them is a misunderstanding.
const OWN_FIELDS: [HeaderName; 5] = [
    http::header::HOST,
    http::header::CONTENT_LENGTH,
    http::header::AUTHORIZATION,
    http::header::VIA,
    HeaderName::from_static("x-request-id"),
];

/// Which fields of a request MODEN does not get to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadersConfig {
    /// Taken out of every request, in addition to hop-by-hop fields and the client's own
    /// `Authorization`.
    pub remove: Vec<HeaderName>,
}

/// The section as it is written.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct HeadersFile {
    /// Names of fields that are taken out of every request, in addition to hop-by-hop fields and
    /// the client's own `Authorization`; what tells MODEN about the inside of the network, by
    /// default.
    remove: Vec<String>,
}

impl Default for HeadersFile {
    fn default() -> Self {
        let names = [
            "cookie",
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-real-ip",
        ];
        Self {
            remove: names.map(String::from).into(),
        }
    }
}

impl HeadersFile {
    /// Parses the names; each that is none is told.
    pub(super) fn build(self, report: &mut Report) -> HeadersConfig {
        let mut remove = Vec::new();
        for (index, name) in self.remove.iter().enumerate() {
            let key = format!("headers.remove[{index}]");
            match HeaderName::from_bytes(name.as_bytes()) {
                Ok(name) if OWN_FIELDS.contains(&name) => report.fault(
                    &key,
                    "expected a field that the gateway does not set itself, found one of host, \
                     content-length, authorization, via and x-request-id",
                ),
                Ok(name) => remove.push(name),
                Err(_) => {
                    report.fault(&key, "expected a header field's name, found another string")
                }
            }
        }
        HeadersConfig { remove }
    }
}
