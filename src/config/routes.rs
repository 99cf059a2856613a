//! `[[routes]]`: what is forwarded; the first match wins, and without a match nothing leaves.

use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::base_url::is_unreserved;
use super::faults::Report;
use super::{Expected, name};
use crate::domain::PathCharacters;

/// The longest name of a route, in bytes; it is a label of metrics.
/// What metrics call the route of a request that took none; no route may have this name.
pub const NO_ROUTE: &str = "none";

/// One rule of what is forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteConfig {
    /// `[a-z0-9-]{1,64}`, unique, not [`NO_ROUTE`].
    pub name: String,
    /// Which canonical paths it matches.
    pub path: RoutePath,
    /// Which methods it forwards, in the order of the file; at least one, never TRACE or CONNECT.
    pub methods: Vec<Method>,
    /// Which characters its paths may hold beyond RFC 3986's unreserved ones; usually none.
    pub path_extra: String,
}

/// Which canonical paths a route matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoutePath {
    /// This path exactly, such as `/pay/gateway`.
    Literal(String),
    /// One or more segments after this text, which ends in a slash: `/pay/*` is kept as `/pay/`.
    Prefix(String),
}

/// An element of the list as it is written.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteFile {
    /// Lower-case letters, digits and hyphens, at most 64, unique; it stands in logs and metrics.
    #[schemars(required)]
    name: Option<String>,
    /// A path such as `/pay/gateway`, or all paths below one: `/pay/*`.
    #[schemars(required)]
    path: Option<String>,
    /// Methods that are forwarded, in upper case.
    #[serde(default = "post_only")]
    methods: Vec<String>,
    /// Characters that paths of this route may hold beyond letters, digits and `-._~`; only
    /// `!$&'()*+,=:@` can be allowed.
    #[serde(default)]
    path_extra: String,
}

fn post_only() -> Vec<String> {
    vec!["POST".into()]
}

/// The routes when none are configured: everything below `/pay/` by POST.
pub(super) fn default_list() -> Vec<RouteFile> {
    let route = |name: &str, path: &str| RouteFile {
        name: Some(name.into()),
        path: Some(path.into()),
        methods: post_only(),
        path_extra: String::new(),
    };
    vec![
        route("create-payment", "/pay/gateway"),
        route("everything-else", "/pay/*"),
    ]
}

/// Parses the routes, and checks that each has a name of its own and can be reached.
pub(super) fn build(files: Vec<RouteFile>, report: &mut Report) -> Vec<RouteConfig> {
    // Numbered as in the file, since a route that is at fault is left out.
    let routes: Vec<(usize, RouteConfig)> = files
        .into_iter()
        .enumerate()
        .filter_map(|(index, file)| Some((index, file.build(index, report)?)))
        .collect();
    for (position, (index, route)) in routes.iter().enumerate() {
        check_against(routes.iter().take(position), *index, route, report);
    }
    routes.into_iter().map(|(_, route)| route).collect()
}

impl RouteFile {
    fn build(self, index: usize, report: &mut Report) -> Option<RouteConfig> {
        let key = |name: &str| format!("routes[{index}].{name}");
        let mut tell = |name: &str, expected: Expected| {
            report.fault(&key(name), expected.to_string());
        };
        let missing = Expected("a value, found none: the key is missing");

        let path_extra = parse_path_extra(self.path_extra)
            .map_err(|expected| tell("path_extra", expected))
            .ok();
        let name = self
            .name
            .ok_or(missing)
            .and_then(parse_name)
            .map_err(|expected| tell("name", expected));
        let path = self
            .path
            .ok_or(missing)
            .and_then(|path| RoutePath::parse(&path, path_extra.as_deref().unwrap_or_default()))
            .map_err(|expected| tell("path", expected));
        let methods = parse_methods(&self.methods, &key("methods"), report);
        Some(RouteConfig {
            name: name.ok()?,
            path: path.ok()?,
            methods: methods?,
            path_extra: path_extra?,
        })
    }
}

impl RoutePath {
    /// Parses a path as it is written; `extra` holds the characters that it may have beyond the
    /// unreserved ones.
    fn parse(text: &str, extra: &str) -> Result<Self, Expected> {
        let rest = text.strip_prefix("/pay/").ok_or(Expected(
            "a path that begins with /pay/, found another string",
        ))?;
        if rest == "*" {
            return Ok(Self::Prefix("/pay/".into()));
        }
        let (segments, is_prefix) = match rest.strip_suffix("/*") {
            Some(segments) => (segments, true),
            None => (rest, false),
        };
        let is_plain = |segment: &str| {
            !matches!(segment, "" | "." | "..")
                && segment
                    .chars()
                    .all(|c| u8::try_from(c).is_ok_and(is_unreserved) || extra.contains(c))
        };
        if !segments.split('/').all(is_plain) {
            return Err(Expected(
                "a path with plain segments: letters, digits, -._~ and what path_extra allows, \
                 none of them empty, \".\" or \"..\"; a * only as the last segment",
            ));
        }
        let first_segment = segments.split('/').next().unwrap_or_default();
        if first_segment.eq_ignore_ascii_case("sandbox") {
            return Err(Expected(
                "a path without /pay/sandbox: the environment is no part of a route, both serve \
                 the same paths",
            ));
        }
        Ok(if is_prefix {
            Self::Prefix(format!("/pay/{segments}/"))
        } else {
            Self::Literal(text.into())
        })
    }

    /// Whether every path that `other` matches is matched by this one, too.
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Literal(ours), Self::Literal(theirs)) => ours == theirs,
            (Self::Literal(_), Self::Prefix(_)) => false,
            (Self::Prefix(ours), Self::Literal(theirs) | Self::Prefix(theirs)) => {
                theirs.starts_with(ours.as_str())
            }
        }
    }

    /// Whether it would cover `other` if letter case did not count; then every request for
    /// `other` is refused as ambiguous.
    fn covers_in_other_case(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.text(), other.text());
        let compared = match (self, other) {
            (Self::Literal(_), Self::Literal(_)) => Some(theirs),
            (Self::Literal(_), Self::Prefix(_)) => None,
            (Self::Prefix(_), _) => theirs.get(..ours.len()),
        };
        compared.is_some_and(|theirs| theirs != ours && theirs.eq_ignore_ascii_case(ours))
    }

    fn text(&self) -> &str {
        match self {
            Self::Literal(text) | Self::Prefix(text) => text,
        }
    }
}

/// Compares a route with those before it.
fn check_against<'a>(
    earlier: impl Iterator<Item = &'a (usize, RouteConfig)> + Clone,
    index: usize,
    route: &RouteConfig,
    report: &mut Report,
) {
    for (first, other) in earlier.clone() {
        if other.name == route.name {
            let message = format!("is the same as routes[{first}].name");
            report.fault(&format!("routes[{index}].name"), message);
        }
        if let Some(message) = clash(*first, other, route) {
            report.fault(&format!("routes[{index}].path"), message);
        }
    }
    // An earlier route with a shorter `path_extra` hides, too: the first match decides, and refuses
    // what it does not allow.
    let is_hidden = |method: &Method| {
        earlier
            .clone()
            .any(|(_, other)| other.methods.contains(method) && other.path.covers(&route.path))
    };
    if route.methods.iter().all(is_hidden) {
        report.fault(
            &format!("routes[{index}].path"),
            "is never reached: earlier routes match all of its paths and methods, and the first \
             match decides, also about path_extra; order it before them",
        );
    }
}

/// What is wrong between the paths of two routes, if anything.
fn clash(first: usize, other: &RouteConfig, route: &RouteConfig) -> Option<String> {
    let (theirs, ours) = (&other.path, &route.path);
    if theirs.covers_in_other_case(ours) || ours.covers_in_other_case(theirs) {
        return Some(format!(
            "differs from routes[{first}].path, or from its beginning, in letter case only, which \
             is ambiguous"
        ));
    }
    let is_same_literal = matches!(ours, RoutePath::Literal(_)) && theirs == ours;
    let shares_method = |method| other.methods.contains(method);
    (is_same_literal && route.methods.iter().any(shares_method))
        .then(|| format!("is the same as routes[{first}].path, with a method in common"))
}

fn parse_name(text: String) -> Result<String, Expected> {
    let is_reserved = Expected("another name than none, which stands for requests without a route");
    name::parse(text, NO_ROUTE, is_reserved)
}

fn parse_path_extra(extra: String) -> Result<String, Expected> {
    let is_allowed = extra.chars().all(PathCharacters::permits_extra);
    is_allowed.then_some(extra).ok_or(Expected(
        "some of the characters !$&'()*+,=:@ and no others",
    ))
}

fn parse_methods(names: &[String], key: &str, report: &mut Report) -> Option<Vec<Method>> {
    if names.is_empty() {
        report.fault(key, "expected at least one method, found an empty list");
    }
    let mut methods = Vec::new();
    for (index, name) in names.iter().enumerate() {
        match parse_method(name) {
            Ok(method) if methods.contains(&method) => report.fault(
                &format!("{key}[{index}]"),
                "expected each method once, found it a second time",
            ),
            Ok(method) => methods.push(method),
            Err(expected) => report.fault(&format!("{key}[{index}]"), expected.to_string()),
        }
    }
    (!methods.is_empty() && methods.len() == names.len()).then_some(methods)
}

/// # Source
/// RFC 9110 section 9.1: methods are case-sensitive tokens; sections 9.3.6 and 9.3.8 tell why a
/// gateway that adds a credential forwards neither CONNECT nor TRACE.
fn parse_method(name: &str) -> Result<Method, Expected> {
    if name.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(Expected("a method in upper case, found lower-case letters"));
    }
    match Method::from_bytes(name.as_bytes()) {
        Ok(Method::TRACE | Method::CONNECT) => Err(Expected(
            "a method that may be forwarded, found TRACE or CONNECT",
        )),
        Ok(method) => Ok(method),
        Err(_) => Err(Expected("a method such as \"POST\", found another string")),
    }
}

#[cfg(test)]
mod tests;
