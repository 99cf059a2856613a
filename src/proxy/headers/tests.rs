//! Which fields pass, which do not, and that nothing in a request can take ours away.

use proptest::prelude::*;

use super::*;

type Line = (&'static str, &'static str);

fn headers(lines: &[Line]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_static(value));
    }
    headers
}

fn cleaned(lines: &[Line]) -> HeaderMap {
    let remove = [
        HeaderName::from_static("cookie"),
        HeaderName::from_static("x-forwarded-for"),
    ];
    let mut headers = headers(lines);
    RequestCleaner::build(&remove).clean_request(&mut headers);
    headers
}

fn cleaned_answer(lines: &[Line]) -> HeaderMap {
    let mut headers = headers(lines);
    clean_answer(&mut headers);
    headers
}

/// Attacks: a removal ordered by `Connection`, a foreign `Host`, trailers; RFC 9110, 7.6.1.
#[test]
fn removes_what_is_not_the_clients_to_send_on() {
    let left = cleaned(&[
        ("connection", "close"),
        ("proxy-connection", "keep-alive"),
        ("keep-alive", "timeout=5"),
        ("te", "trailers"),
        ("trailer", "Authorization"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABkAAQAAP__"),
        ("proxy-authorization", "Basic eA=="),
        ("proxy-authenticate", "Basic"),
        ("authorization", "Basic eA=="),
        ("authorization", "Bearer x"),
        ("expect", "100-continue"),
        ("host", "evil.example"),
        ("content-length", "5"),
        ("cookie", "a=b"),
        ("x-forwarded-for", "10.0.0.1"),
    ]);
    assert!(left.is_empty(), "left over: {left:?}");
}

/// Attack: fields that others trust to name the path or the method; those that were matched count.
#[test]
fn removes_what_could_make_an_upstream_read_another_path_or_method() {
    let left = cleaned(&[
        ("x-original-url", "/pay/gateway"),
        ("x-rewrite-url", "/pay/gateway"),
        ("x-http-method", "DELETE"),
        ("x-http-method-override", "DELETE"),
        ("x-method-override", "DELETE"),
        ("x_original.url", "/pay/gateway"),
        ("x_http_method_override", "DELETE"),
    ]);
    assert!(left.is_empty(), "left over: {left:?}");
}

#[test]
fn passes_everything_else_with_its_lines_in_order() {
    let lines = [
        ("content-type", "application/json"),
        ("accept", "text/plain"),
        ("accept", "application/json"),
        ("idempotency-key", "\"a\""),
        ("x-request-id", "abc"),
        ("via", "1.1 sidecar"),
        ("early-data", "1"),
        ("x_unknown.field", "x"),
        ("accept", "*/*"),
    ];
    assert_eq!(cleaned(&lines), headers(&lines));
}

/// Attack: `Connection` names a field that it should not reach; RFC 9110, 7.6.1.
#[test]
fn removes_what_any_connection_line_names_in_any_letter_case() {
    let left = cleaned(&[
        ("connection", "close, Authorization"),
        ("x-a", "1"),
        ("X-B", "2"),
        ("x-c", "3"),
        ("x-d", "4"),
        ("connection", "Connection,X-A\t, x-b ,,"),
        ("connection", "\"x-d\", x d, x-C"),
        ("content-type", "application/json"),
        ("connection", "content-TYPE"),
    ]);
    assert_eq!(left, headers(&[("x-d", "4")]));
}

#[test]
fn reads_past_bytes_in_connection_that_are_no_name() {
    let mut headers = headers(&[("x-a", "1"), ("x-b", "2")]);
    let line = HeaderValue::from_bytes(b"\xff, x-a, \xc3\xa9;x-b").expect("obs-text is a value");
    headers.append(header::CONNECTION, line);
    RequestCleaner::build(&[]).clean_request(&mut headers);
    assert_eq!(headers, self::headers(&[("x-b", "2")]));
}

/// Attack: `Connection` names what the gateway adds. Clean first, inject last.
#[test]
fn leaves_nothing_behind_that_could_remove_what_is_injected() {
    let mut headers = cleaned(&[
        (
            "connection",
            "authorization, host, via, x-request-id, content-length",
        ),
        ("authorization", "Basic eA=="),
        ("via", "1.1 sidecar"),
    ]);
    headers.insert(
        header::AUTHORIZATION,
        HeaderValue::from_static("Basic ours"),
    );
    append_via(&mut headers, Version::HTTP_11);
    let expected = [
        ("authorization", "Basic ours"),
        ("via", "1.1 moden-gateway"),
    ];
    assert_eq!(headers, self::headers(&expected));
}

/// Attack: twins of guarded names, with `_` or `.` where others read `-`.
#[test]
fn removes_twins_of_guarded_names_only() {
    let left = cleaned(&[
        ("proxy_authorization", "x"),
        ("proxy.authorization", "x"),
        ("content_length", "0"),
        ("content_length", "1"),
        ("transfer.encoding", "chunked"),
        ("keep_alive", "x"),
        ("http2_settings", "x"),
        ("x_request_id", "x"),
        ("x.request-id", "x"),
        ("idempotency_key", "x"),
        ("x_forwarded.for", "x"),
        ("content_type", "x"),
        ("content_length_", "x"),
        ("content-lengths", "x"),
        ("x.y", "x"),
    ]);
    let expected = [
        ("content_type", "x"),
        ("content_length_", "x"),
        ("content-lengths", "x"),
        ("x.y", "x"),
    ];
    assert_eq!(left, headers(&expected));
}

#[test]
fn removes_from_an_answer_its_connection_and_what_speaks_in_our_name() {
    let left = cleaned_answer(&[
        ("connection", "keep-alive, X-Hop"),
        ("x-hop", "x"),
        ("proxy-connection", "x"),
        ("keep-alive", "x"),
        ("te", "x"),
        ("trailer", "x"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "x"),
        ("proxy-authenticate", "x"),
        ("proxy-authentication-info", "x"),
        ("set-cookie", "a=b"),
        ("set-cookie", "c=d"),
        ("alt-svc", "h3=\":443\""),
        ("gateway-outcome", "not-sent"),
        ("gateway-outcome", "answered"),
        ("gateway-order", "new"),
        ("gateway-", "x"),
        ("x-request-id", "x"),
        ("idempotent-replayed", "true"),
        ("ratelimit", "\"x\";r=1"),
        ("ratelimit-policy", "\"x\";q=1"),
    ]);
    assert!(left.is_empty(), "left over: {left:?}");
}

#[test]
fn passes_the_rest_of_an_answer_in_order() {
    let lines = [
        ("content-length", "2"),
        ("content-type", "application/json"),
        ("proxy-status", "edge; error=dns_error"),
        ("retry-after", "5"),
        ("date", "Tue, 23 Mar 2021 00:00:00 GMT"),
        ("x-gateway-outcome", "x"),
        ("link", "a"),
        ("link", "b"),
    ];
    assert_eq!(cleaned_answer(&lines), headers(&lines));
}

#[test]
fn adds_itself_to_via_after_the_others_with_the_version_received() {
    let mut headers = headers(&[("via", "1.0 a, 1.1 b"), ("via", "1.1 c")]);
    append_via(&mut headers, Version::HTTP_10);
    append_via(&mut headers, Version::HTTP_11);
    let lines: Vec<_> = headers.get_all(header::VIA).iter().collect();
    assert_eq!(
        lines,
        [
            "1.0 a, 1.1 b",
            "1.1 c",
            "1.0 moden-gateway",
            "1.1 moden-gateway"
        ]
    );
}

#[test]
fn knows_its_own_loop() {
    for via in [
        "1.1 moden-gateway",
        "1.0 a, 1.1\tmoden-gateway",
        "1.1 a,HTTP/1.1 Moden-Gateway (x)",
        "1.1 a (one, (two), \\), three), 1.1 moden-gateway(x)",
        ", ,1.1  moden-gateway ,",
    ] {
        assert!(
            is_own_loop(&headers(&[("via", "1.1 a"), ("via", via)])),
            "{via}"
        );
    }
}

#[test]
fn takes_nobody_else_for_itself() {
    for via in [
        "",
        "1.1 a",
        "1.1 moden-gateway2",
        "1.1 a.moden-gateway",
        "moden-gateway",
        "1.1 a (moden-gateway)",
        "1.1 a (x, 1.1 moden-gateway y)",
        "1.1 a (x (y), \\), 1.1 moden-gateway y)",
        "1.1 a moden-gateway",
    ] {
        assert!(!is_own_loop(&headers(&[("via", via)])), "{via}");
    }
    assert!(!is_own_loop(&HeaderMap::new()));
}

#[test]
fn keeps_the_clients_request_id_if_it_fits() {
    const LONGEST: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._~-\
                           0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    assert_eq!(LONGEST.len(), 128);
    for id in ["a", "._~-", LONGEST] {
        let headers = headers(&[("x-request-id", id)]);
        assert_eq!(request_id(&headers).expect("it fits"), id);
    }
}

#[test]
fn takes_no_request_id_that_is_doubled_empty_too_long_or_odd() {
    let long: &str = Box::leak("a".repeat(129).into_boxed_str());
    for id in ["", "a b", "a,b", "a/b", "a\tb", "é", "a\"", long] {
        let mut headers = HeaderMap::new();
        let value = HeaderValue::from_bytes(id.as_bytes()).expect("a field value");
        headers.insert(&X_REQUEST_ID, value);
        assert_eq!(request_id(&headers), None, "{id}");
    }
    assert_eq!(
        request_id(&headers(&[("x-request-id", "a"), ("x-request-id", "a")])),
        None
    );
    assert_eq!(request_id(&HeaderMap::new()), None);
}

const GUARDED: [&str; 22] = [
    "connection",
    "proxy-connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "proxy-authorization",
    "proxy-authenticate",
    "authorization",
    "expect",
    "host",
    "content-length",
    "x-original-url",
    "x-rewrite-url",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "cookie",
    "x-forwarded-for",
    "x_operator",
];

/// A field's name in lower case, and a line's value.
type Field = (String, Vec<u8>);

fn odd_case(name: String, upper: u64) -> String {
    let letters = name.chars().enumerate();
    letters
        .map(|(at, letter)| match upper >> (at % 64) & 1 {
            1 => letter.to_ascii_uppercase(),
            _ => letter,
        })
        .collect()
}

fn names() -> impl Strategy<Value = String> {
    let guarded = prop::sample::select(GUARDED.to_vec()).prop_map(str::to_owned);
    let separators = prop::sample::select(vec!["_", ".", "-"]);
    let twin = (prop::sample::select(GUARDED.to_vec()), separators)
        .prop_map(|(name, separator)| name.replacen('-', separator, 1));
    let other = prop::sample::select(vec![
        "accept",
        "content-type",
        "content_type",
        "via",
        "x-request-id",
        "x_request.id",
        "idempotency-key",
        "idempotency_key",
        "x-a",
        "x_a",
        "x-b",
        "a",
        "x-operator",
        "x.operator",
        "gateway-outcome",
        "hosts",
        "-",
        "_",
    ]);
    let name = prop_oneof![1 => guarded, 1 => twin, 3 => other.prop_map(str::to_owned), 1 => "[a-z_.-]{1,4}"];
    (name, any::<u64>()).prop_map(|(name, upper)| odd_case(name, upper))
}

/// Values of `Connection`: names in any case, between things that are no names.
fn connection_values() -> impl Strategy<Value = Vec<u8>> {
    let noise = prop::sample::select(vec![
        "close",
        "keep-alive",
        "",
        " ",
        "\"x-a\"",
        "x a",
        "x-a;q=1",
        "\u{e9}",
        "(x-a)",
        "*",
    ]);
    let option = prop_oneof![3 => names(), 1 => noise.prop_map(str::to_owned)];
    let joint = prop::sample::select(vec![",", ", ", " ,\t", ",,"]);
    prop::collection::vec((option, joint), 1..5).prop_map(|options| {
        options
            .into_iter()
            .flat_map(|(option, joint)| (option + joint).into_bytes())
            .collect()
    })
}

fn fields() -> impl Strategy<Value = Vec<Field>> {
    let values = "[ -~]{0,8}".prop_map(|value| value.trim().as_bytes().to_vec());
    let field = prop_oneof![
        4 => (names(), values),
        1 => (Just("Connection".to_owned()), connection_values()),
    ];
    prop::collection::vec(field, 0..16)
}

fn map_of(fields: &[Field]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("only names are generated");
        headers.append(
            name,
            HeaderValue::from_bytes(value).expect("only values are generated"),
        );
    }
    headers
}

/// Whether a field of a request may pass, in ten lines.
fn passes(name: &str, fields: &[Field]) -> bool {
    let name = name.to_ascii_lowercase();
    let hyphenated = name.replace(['_', '.'], "-");
    let is_twin = hyphenated != name
        && GUARDED
            .iter()
            .chain(&["x-request-id", "idempotency-key"])
            .any(|n| *n == hyphenated);
    !GUARDED.contains(&name.as_str()) && !is_twin && !is_named(&name, fields)
}

fn is_named(name: &str, fields: &[Field]) -> bool {
    fields
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("connection"))
        .flat_map(|(_, value)| value.split(|byte| *byte == b','))
        .any(|option| option.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
}

/// Whether a field of an answer may pass.
fn returns(name: &str, fields: &[Field]) -> bool {
    let name = name.to_ascii_lowercase();
    let ends_here = [
        "connection",
        "proxy-connection",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "proxy-authenticate",
        "x-request-id",
    ];
    !ends_here.contains(&name.as_str()) && !name.starts_with("gateway-") && !is_named(&name, fields)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn passes_just_what_the_model_passes_unchanged_and_in_order(fields in fields()) {
        let remove = ["cookie", "x-forwarded-for", "x_operator"].map(HeaderName::from_static);
        let cleaner = RequestCleaner::build(&remove);
        let mut headers = map_of(&fields);
        cleaner.clean_request(&mut headers);
        let passing: Vec<_> =
            fields.iter().filter(|(name, _)| passes(name, &fields)).cloned().collect();
        prop_assert_eq!(&headers, &map_of(&passing));

        let ours = HeaderValue::from_static("Basic ours");
        headers.append(header::AUTHORIZATION, ours.clone());
        prop_assert_eq!(headers.get_all(header::AUTHORIZATION).iter().collect::<Vec<_>>(), [&ours]);
        let settled = headers.clone();
        headers.remove(header::AUTHORIZATION);
        cleaner.clean_request(&mut headers);
        headers.append(header::AUTHORIZATION, ours);
        prop_assert_eq!(headers, settled, "a second cleaning finds nothing more");
    }

    #[test]
    fn returns_just_what_the_model_returns_unchanged_and_in_order(fields in fields()) {
        let mut headers = map_of(&fields);
        clean_answer(&mut headers);
        let returned: Vec<_> =
            fields.iter().filter(|(name, _)| returns(name, &fields)).cloned().collect();
        prop_assert_eq!(headers, map_of(&returned));
    }

    #[test]
    fn any_via_line_can_be_read(line in prop::collection::vec(32_u8..=126, 0..40)) {
        let mut headers = HeaderMap::new();
        headers.insert(header::VIA, HeaderValue::from_bytes(&line).expect("printable"));
        let _ = is_own_loop(&headers);
        append_via(&mut headers, Version::HTTP_11);
        prop_assert!(is_own_loop(&headers), "our own line stands for itself");
    }
}
