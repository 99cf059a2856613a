//! The operator's file: read, merged, checked, and turned into types that cannot be wrong.
//!
//! For: [`load`], which returns a whole [`Config`] or all [`ConfigFaults`] at once. Never does:
//! read a secret, open a socket, or print a value in a message. Called by: `app` and `main`; every
//! room takes its own section by reference. Start reading at [`load`].
//!
//! ```text
//! files, variables, flag --layers--> one tree --units, sections--> Config
//!          |                             |                 |
//!          +-- schema: keys and types    +-- origins       +-- what a section knows of itself
//!                         \______________ faults ______________/
//! ```
//!
//! A new key is a documented field in its section's file with a default, and a line in
//! `config/base.toml`; the schema, the list of known keys and the type checks follow from the field.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;

use crate::domain::Environment;
use crate::secret::FilePolicy;

mod access_log;
mod admin;
mod base_url;
mod environments;
mod faults;
mod headers;
mod layers;
mod limits;
mod listeners;
mod log;
mod name;
mod routes;
mod schema;
mod server;
mod tree;
mod units;
mod upstream;

pub use access_log::{AccessLogConfig, LogOutput};
pub use admin::AdminConfig;
pub use base_url::BaseUrl;
pub use environments::{EnvironmentConfig, EnvironmentsConfig};
pub use faults::{ConfigFaults, Fault};
pub use headers::HeadersConfig;
pub use limits::{Allowance, Dimension, LimitConfig, LimitMode, UPSTREAM_LIMIT};
pub use listeners::{
    ListenAddress, ListenerConfig, ListenerTls, OPEN_TO_OTHERS, TLS_ON_UNIX_SOCKET,
};
pub use log::{Level, LogConfig, LogFormat};
pub use routes::{NO_ROUTE, RouteConfig, RoutePath};
pub use schema::schema;
pub use server::ServerConfig;
pub use units::Expected;
pub use upstream::{BreakerConfig, BreakerSettings, ProxyUrl, Roots, UpstreamConfig};

use admin::AdminFile;
use environments::EnvironmentsFile;
use faults::Report;
use headers::HeadersFile;
use limits::LimitFile;
use routes::RouteFile;
use schema::KnownKeys;
use tree::Tree;

/// Every environment variable that is configuration begins with this.
///
/// Two underscores, because Kubernetes makes variables of its own that begin with the name of a
/// service and one underscore.
pub const VARIABLE_PREFIX: &str = "MODEN_GATEWAY__";

/// The whole configuration, every value parsed and checked; safe to print, since it holds no
/// secret but only the places of some.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which of MODEN's environments this process serves.
    pub environment: Environment,
    /// The process as a whole.
    pub server: ServerConfig,
    /// Where clients are served; at least one.
    pub listeners: Vec<ListenerConfig>,
    /// Where operators are served.
    pub admin: AdminConfig,
    /// Both environments; [`Config::selected`] is the one in use.
    pub environments: EnvironmentsConfig,
    /// How MODEN is talked to.
    pub upstream: UpstreamConfig,
    /// Which fields of a request are taken out.
    pub headers: HeadersConfig,
    /// What is forwarded, in order of precedence; at least one.
    pub routes: Vec<RouteConfig>,
    /// How much is admitted; every policy holds for every request.
    pub limits: Vec<LimitConfig>,
    /// One line a request.
    pub access_log: AccessLogConfig,
    /// What the program says of itself.
    pub log: LogConfig,
}

impl Config {
    /// The section of the environment that this process serves.
    pub const fn selected(&self) -> &EnvironmentConfig {
        self.environments.of(self.environment)
    }

    /// What is done with a secret file that others can read: production refuses it.
    pub const fn secret_file_policy(&self) -> FilePolicy {
        match self.environment {
            Environment::Sandbox => FilePolicy::Warn,
            Environment::Production => FilePolicy::Refuse,
        }
    }
}

/// Where the configuration is read from.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Files and folders of `--config`, the later wins; none means `./config` if it is there, else
    /// `/etc/moden-gateway` if that is there.
    pub paths: Vec<PathBuf>,
    /// The value of `--environment`; wins over everything.
    pub environment: Option<String>,
    /// Environment variables by full name; those without [`VARIABLE_PREFIX`] are ignored.
    pub variables: Vec<(String, String)>,
    /// Reads no files at all, only embedded defaults, variables and flag.
    pub embedded_only: bool,
}

impl LoadOptions {
    /// Takes the variables from the process environment; the only place that reads it for
    /// configuration.
    ///
    /// Bytes that are not UTF-8 become U+FFFD, which no key accepts.
    #[expect(clippy::disallowed_methods, reason = "this room reads the environment")]
    pub fn from_process(paths: Vec<PathBuf>, environment: Option<String>) -> Self {
        let variables = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value))
            .filter(|(name, _)| name.starts_with(VARIABLE_PREFIX))
            .map(|(name, value)| (name, value.to_string_lossy().into_owned()))
            .collect();
        Self {
            paths,
            environment,
            variables,
            embedded_only: false,
        }
    }
}

/// The value of `RUST_LOG`, which wins over `log.level`; `None` if it is not set or not UTF-8.
#[expect(clippy::disallowed_methods, reason = "this room reads the environment")]
pub fn rust_log() -> Option<String> {
    std::env::var("RUST_LOG").ok()
}

/// A configuration and how it came about.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What is allowed but worth a second look; sentences for the log.
    pub warnings: Vec<String>,
    /// The files that were read, in order of precedence, the last wins.
    pub files: Vec<PathBuf>,
}

/// Reads, merges and checks the configuration; blocks.
///
/// # Errors
/// All faults at once, each with its key and origin and never with a value. The caller refuses to
/// start, or keeps the configuration that it has.
pub fn load(options: &LoadOptions) -> Result<Loaded, ConfigFaults> {
    examine(options).finish()
}

/// Reads the `[admin]` section alone, for commands that ask a running gateway: they must work
/// where a credential, the environment or anything else is not configured. Blocks.
///
/// # Errors
/// Faults of the section, and files that cannot be read.
pub fn load_admin(options: &LoadOptions) -> Result<AdminConfig, ConfigFaults> {
    let mut report = Report::default();
    let known_keys = KnownKeys::all();
    let layers = layers::read(options, known_keys, &mut report);
    let mut tree = layers.merge(known_keys, &mut report);
    let admin = tree.section::<AdminFile>("admin", &mut report);
    let admin = admin.build(&mut report);
    let (_, ConfigFaults(mut faults)) = report.finish();
    faults.retain(|fault| matches!(fault.key.split('.').next(), Some("" | "admin")));
    match faults.is_empty() {
        true => Ok(admin),
        false => Err(ConfigFaults(faults)),
    }
}

/// As [`load`], leaving it to the caller to add what only other rooms can judge.
pub fn examine(options: &LoadOptions) -> Examined {
    let mut report = Report::default();
    let known_keys = KnownKeys::all();
    let layers = layers::read(options, known_keys, &mut report);
    let mut tree = layers.merge(known_keys, &mut report);
    let draft = build(layers.environment, &mut tree, &mut report);
    Examined {
        draft,
        report,
        files: layers.files,
    }
}

/// A configuration that was read, with what was found so far.
#[derive(Debug)]
pub struct Examined {
    draft: Option<Config>,
    report: Report,
    files: Vec<PathBuf>,
}

impl Examined {
    /// The configuration with defaults in the place of what is at fault: to look at, never to run.
    /// `None` if no environment is named.
    pub fn draft(&self) -> Option<&Config> {
        self.draft.as_ref()
    }

    /// Adds a fault of a key's value, unless this key or one above it is at fault already.
    pub fn fault(&mut self, key: &str, message: impl Into<String>) {
        self.report.fault(key, message);
    }

    /// Adds something that is allowed but worth a second look.
    pub fn warn(&mut self, warning: impl Into<String>) {
        self.report.warn(warning);
    }

    /// What was found so far that is allowed but worth a second look.
    pub fn warnings(&self) -> &[String] {
        self.report.warnings()
    }

    /// Judges.
    ///
    /// # Errors
    /// As [`load`].
    pub fn finish(self) -> Result<Loaded, ConfigFaults> {
        let (warnings, faults) = self.report.finish();
        match self.draft {
            Some(config) if faults.0.is_empty() => Ok(Loaded {
                config,
                warnings,
                files: self.files,
            }),
            _ => Err(faults),
        }
    }
}

/// Takes section after section out of the tree; every one is read and checked before any of them
/// can end it.
fn build(environment: Option<Environment>, tree: &mut Tree, report: &mut Report) -> Option<Config> {
    let server: ServerConfig = tree.section("server", report);
    let listeners = tree.list("listeners", report);
    let listeners = listeners.unwrap_or_else(listeners::default_list);
    let admin = tree.section::<AdminFile>("admin", report).build(report);
    listeners::check(&listeners, &admin, report);
    let environments = tree.section::<EnvironmentsFile>("environments", report);
    let environments = environments.build(environment, report);
    let upstream: UpstreamConfig = tree.section("upstream", report);
    if server.max_held_bytes < upstream.hold_body as u64 {
        report.fault(
            "server.max_held_bytes",
            "is refused below upstream.hold_body, because a body of that size could never be taken",
        );
    }
    // http is for the loopback of this machine, and a proxy's loopback is another machine's.
    let is_plain = environment.is_some_and(|name| !environments.of(name).base_url.is_tls());
    if upstream.proxy.is_some() && is_plain {
        report.fault(
            "upstream.proxy",
            "is refused with an http:// base URL, because the proxy would see the credential",
        );
    }
    let headers = tree.section::<HeadersFile>("headers", report).build(report);
    let routes = tree.list("routes", report);
    let routes = routes::build(routes.unwrap_or_else(routes::default_list), report);
    let limits = tree.list("limits", report).unwrap_or_default();
    let limits = limits::build(limits, report);
    let access_log = tree.section("access_log", report);
    let log = tree.section("log", report);

    Some(Config {
        environment: environment?,
        server,
        listeners,
        admin,
        environments,
        upstream,
        headers,
        routes,
        limits,
        access_log,
        log,
    })
}

/// The whole file in its written form: what the schema is made from, and where defaults are seen
/// side by side. Nothing is read into it; [`load`] takes the sections one by one.
#[derive(Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "moden-gateway configuration")]
struct ConfigFile {
    /// Which of MODEN's environments this process serves; required, here or in
    /// `MODEN_GATEWAY__ENVIRONMENT` or as `--environment`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Environment")]
    environment: Option<Environment>,
    server: ServerConfig,
    /// Where clients are served; at least one. By default one, for this machine only.
    listeners: Vec<ListenerConfig>,
    admin: AdminFile,
    environments: EnvironmentsFile,
    upstream: UpstreamConfig,
    headers: HeadersFile,
    /// What is forwarded; the first match wins, and without a match nothing leaves. By default
    /// everything below `/pay/`, by POST.
    routes: Vec<RouteFile>,
    /// How much is admitted; every policy holds for every request. By default none.
    limits: Vec<LimitFile>,
    access_log: AccessLogConfig,
    log: LogConfig,
}

impl Default for ConfigFile {
    fn default() -> Self {
        Self {
            environment: None,
            server: ServerConfig::default(),
            listeners: listeners::default_list(),
            admin: AdminFile::default(),
            environments: EnvironmentsFile::default(),
            upstream: UpstreamConfig::default(),
            headers: HeadersFile::default(),
            routes: routes::default_list(),
            limits: Vec::new(),
            access_log: AccessLogConfig::default(),
            log: LogConfig::default(),
        }
    }
}

#[cfg(test)]
mod tests;
