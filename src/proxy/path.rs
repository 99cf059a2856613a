//! From the target that a client wrote to the one path that everybody sees, and from there to the
//! target that is sent: the environment firewall.
//!
//! For: refusing every target that somebody further on could read as another path than the one we
//! matched. Both environments live on one host, told apart by a path prefix only, so such a
//! reading moves real money. Never does: decode, normalise or repair; what is not plain is refused,
//! and what is matched is sent. Called by: `proxy`. Start reading at [`resolve`].

use std::borrow::Cow;

use http::uri::{InvalidUri, PathAndQuery};

use crate::domain::{CanonicalPath, Environment, PathCharacters};

#[cfg(test)]
mod tests;

/// Why a request's target is not one of our paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It can be read in more than one way: 400 `path-ambiguous`.
    #[error("the path can be read in more than one way")]
    Ambiguous,
    /// It is not below `/pay/`: 404 `route-not-found`.
    #[error("the path is not below /pay/")]
    NotFound,
    /// It names the sandbox, and this process serves production: 403 `environment-mismatch`.
    #[error("the path names the sandbox, but this is production")]
    EnvironmentMismatch,
}

/// The upstream target is more than a URI can hold (65,534 bytes), or its query has a character
/// that no HTTP target may have.
///
/// What hyper let in can only be too long, and only by the length of the base path: answer 414.
#[derive(Debug, thiserror::Error)]
#[error("the upstream target is not a URI")]
pub struct TargetError(#[from] InvalidUri);

/// Reads the path and query of a request's target as the one canonical path `/pay/<rest>`.
///
/// In the sandbox `/pay/sandbox/<rest>` is `/pay/<rest>`, at the price of one allocation; nothing
/// else allocates. `allowed` holds the characters of all routes together, and the route that
/// is found judges its own.
///
/// A fragment (`/pay/a#b`) is refused here, but [`http::Uri`] cuts it off without a word: whoever
/// reads the raw request line must refuse it before.
///
/// # Errors
/// [`PathError`]; where several apply, faults of spelling win over the environment, so that the
/// answer to a crooked path is the same in both.
///
/// # Source
/// RFC 3986, 2.3 and 3.3; RFC 9110, 7.7.
pub fn resolve<'t>(
    target: &'t str,
    environment: Environment,
    allowed: &PathCharacters,
) -> Result<CanonicalPath<'t>, PathError> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    if query.is_some_and(|query| query.bytes().any(ends_a_target)) {
        return Err(PathError::Ambiguous);
    }
    let below = below_pay(path, allowed)?;
    if !is_plain(below, allowed) {
        return Err(PathError::Ambiguous);
    }
    let path = match environment {
        Environment::Production if names_sandbox(below) => {
            return Err(PathError::EnvironmentMismatch);
        }
        Environment::Production => Cow::Borrowed(path),
        Environment::Sandbox => without_sandbox(path, below)?,
    };
    Ok(CanonicalPath::new(path, query))
}

/// Puts the canonical path below the base URL's path: base path, rest, query, byte for byte.
///
/// `base_path` is the path of the environment's base URL, such as `/pay/sandbox`; a slash at
/// its end is not doubled. One allocation.
///
/// # Errors
/// [`TargetError`] if the result is no URI; nothing was sent then.
pub fn upstream_target(
    base_path: &str,
    path: &CanonicalPath<'_>,
) -> Result<PathAndQuery, TargetError> {
    let base_path = base_path.strip_suffix('/').unwrap_or(base_path);
    let query_size = path.query().map_or(0, |query| 1 + query.len());
    let mut target = String::with_capacity(base_path.len() + path.rest().len() + query_size);
    target.push_str(base_path);
    target.push_str(path.rest());
    if let Some(query) = path.query() {
        target.push('?');
        target.push_str(query);
    }
    Ok(PathAndQuery::try_from(target)?)
}

/// What follows `/pay/`.
///
/// A path elsewhere is plainly not ours only if nobody can read it as below `/pay/` after all; a
/// slash at its end does no harm there.
fn below_pay<'t>(path: &'t str, allowed: &PathCharacters) -> Result<&'t str, PathError> {
    if let Some(below) = path.strip_prefix("/pay/") {
        return Ok(below);
    }
    let elsewhere = path.strip_prefix('/').unwrap_or(path);
    let first = first_segment(elsewhere);
    let other_case = first != "pay" && first.eq_ignore_ascii_case("pay");
    let trimmed = elsewhere.strip_suffix('/').unwrap_or(elsewhere);
    if other_case || !(trimmed.is_empty() || is_plain(trimmed, allowed)) {
        return Err(PathError::Ambiguous);
    }
    Err(PathError::NotFound)
}

/// Whether the segments can be read in one way only: none empty, none a dot segment, and no
/// character that is not allowed.
fn is_plain(segments: &str, allowed: &PathCharacters) -> bool {
    allowed.spell(segments)
        && segments
            .split('/')
            .all(|segment| !matches!(segment, "" | "." | ".."))
}

/// The canonical path of a request to the sandbox: `/pay/sandbox/` is `/pay/`, once.
fn without_sandbox<'t>(path: &'t str, below: &'t str) -> Result<Cow<'t, str>, PathError> {
    let (path, below) = match below.strip_prefix("sandbox/") {
        Some(below) => (Cow::Owned(["/pay/", below].concat()), below),
        None => (Cow::Borrowed(path), below),
    };
    if names_sandbox(below) {
        return Err(PathError::Ambiguous);
    }
    Ok(path)
}

/// Whether the first segment is `sandbox` to an upstream that may not care for letter case.
fn names_sandbox(segments: &str) -> bool {
    first_segment(segments).eq_ignore_ascii_case("sandbox")
}

fn first_segment(segments: &str) -> &str {
    segments
        .split_once('/')
        .map_or(segments, |(first, _)| first)
}

/// Whether a request line, or a fragment, would begin or end at this byte of a query.
fn ends_a_target(byte: u8) -> bool {
    byte == b'#' || byte == b' ' || byte.is_ascii_control()
}
