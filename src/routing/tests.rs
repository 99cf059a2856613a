//! Which route is found, and which requests find none.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn route(name: &str, path: &str, methods: &[Method], path_extra: &str) -> RouteConfig {
    RouteConfig {
        name: name.to_owned(),
        path: match path.strip_suffix('*') {
            Some(prefix) => RoutePath::Prefix(prefix.to_owned()),
            None => RoutePath::Literal(path.to_owned()),
        },
        methods: methods.to_vec(),
        path_extra: path_extra.to_owned(),
    }
}

/// The two routes that apply without `[[routes]]`.
fn default_routes() -> [RouteConfig; 2] {
    [
        route("create-payment", "/pay/gateway", &[Method::POST], ""),
        route("everything-else", "/pay/*", &[Method::POST], ""),
    ]
}

/// What is found, in words: a route's name, or why there is none.
fn found(routes: &[RouteConfig], method: Method, path: &str) -> String {
    let routes = Routes::build(routes);
    match routes.find(&method, &CanonicalPath::new(path, None)) {
        Ok(route) => route.name.to_string(),
        Err(RouteError::NotFound) => "not found".to_owned(),
        Err(RouteError::Ambiguous) => "ambiguous".to_owned(),
        Err(RouteError::MethodNotAllowed { allow }) => {
            format!("only {}", allow.to_str().expect("names of methods"))
        }
    }
}

#[test]
fn takes_the_first_route_that_matches() {
    let routes = default_routes();
    assert_eq!(
        found(&routes, Method::POST, "/pay/gateway"),
        "create-payment"
    );
    assert_eq!(
        found(&routes, Method::POST, "/pay/inquire/wallet"),
        "everything-else"
    );
    assert_eq!(
        found(&routes, Method::POST, "/pay/gateway/x"),
        "everything-else"
    );
    let [literal, prefix] = default_routes();
    assert_eq!(
        found(&[prefix, literal], Method::POST, "/pay/gateway"),
        "everything-else"
    );
}

#[test]
fn takes_a_later_route_for_a_method_that_the_first_does_not_allow() {
    let routes = [
        route("pay", "/pay/gateway", &[Method::POST], ""),
        route("look", "/pay/*", &[Method::GET], ""),
    ];
    assert_eq!(found(&routes, Method::GET, "/pay/gateway"), "look");
}

#[test]
fn finds_nothing_where_no_route_is() {
    let routes = [route("pay", "/pay/gateway", &[Method::POST], "")];
    assert_eq!(found(&routes, Method::POST, "/pay/gateway2"), "not found");
    assert_eq!(found(&routes, Method::POST, "/pay/gatewa"), "not found");
    assert_eq!(found(&[], Method::POST, "/pay/gateway"), "not found");
}

#[test]
fn allows_the_methods_of_all_routes_for_the_path_and_of_no_other() {
    let routes = [
        route("look", "/pay/*", &[Method::GET, Method::HEAD], ""),
        route("pay", "/pay/gateway", &[Method::POST, Method::GET], ""),
        route("wallet", "/pay/inquire/*", &[Method::PUT], ""),
    ];
    assert_eq!(
        found(&routes, Method::DELETE, "/pay/gateway"),
        "only GET, HEAD, POST"
    );
    assert_eq!(
        found(&routes, Method::DELETE, "/pay/inquire/x"),
        "only GET, HEAD, PUT"
    );
    assert_eq!(
        found(&routes, Method::DELETE, "/pay/other"),
        "only GET, HEAD"
    );
    assert_eq!(found(&routes, Method::POST, "/pay/other"), "only GET, HEAD");
}

/// An upstream that echoes a TRACE would show the client the credential; RFC 9110, 9.3.8.
#[test]
fn never_lets_trace_or_connect_through() {
    let routes = [route(
        "all",
        "/pay/*",
        &[Method::TRACE, Method::CONNECT, Method::POST],
        "",
    )];
    assert_eq!(found(&routes, Method::TRACE, "/pay/a"), "only POST");
    assert_eq!(found(&routes, Method::CONNECT, "/pay/a"), "only POST");
    assert_eq!(
        found(&default_routes(), Method::TRACE, "/pay/a"),
        "only POST"
    );
}

#[test]
fn refuses_another_letter_case_of_a_routes_path_whatever_else_matches() {
    let [literal, prefix] = default_routes();
    for routes in [[literal.clone(), prefix.clone()], [prefix, literal]] {
        for path in ["/pay/Gateway", "/pay/GATEWAY", "/pay/gatewaY"] {
            assert_eq!(found(&routes, Method::POST, path), "ambiguous", "{path}");
            assert_eq!(found(&routes, Method::GET, path), "ambiguous", "{path}");
        }
        assert_eq!(
            found(&routes, Method::POST, "/pay/Gateway2"),
            "everything-else"
        );
    }
}

#[test]
fn refuses_another_letter_case_of_a_routes_prefix_but_not_of_what_follows() {
    let routes = [
        route("orders", "/pay/orders/*", &[Method::POST], ""),
        route("everything-else", "/pay/*", &[Method::POST], ""),
    ];
    assert_eq!(found(&routes, Method::POST, "/pay/Orders/x"), "ambiguous");
    assert_eq!(found(&routes, Method::POST, "/pay/orders/X"), "orders");
    assert_eq!(
        found(&routes, Method::POST, "/pay/orders"),
        "everything-else"
    );
}

#[test]
fn refuses_a_character_that_only_another_route_allows() {
    let routes = [
        route("accounts", "/pay/accounts/*", &[Method::POST], ":@%"),
        route("everything-else", "/pay/*", &[Method::POST], ""),
    ];
    assert_eq!(
        found(&routes, Method::POST, "/pay/accounts/a:b"),
        "accounts"
    );
    assert_eq!(found(&routes, Method::POST, "/pay/other/a:b"), "ambiguous");
    assert_eq!(
        found(&routes, Method::POST, "/pay/accounts/a%b"),
        "ambiguous"
    );
}

#[test]
fn tells_the_resolver_what_any_route_allows() {
    let routes = Routes::build(&[
        route("a", "/pay/a/*", &[Method::POST], ":"),
        route("b", "/pay/b/*", &[Method::POST], "@"),
    ]);
    assert!(routes.allowed_characters().spell("/pay/a:b@c"));
    assert!(!routes.allowed_characters().spell("/pay/a=b"));
}

fn configs() -> impl Strategy<Value = Vec<RouteConfig>> {
    let paths = vec![
        "/pay/*",
        "/pay/a",
        "/pay/a*",
        "/pay/a/*",
        "/pay/a/b",
        "/pay/a/b*",
        "/pay/A",
        "/pay/A/*",
        "/pay/b:c",
        "/pay/b*",
    ];
    let methods = vec![Method::GET, Method::POST, Method::PUT];
    let config = (
        prop::sample::select(paths),
        prop::sample::subsequence(methods, 0..=3),
        prop::sample::select(vec!["", ":"]),
    );
    prop::collection::vec(config, 0..6).prop_map(|configs| {
        let numbered = configs.into_iter().enumerate();
        numbered
            .map(|(number, (path, methods, extra))| {
                route(&number.to_string(), path, &methods, extra)
            })
            .collect()
    })
}

/// The rules of the look-up, written down once more.
fn expected(routes: &[RouteConfig], method: &Method, path: &str) -> String {
    let matches = |config: &&RouteConfig, path: &str, fold: fn(&str) -> String| match &config.path {
        RoutePath::Literal(text) => fold(path) == fold(text),
        RoutePath::Prefix(text) => fold(path).starts_with(&fold(text)),
    };
    let exactly = |config: &&RouteConfig| matches(config, path, str::to_owned);
    if routes
        .iter()
        .any(|r| !exactly(&r) && matches(&r, path, str::to_ascii_lowercase))
    {
        return "ambiguous".to_owned();
    }
    let matching: Vec<_> = routes.iter().filter(exactly).collect();
    match matching
        .iter()
        .find(|config| config.methods.contains(method))
    {
        Some(config) if path.contains(':') && !config.path_extra.contains(':') => {
            "ambiguous".into()
        }
        Some(config) => config.name.clone(),
        None if matching.is_empty() => "not found".to_owned(),
        None => {
            let methods = matching.iter().flat_map(|config| &config.methods);
            let names: BTreeSet<_> = methods.map(Method::as_str).collect();
            let names: Vec<_> = names.into_iter().collect();
            format!("only {}", names.join(", "))
        }
    }
}

proptest! {
    #[test]
    fn agrees_with_the_rules_written_down_once_more(
        routes in configs(),
        method in prop::sample::select(vec![Method::GET, Method::POST, Method::DELETE]),
        path in prop::sample::select(vec![
            "/pay/a", "/pay/A", "/pay/a/b", "/pay/a/B", "/pay/A/b", "/pay/a/b/c", "/pay/ab",
            "/pay/b", "/pay/b:c", "/pay/B:c", "/pay/a/x:y", "/pay/z",
        ]),
    ) {
        prop_assert_eq!(found(&routes, method.clone(), path), expected(&routes, &method, path));
    }
}
