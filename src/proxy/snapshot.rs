//! Everything a request reads, immutable, one per configuration generation.

use std::sync::Arc;

use http::HeaderValue;

use super::code::Code;
use super::control::Control;
use super::headers::RequestCleaner;
use super::load::Load;
use crate::config::Config;
use crate::credentials::Credentials;
use crate::domain::Environment;
use crate::limits::Limits;
use crate::routing::Routes;
use crate::telemetry::metrics::{Metrics, ProxyMetrics};
use crate::upstream::{Breaker, Origin};

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
    pub(super) limits: Arc<Limits>,
    pub(super) metrics: ProxyMetrics,
    /// Outlives the generation, as the credentials do.
    pub(super) control: Arc<Control>,
    /// Outlives the generation, too.
    pub(super) load: Arc<Load>,
    /// As `control`.
    pub(super) breaker: Arc<Breaker>,
}

impl Snapshot {
    /// Builds the working form of a checked configuration; cannot fail for one.
    #[expect(clippy::too_many_arguments, reason = "each belongs to another room")]
    pub fn build(
        config: &Config,
        origin: &Origin,
        credentials: Arc<Credentials>,
        limits: Arc<Limits>,
        control: Arc<Control>,
        load: Arc<Load>,
        breaker: Arc<Breaker>,
        metrics: &Metrics,
    ) -> Self {
        let route_names = config.routes.iter().map(|route| route.name.as_str());
        let codes = Code::ALL.iter().map(|code| code.as_str());
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
            limits,
            control,
            load,
            breaker,
            metrics: metrics.proxy(route_names, codes),
        }
    }

    /// Counts configurations since the start, from 1.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The limits at work.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How much is going on in the process.
    pub fn load(&self) -> &Load {
        &self.load
    }

    /// Which of MODEN's environments is served.
    pub fn environment(&self) -> Environment {
        self.environment
    }
}
