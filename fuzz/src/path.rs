//! From the target that a client wrote to the one that is sent.

use http::uri::PathAndQuery;
use http::{Method, Uri};
use moden_gateway::config::{RouteConfig, RoutePath};
use moden_gateway::domain::{CanonicalPath, Environment, PathCharacters};
use moden_gateway::proxy::path::{resolve, upstream_target};
use moden_gateway::routing::Routes;

/// What a route may allow beyond the unreserved characters.
const EXTRA: &str = "!$&'()*+,=:@";

/// The table that targets are looked up in: name, path (a prefix ends in a slash), method, extra.
const TABLE: [(&str, &str, Method, &str); 5] = [
    ("create-payment", "/pay/gateway", Method::POST, ""),
    ("balance", "/pay/inquire/wallet", Method::GET, ""),
    ("colons", "/pay/colons/", Method::POST, ":@"),
    ("deep", "/pay/a/b/c/", Method::PUT, EXTRA),
    ("everything-else", "/pay/", Method::POST, ""),
];

/// Whatever is accepted stays below the base path, is plain, is sent as it was matched, never names
/// the other environment, and takes the first route that is for it.
///
/// The input is a request's target, as in the request line.
pub fn path(data: &[u8]) {
    let Ok(target) = std::str::from_utf8(data) else {
        return;
    };
    for extra in ["", EXTRA] {
        let allowed = PathCharacters::unreserved().with_extra(extra);
        for (environment, base_path) in [
            (Environment::Sandbox, "/pay/sandbox"),
            (Environment::Production, "/pay"),
        ] {
            let Ok(path) = resolve(target, environment, &allowed) else {
                continue;
            };
            check_plain(&path, extra);
            check_unchanged(&path, target, environment);
            if let Ok(sent) = upstream_target(base_path, &path) {
                check_sent(&sent, &path, environment, base_path);
            }
        }
    }
    check_routes(target);
    // What hyper hands over is the target's path and query, cut out of it by `Uri`.
    if let Ok(uri) = Uri::try_from(data) {
        let text = uri.path_and_query().map_or("", PathAndQuery::as_str);
        assert!(!text.contains('#'), "a fragment was let through");
        if text.len() < target.len() {
            path(text.as_bytes());
        }
    }
}

/// No segment is empty or climbs, and no character has a second meaning.
fn check_plain(path: &CanonicalPath<'_>, extra: &str) {
    let below = path.as_str().strip_prefix("/pay/");
    let below = below.expect("a canonical path is below /pay/");
    for segment in below.split('/') {
        assert!(!matches!(segment, "" | "." | ".."), "{path:?}");
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
        assert!(
            segment.chars().all(|c| is_plain(c) || extra.contains(c)),
            "{path:?}"
        );
    }
    let query = path.query().unwrap_or_default();
    let ends_a_target = |byte: u8| byte <= b' ' || byte == 0x7f || byte == b'#';
    assert!(!query.bytes().any(ends_a_target), "{path:?}");
}

/// The path is what the client wrote, but for one prefix of the sandbox.
fn check_unchanged(path: &CanonicalPath<'_>, target: &str, environment: Environment) {
    let (written, query) = match target.find('?') {
        Some(at) => (&target[..at], Some(&target[at + 1..])),
        None => (target, None),
    };
    assert_eq!(path.query(), query);
    let is_short_for = |whole: &str| {
        environment == Environment::Sandbox
            && whole.strip_prefix("/pay/sandbox") == path.as_str().strip_prefix("/pay")
    };
    assert!(
        path.as_str() == written || is_short_for(written),
        "{path:?}"
    );
}

/// What is sent is the base path and what was matched, and lies in our environment in any letter
/// case.
fn check_sent(
    sent: &PathAndQuery,
    path: &CanonicalPath<'_>,
    environment: Environment,
    base_path: &str,
) {
    let query = path
        .query()
        .map_or(String::new(), |query| format!("?{query}"));
    let rest = &path.as_str()["/pay".len()..];
    assert_eq!(sent.as_str(), format!("{base_path}{rest}{query}"));
    let folded = sent.path().to_ascii_lowercase();
    let mut segments = folded.split('/').skip(2);
    match environment {
        Environment::Production => assert_ne!(segments.next(), Some("sandbox"), "{sent}"),
        Environment::Sandbox => {
            assert_eq!(segments.next(), Some("sandbox"), "{sent}");
            assert_ne!(segments.next(), Some("sandbox"), "{sent}");
        }
    }
    // The next reader of the target must see the same one.
    let read = Uri::try_from(sent.as_str()).expect("a target is a URI");
    assert_eq!(read.path(), sent.path());
    assert_eq!(read.query(), sent.query());
    assert!(read.authority().is_none(), "{sent} names a host");
}

/// The first route that is for path and method is found, and no other spelling of a literal's path
/// takes another route.
fn check_routes(target: &str) {
    let configs = TABLE.map(|(name, path, method, extra)| RouteConfig {
        name: name.to_owned(),
        path: match path.ends_with('/') {
            true => RoutePath::Prefix(path.to_owned()),
            false => RoutePath::Literal(path.to_owned()),
        },
        methods: vec![method],
        path_extra: extra.to_owned(),
    });
    let routes = Routes::build(&configs);
    let Ok(path) = resolve(target, Environment::Production, routes.allowed_characters()) else {
        return;
    };
    for method in [Method::GET, Method::POST, Method::PUT, Method::TRACE] {
        let found = routes.find(&method, &path);
        let found = found.ok().map(|route| route.name.as_str());
        assert_eq!(found, expected_route(&method, path.as_str()), "{path:?}");
    }
}

/// The look-up in a few lines: `None` where it must refuse.
fn expected_route(method: &Method, path: &str) -> Option<&'static str> {
    let starts = |path: &str, text: &str| path.get(..text.len()) == Some(text);
    let matches = |path: &str, text: &str| match text.ends_with('/') {
        true => starts(path, text),
        false => path == text,
    };
    let folded = path.to_ascii_lowercase();
    let is_other_case = |text: &str| matches(&folded, text) && !matches(path, text);
    if TABLE.iter().any(|(_, text, ..)| is_other_case(text)) {
        return None;
    }
    let (name, _, _, extra) = TABLE
        .iter()
        .find(|(_, text, allowed, _)| matches(path, text) && allowed == method)?;
    let is_allowed =
        |c: char| c.is_ascii_alphanumeric() || "-._~/".contains(c) || extra.contains(c);
    path.chars().all(is_allowed).then_some(*name)
}
