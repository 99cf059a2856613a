//! What was found, as lines for people and as one object for programs.

use std::fmt;

use serde::Serialize;

use crate::domain::Environment;

/// What is looked at; the name of each stands in both forms of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// Files, variables and flag: all of what `check` tells, secrets apart.
    Configuration,
    /// The sources of APP ID and secret, and who else can get at them.
    Secrets,
    /// The limit of open files against the connections that are configured.
    OpenFiles,
    /// Whether listeners and admin listener can be bound.
    Addresses,
    /// The name of MODEN's host, or of the egress proxy.
    Dns,
    /// TCP to one of its addresses.
    Connection,
    /// The handshake, behind the tunnel if there is an egress proxy.
    Tls,
    /// One certificate of the chain that MODEN shows.
    Certificate,
    /// Whether MODEN accepts the credential.
    Credential,
    /// This machine's clock against MODEN's.
    Clock,
}

impl Check {
    /// All of them, in the order of the report.
    const ALL: [Self; 10] = [
        Self::Configuration,
        Self::Secrets,
        Self::OpenFiles,
        Self::Addresses,
        Self::Dns,
        Self::Connection,
        Self::Tls,
        Self::Certificate,
        Self::Credential,
        Self::Clock,
    ];

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Secrets => "secrets",
            Self::OpenFiles => "open-files",
            Self::Addresses => "addresses",
            Self::Dns => "dns",
            Self::Connection => "connection",
            Self::Tls => "tls",
            Self::Certificate => "certificate",
            Self::Credential => "credential",
            Self::Clock => "clock",
        }
    }
}

/// How a check went; the later the worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Not looked at, for the reason that is told.
    Skipped,
    /// As it should be.
    Ok,
    /// Payments work, and somebody should look at it.
    Warn,
    /// Payments do not work, or soon will not.
    Fail,
}

impl Status {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One line of the report; a check may have several.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: Check,
    /// How it went.
    pub status: Status,
    /// What was seen, or why nothing was.
    pub seen: String,
    /// What to do about it, if there is something to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<&'static str>,
}

impl Finding {
    /// All is well.
    pub(super) fn ok(check: Check, seen: impl Into<String>) -> Self {
        Self {
            check,
            status: Status::Ok,
            seen: seen.into(),
            advice: None,
        }
    }

    /// Something is not as it should be.
    pub(super) fn bad(
        check: Check,
        status: Status,
        seen: impl Into<String>,
        advice: impl Into<Option<&'static str>>,
    ) -> Self {
        Self {
            check,
            status,
            seen: seen.into(),
            advice: advice.into(),
        }
    }

    /// Nothing was looked at.
    pub(super) fn skipped(check: Check, reason: impl Into<String>) -> Self {
        Self {
            check,
            status: Status::Skipped,
            seen: reason.into(),
            advice: None,
        }
    }
}

/// Everything that was found; `Display` has a line for each finding.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The worst of all findings, at least `ok`.
    status: Status,
    /// `None` if none is named.
    environment: Option<Environment>,
    findings: Vec<Finding>,
    /// Whether a gateway would not start with this configuration.
    #[serde(skip)]
    pub(super) is_configuration_faulty: bool,
}

impl Report {
    pub(super) fn new(environment: Option<Environment>) -> Self {
        Self {
            status: Status::Ok,
            environment,
            findings: Vec::new(),
            is_configuration_faulty: false,
        }
    }

    pub(super) fn extend(&mut self, findings: impl IntoIterator<Item = Finding>) {
        for finding in findings {
            self.status = self.status.max(finding.status);
            self.findings.push(finding);
        }
    }

    /// Tells of every check that has found nothing yet why it was not made.
    pub(super) fn skip_rest(&mut self, reason: &str) {
        let is_made = |check: &Check| self.findings.iter().any(|finding| finding.check == *check);
        let rest: Vec<_> = Check::ALL
            .into_iter()
            .filter(|check| !is_made(check))
            .collect();
        self.extend(
            rest.into_iter()
                .map(|check| Finding::skipped(check, reason)),
        );
    }

    /// Whether a gateway would not start with this configuration.
    pub fn is_configuration_faulty(&self) -> bool {
        self.is_configuration_faulty
    }

    /// The worst of all findings, at least [`Status::Ok`].
    pub fn status(&self) -> Status {
        self.status
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            let (status, check) = (finding.status.as_str(), finding.check.as_str());
            write!(formatter, "{status:7}  {check:13}  {}", finding.seen)?;
            match finding.advice {
                Some(advice) => writeln!(formatter, " → {advice}")?,
                None => writeln!(formatter)?,
            }
        }
        let environment = self
            .environment
            .map_or("no environment", Environment::as_str);
        write!(formatter, "{}: {environment}", self.status.as_str())
    }
}
