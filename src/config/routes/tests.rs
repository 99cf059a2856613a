use super::*;

fn route(name: &str, path: &str, methods: &[&str], extra: &str) -> RouteFile {
    RouteFile {
        name: Some(name.into()),
        path: Some(path.into()),
        methods: methods.iter().map(|&method| method.into()).collect(),
        path_extra: extra.into(),
    }
}

/// Keys of the faults that these routes have.
fn faults(files: Vec<RouteFile>) -> Vec<String> {
    let mut report = Report::default();
    build(files, &mut report);
    report
        .finish()
        .1
        .0
        .into_iter()
        .map(|fault| fault.key)
        .collect()
}

#[test]
fn tells_literal_paths_from_prefixes() {
    let parse = |text| RoutePath::parse(text, "");
    assert_eq!(
        parse("/pay/gateway"),
        Ok(RoutePath::Literal("/pay/gateway".into()))
    );
    assert_eq!(parse("/pay/*"), Ok(RoutePath::Prefix("/pay/".into())));
    assert_eq!(
        parse("/pay/inquire/*"),
        Ok(RoutePath::Prefix("/pay/inquire/".into()))
    );
}

#[test]
fn refuses_paths_that_can_be_read_in_two_ways() {
    for text in [
        "",
        "/",
        "/pay",
        "/pay/",
        "/PAY/a",
        "pay/a",
        "/pay/a/",
        "/pay//a",
        "/pay/./a",
        "/pay/../a",
        "/pay/%61",
        "/pay/a;b",
        "/pay/a\\b",
        "/pay/a?b",
        "/pay/a b",
        "/pay/ä",
        "/pay/a*",
        "/pay/*/a",
        "/pay/**",
        "/pay//*",
        "/pay/a//*",
        "/pay/a:b",
        "/pay/*/*",
    ] {
        assert!(RoutePath::parse(text, "").is_err(), "{text}");
    }
    assert!(RoutePath::parse("/pay/a:b", ":").is_ok());
}

#[test]
fn keeps_the_environment_out_of_routes() {
    for text in [
        "/pay/sandbox",
        "/pay/sandbox/a",
        "/pay/SandBox/*",
        "/pay/sandbox/*",
    ] {
        let error = RoutePath::parse(text, "").expect_err(text).to_string();
        assert!(error.contains("environment"), "{error}");
    }
    assert!(RoutePath::parse("/pay/sandboxes", "").is_ok());
    assert!(RoutePath::parse("/pay/a/sandbox", "").is_ok());
}

#[test]
fn lets_only_harmless_characters_be_allowed() {
    assert!(parse_path_extra("!$&'()*+,=:@".into()).is_ok());
    for extra in ["%", ";", "/", "\\", "?", "#", " ", "a", "ä", ":%"] {
        assert!(parse_path_extra(extra.into()).is_err(), "{extra}");
    }
}

#[test]
fn accepts_the_default_routes() {
    assert_eq!(faults(default_list()), Vec::<String>::new());
}

#[test]
fn keeps_the_order_of_methods() {
    let mut report = Report::default();
    let routes = build(vec![route("a", "/pay/a", &["PUT", "GET"], "")], &mut report);
    let methods: Vec<_> = routes.iter().flat_map(|route| &route.methods).collect();
    assert_eq!(methods, [Method::PUT, Method::GET]);
}

#[test]
fn tells_every_faulty_key_of_a_route() {
    let files = vec![
        route("a", "/pay/a", &["POST"], ""),
        route(
            "B",
            "/a",
            &["TRACE", "post", "", "GET", "GET", "CONNECT"],
            "%",
        ),
        route("a", "/pay/b", &[], ""),
    ];
    assert_eq!(
        faults(files),
        [
            "routes[1].methods[0]",
            "routes[1].methods[1]",
            "routes[1].methods[2]",
            "routes[1].methods[4]",
            "routes[1].methods[5]",
            "routes[1].name",
            "routes[1].path",
            "routes[1].path_extra",
            "routes[2].methods",
        ]
    );
    let file = RouteFile {
        name: None,
        path: None,
        ..route("", "", &["GET"], "")
    };
    assert_eq!(faults(vec![file]), ["routes[0].name", "routes[0].path"]);
}

#[test]
fn refuses_routes_that_are_in_each_others_way() {
    let cases = [
        // the same path with a common method
        (
            route("a", "/pay/a", &["GET", "POST"], ""),
            route("b", "/pay/a", &["POST", "PUT"], ""),
        ),
        // nearly the same path
        (
            route("a", "/pay/a", &["GET"], ""),
            route("b", "/pay/A", &["POST"], ""),
        ),
        // hidden completely
        (
            route("a", "/pay/*", &["POST"], ""),
            route("b", "/pay/a", &["POST"], ""),
        ),
        (
            route("a", "/pay/*", &["POST"], ""),
            route("b", "/pay/a/*", &["POST"], ""),
        ),
        (
            route("a", "/pay/*", &["POST"], ":"),
            route("b", "/pay/*", &["POST"], ":"),
        ),
        // hidden although more characters are allowed: the first match refuses their paths
        (
            route("a", "/pay/*", &["POST"], ""),
            route("b", "/pay/*", &["POST"], ":"),
        ),
        (
            route("a", "/pay/*", &["POST"], ""),
            route("b", "/pay/a:b", &["POST"], ":"),
        ),
        // nearly the same beginning
        (
            route("a", "/pay/A/*", &["GET"], ""),
            route("b", "/pay/a/b", &["POST"], ""),
        ),
        (
            route("a", "/pay/a/b", &["GET"], ""),
            route("b", "/pay/A/*", &["POST"], ""),
        ),
        (
            route("a", "/pay/a/*", &["GET"], ""),
            route("b", "/pay/A/b/*", &["POST"], ""),
        ),
    ];
    for (first, second) in cases {
        assert_eq!(faults(vec![first, second]), ["routes[1].path"]);
    }
    let same_name = vec![
        route("a", "/pay/a", &["GET"], ""),
        route("a", "/pay/b", &["GET"], ""),
    ];
    assert_eq!(faults(same_name), ["routes[1].name"]);
    let reserved = route(NO_ROUTE, "/pay/a", &["POST"], "");
    assert_eq!(faults(vec![reserved]), ["routes[0].name"]);
}

#[test]
fn refuses_a_route_that_several_earlier_ones_hide_together() {
    let files = vec![
        route("a", "/pay/*", &["GET"], ""),
        route("b", "/pay/*", &["POST"], ""),
        route("c", "/pay/a", &["GET", "POST"], ""),
    ];
    assert_eq!(faults(files), ["routes[2].path"]);
}

#[test]
fn accepts_routes_that_share_only_a_part() {
    let cases = [
        (
            route("a", "/pay/a", &["GET"], ""),
            route("b", "/pay/a", &["POST"], ""),
        ),
        (
            route("a", "/pay/a", &["POST"], ""),
            route("b", "/pay/*", &["POST"], ""),
        ),
        (
            route("a", "/pay/a/*", &["POST"], ""),
            route("b", "/pay/a", &["POST"], ""),
        ),
        (
            route("a", "/pay/*", &["GET"], ""),
            route("b", "/pay/a", &["GET", "POST"], ""),
        ),
        (
            route("a", "/pay/*", &["POST"], ":"),
            route("b", "/pay/*", &["GET"], ""),
        ),
        (
            route("a", "/pay/a:b", &["POST"], ":"),
            route("b", "/pay/*", &["POST"], ""),
        ),
        (
            route("a", "/pay/A/*", &["POST"], ""),
            route("b", "/pay/a", &["POST"], ""),
        ),
    ];
    for (first, second) in cases {
        assert_eq!(faults(vec![first, second]), Vec::<String>::new());
    }
}
