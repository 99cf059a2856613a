//! `[environments]`: where MODEN's sandbox and production are, and which credential opens them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::BaseUrl;
use super::faults::Report;
use crate::domain::Environment;
use crate::secret::Source;

/// Both environments of MODEN.
#[derive(Clone, Debug)]
pub struct EnvironmentsConfig {
    /// Test money.
    pub sandbox: EnvironmentConfig,
    /// Real money.
    pub production: EnvironmentConfig,
}

impl EnvironmentsConfig {
    /// The section of one environment.
    pub const fn of(&self, environment: Environment) -> &EnvironmentConfig {
        match environment {
            Environment::Sandbox => &self.sandbox,
            Environment::Production => &self.production,
        }
    }
}

/// One environment: its address and its credential.
#[derive(Clone, Debug)]
pub struct EnvironmentConfig {
    /// What `/pay` of a request is mapped onto.
    pub base_url: BaseUrl,
    /// Whether real money may move; always false for the sandbox, which needs no arming.
    pub armed: bool,
    /// Where the APP ID comes from; always there in the selected environment.
    pub app_id: Option<Source>,
    /// Where the secret comes from; always there in the selected environment.
    pub secret: Option<Source>,
}

/// The section as it is written.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct EnvironmentsFile {
    sandbox: SandboxFile,
    production: ProductionFile,
}

/// Test money.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct SandboxFile {
    /// What `/pay` of a request is mapped onto.
    base_url: BaseUrl,
    /// Where the APP ID comes from; required when the sandbox is selected.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Source")]
    app_id: Option<Source>,
    /// Where the secret comes from; required when the sandbox is selected.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Source")]
    secret: Option<Source>,
}

impl Default for SandboxFile {
    fn default() -> Self {
        Self {
            base_url: BaseUrl::parse("https://api.modenpay.io/pay/sandbox")
                .expect("the documented base URL is well-formed"),
            app_id: None,
            secret: None,
        }
    }
}

/// Real money.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct ProductionFile {
    /// What `/pay` of a request is mapped onto.
    base_url: BaseUrl,
    /// Whether real money may move; needed to start in production, default false.
    armed: bool,
    /// Where the APP ID comes from; required when production is selected.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Source")]
    app_id: Option<Source>,
    /// Where the secret comes from; required when production is selected.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Source")]
    secret: Option<Source>,
}

impl Default for ProductionFile {
    fn default() -> Self {
        Self {
            base_url: documented_production(),
            armed: false,
            app_id: None,
            secret: None,
        }
    }
}

impl EnvironmentsFile {
    /// Checks that the two environments cannot be mistaken for each other, and that the selected
    /// one, if it is known, can be served.
    pub(super) fn build(
        self,
        selected: Option<Environment>,
        report: &mut Report,
    ) -> EnvironmentsConfig {
        let environments = EnvironmentsConfig {
            sandbox: EnvironmentConfig {
                base_url: self.sandbox.base_url,
                armed: false,
                app_id: self.sandbox.app_id,
                secret: self.sandbox.secret,
            },
            production: EnvironmentConfig {
                base_url: self.production.base_url,
                armed: self.production.armed,
                app_id: self.production.app_id,
                secret: self.production.secret,
            },
        };
        check_base_urls(&environments, report);
        for environment in [Environment::Sandbox, Environment::Production] {
            let section = environments.of(environment);
            let is_selected = selected == Some(environment);
            let sources = [("app_id", &section.app_id), ("secret", &section.secret)];
            for (name, source) in sources {
                let key = format!("environments.{environment}.{name}");
                check_source(&key, source.as_ref(), is_selected, report);
            }
        }
        if selected == Some(Environment::Production) && !environments.production.armed {
            report.fault(
                "environments.production.armed",
                "production moves real money and must be armed: write armed = true under \
                 [environments.production]",
            );
        }
        environments
    }
}

/// # Source
/// MODEN help page "Create payment", 2021-03-23.
fn documented_production() -> BaseUrl {
    BaseUrl::parse("https://api.modenpay.io/pay").expect("the documented base URL is well-formed")
}

/// A mistake here would move real money, or test with it.
fn check_base_urls(environments: &EnvironmentsConfig, report: &mut Report) {
    let production = &environments.production.base_url;
    let sandbox = &environments.sandbox.base_url;
    let is_at_moden = sandbox.authority() == documented_production().authority();
    // On MODEN's host only the sandbox's prefix keeps a request away from real money, and another
    // spelling of production's path might still be read as production.
    if is_at_moden
        && !sandbox
            .path()
            .split('/')
            .any(|segment| segment == "sandbox")
    {
        report.fault(
            "environments.sandbox.base_url",
            "is on MODEN's host and not its sandbox, so that requests might move real money; the \
             sandbox is https://api.modenpay.io/pay/sandbox",
        );
    } else if *production == environments.sandbox.base_url {
        report.fault(
            "environments.production.base_url",
            "is the same as environments.sandbox.base_url, so that one of the two is wrong",
        );
    }
    let mut segments = production.path().split('/');
    if segments.any(|segment| segment.eq_ignore_ascii_case("sandbox")) {
        report.fault(
            "environments.production.base_url",
            "has a segment \"sandbox\", so that it is not production",
        );
    }
}

fn check_source(key: &str, source: Option<&Source>, is_selected: bool, report: &mut Report) {
    match source.map(Source::check) {
        Some(Ok(())) => {}
        Some(Err(impossible)) => report.fault(key, impossible.to_string()),
        None if is_selected => report.fault(
            key,
            "is missing: say where it comes from, as in { file = \"/run/secrets/…\" }, \
             { env = \"…\" }, { credential = \"…\" } or { command = [\"…\"] }",
        ),
        None => {}
    }
}
