//! Everything a request reads, immutable, one per configuration generation.

use std::sync::Arc;

use http::HeaderValue;

use super::control::Control;
use super::headers::RequestCleaner;
use crate::config::Config;
use crate::credentials::Credentials;
use crate::domain::Environment;
use crate::routing::Routes;
use crate::upstream::Origin;

/// One generation of the configuration in its working form.
///
/// A request loads it once, at the top, so that none ever sees half a change.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts configurations since the start, from 1.
    pub(super) generation: u64,
    pub(super) environment: Environment,
    pub(super) environment_header: HeaderValue,
    /// The path of the environment's base URL, without a slash at its end.
    pub(super) base_path: String,
    /// The `Host` of every request to MODEN.
    pub(super) authority: HeaderValue,
    pub(super) routes: Routes,
    pub(super) cleaner: RequestCleaner,
    pub(super) hold_body_bytes: usize,
    pub(super) credentials: Arc<Credentials>,
    /// Outlives the generation, as the credentials do.
    pub(super) control: Arc<Control>,
}

impl Snapshot {
    /// Builds the working form of a checked configuration; cannot fail for one.
    pub fn build(
        config: &Config,
        origin: &Origin,
        credentials: Arc<Credentials>,
        control: Arc<Control>,
    ) -> Self {
        Self {
            generation: 1,
            environment: config.environment,
            environment_header: HeaderValue::from_static(config.environment.as_str()),
            base_path: config.selected().base_url.path().to_owned(),
            authority: origin.authority().clone(),
            routes: Routes::build(&config.routes),
            cleaner: RequestCleaner::build(&config.headers.remove),
            hold_body_bytes: config.upstream.hold_body,
            credentials,
            control,
        }
    }

    /// Counts configurations since the start, from 1.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Which of MODEN's environments is served.
    pub fn environment(&self) -> Environment {
        self.environment
    }
}
