//! What the resolver accepts and refuses, and proof that nobody can read what it accepts otherwise.

use http::Uri;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;

mod readings;

const BOTH: [Environment; 2] = [Environment::Sandbox, Environment::Production];

fn resolved(target: &str, environment: Environment) -> Result<String, PathError> {
    resolve(target, environment, &PathCharacters::unreserved()).map(|path| path.as_str().to_owned())
}

fn assert_refused_in_both(expected: PathError, targets: &[&str]) {
    for target in targets {
        for environment in BOTH {
            assert_eq!(
                resolved(target, environment),
                Err(expected),
                "{target:?} in {environment}"
            );
        }
    }
}

#[test]
fn takes_a_plain_path_as_it_is_in_both_environments() {
    for target in [
        "/pay/gateway",
        "/pay/inquire/wallet",
        "/pay/a-Z.0_~/x",
        "/pay/...",
        "/pay/.x/x./..x/x..",
        "/pay/x/sandbox",
        "/pay/sandbox2/x",
        "/pay/sandbox./x",
        "/pay/pay/gateway",
    ] {
        for environment in BOTH {
            assert_eq!(resolved(target, environment).as_deref(), Ok(target));
        }
    }
}

#[test]
fn borrows_the_plain_path_from_the_target() {
    let target = "/pay/gateway?a=b";
    let allowed = PathCharacters::unreserved();
    let path = resolve(target, Environment::Production, &allowed).expect("a plain path");
    assert_eq!(path.as_str().as_ptr(), target.as_ptr());
}

#[test]
fn strips_the_sandbox_prefix_once_in_the_sandbox() {
    assert_eq!(
        resolved("/pay/sandbox/inquire/wallet", Environment::Sandbox).as_deref(),
        Ok("/pay/inquire/wallet")
    );
    for target in [
        "/pay/sandbox",
        "/pay/sandbox/sandbox/x",
        "/pay/sandbox/sandbox",
        "/pay/Sandbox/x",
        "/pay/SANDBOX",
        "/pay/sandbox/SandBox/x",
        "/pay/sandboX/sandbox/x",
    ] {
        assert_eq!(
            resolved(target, Environment::Sandbox),
            Err(PathError::Ambiguous),
            "{target}"
        );
    }
}

#[test]
fn refuses_the_sandbox_in_production_in_any_letter_case() {
    for target in [
        "/pay/sandbox/gateway",
        "/pay/sandbox",
        "/pay/sandbox/sandbox/x",
        "/pay/Sandbox/x",
        "/pay/SANDBOX",
        "/pay/sandbox/x?y=z",
    ] {
        assert_eq!(
            resolved(target, Environment::Production),
            Err(PathError::EnvironmentMismatch),
            "{target}"
        );
    }
}

/// Attack: crossing over to the other environment.
#[test]
fn answers_a_crooked_crossing_alike_in_both_environments() {
    assert_refused_in_both(
        PathError::Ambiguous,
        &[
            "/pay/sandbox/../gateway",
            "/pay/s%61ndbox/x",
            "/pay//sandbox/x",
            "/pay/./sandbox/x",
            "/pay/x/../sandbox/y",
            "/pay/sandbox;a=b/x",
            "/pay/sandbox\\x",
            "/pay/sandbox\0/x",
            "/pay/sandbox%00/x",
            "/pay/sandbox/",
            "/pay/sandbox//x",
            "/pay/ſandbox/x",
        ],
    );
}

/// Attack: a path that the next server normalises into another.
#[test]
fn refuses_whatever_another_server_could_read_otherwise() {
    assert_refused_in_both(
        PathError::Ambiguous,
        &[
            "/pay/..%2fx",
            "/pay/..;/x",
            "/pay/..\\x",
            "/pay/%252e%252e/x",
            "/pay/%c0%ae%c0%ae/x",
            "/pay/a#b",
            "//pay/a",
            "/pay/a%0d%0aX:1",
            "/pay/a\r\nX:1",
            "/pay/%2e%2e/x",
            "/pay/..",
            "/pay/.",
            "/pay/../x",
            "/pay/x/.",
            "/pay/x/..",
            "/pay/x//y",
            "/pay/x/",
            "/pay//",
            "/pay/",
            "/pay/a b",
            "/pay/a\tb",
            "/pay/a\u{7f}",
            "/pay/é",
            "/pay/．．/x",
            "/pay/a:b",
            "/pay/a%20b",
            "/pay/a%",
        ],
    );
}

#[test]
fn refuses_what_might_be_read_as_below_pay() {
    assert_refused_in_both(
        PathError::Ambiguous,
        &[
            "/PAY/gateway",
            "/Pay/sandbox/x",
            "/pAy",
            "/%70ay/x",
            "/./pay/x",
            "/x/../pay/gateway",
            "///pay/x",
            "/\\pay/x",
            "/pay;a/gateway",
            "/pay%2fgateway",
            "/pay#/x",
            "http://evil.example/pay/a",
            "*",
        ],
    );
}

#[test]
fn does_not_find_what_is_plainly_elsewhere() {
    assert_refused_in_both(
        PathError::NotFound,
        &[
            "",
            "/",
            "/pay",
            "/pay?x",
            "/payments/x",
            "/metrics",
            "/favicon.ico",
            "/x/",
            "pay/x",
            "?a",
        ],
    );
}

#[test]
fn leaves_the_query_untouched() {
    let allowed = PathCharacters::unreserved();
    for query in ["", "a=b", "../%2e%2e//;\\?", "next=/pay/sandbox/x", "é"] {
        let target = format!("/pay/gateway?{query}");
        let path = resolve(&target, Environment::Production, &allowed).expect("any query will do");
        assert_eq!(path.as_str(), "/pay/gateway");
        assert_eq!(path.query(), Some(query));
    }
    let path = resolve("/pay/gateway", Environment::Production, &allowed).expect("a plain path");
    assert_eq!(path.query(), None);
}

#[test]
fn refuses_a_query_that_would_end_the_target() {
    assert_refused_in_both(
        PathError::Ambiguous,
        &[
            "/pay/x?a#b",
            "/pay/x?a\0b",
            "/pay/x?a\r\nb",
            "/pay/x?a b",
            "/pay/x?#",
            "/pay/x?\u{7f}",
        ],
    );
}

#[test]
fn allows_what_a_route_allows_and_nothing_that_it_may_not() {
    let allowed = PathCharacters::unreserved().with_extra(":@%;\\/#? ");
    let resolved = |target| resolve(target, Environment::Production, &allowed).map(|_| ());
    assert_eq!(resolved("/pay/a:b@c"), Ok(()));
    for target in [
        "/pay/%2e",
        "/pay/a;b",
        "/pay/a\\b",
        "/pay/a//b",
        "/pay/a#b",
        "/pay/a b",
    ] {
        assert_eq!(resolved(target), Err(PathError::Ambiguous), "{target}");
    }
}

/// Attack: request forgery by a foreign host in an absolute-form target; only its path counts.
#[test]
fn maps_absolute_form_by_its_path_alone() {
    let uri = Uri::from_static("http://evil.example/pay/a?b=c");
    let target = uri.path_and_query().expect("it has a path").as_str();
    let allowed = PathCharacters::unreserved();
    let path = resolve(target, Environment::Production, &allowed).expect("a plain path");
    let sent = upstream_target("/pay", &path).expect("a URI");
    assert_eq!(sent.as_str(), "/pay/a?b=c");
}

#[test]
fn puts_the_path_below_the_base_url() {
    let path = CanonicalPath::new("/pay/inquire/wallet", Some("a=%2f&b=?"));
    for (base_path, expected) in [
        ("/pay", "/pay/inquire/wallet?a=%2f&b=?"),
        ("/pay/", "/pay/inquire/wallet?a=%2f&b=?"),
        ("/pay/sandbox", "/pay/sandbox/inquire/wallet?a=%2f&b=?"),
        ("/", "/inquire/wallet?a=%2f&b=?"),
        ("", "/inquire/wallet?a=%2f&b=?"),
    ] {
        assert_eq!(
            upstream_target(base_path, &path).expect("a URI").as_str(),
            expected
        );
    }
}

#[test]
fn keeps_an_empty_query_and_invents_none() {
    let sent = |query| upstream_target("/pay", &CanonicalPath::new("/pay/x", query));
    assert_eq!(sent(Some("")).expect("a URI").as_str(), "/pay/x?");
    assert_eq!(sent(None).expect("a URI").as_str(), "/pay/x");
}

#[test]
fn says_so_when_the_upstream_target_is_longer_than_a_uri_may_be() {
    let longest = format!("/pay/{}", "x".repeat(65_534 - "/pay/".len()));
    let path = CanonicalPath::new(&*longest, None);
    assert!(upstream_target("/pay", &path).is_ok());
    assert!(upstream_target("/pay/sandbox", &path).is_err());
}

/// What a resolver makes of a target: the path that routes are matched against, and the one sent.
type Mapped = Option<(String, String)>;

fn base_path(environment: Environment) -> &'static str {
    match environment {
        Environment::Sandbox => "/pay/sandbox",
        Environment::Production => "/pay",
    }
}

/// Cuts the sandbox's prefix out, if there is one.
fn without_prefix(path: &str) -> String {
    path.strip_prefix("/pay/sandbox/")
        .map_or(path.to_owned(), |rest| format!("/pay/{rest}"))
}

/// The real resolver, with all characters allowed that any route may allow.
fn mapped(target: &str, environment: Environment) -> Mapped {
    let allowed = PathCharacters::unreserved().with_extra("!$&'()*+,=:@");
    let path = resolve(target, environment, &allowed).ok()?;
    let sent = upstream_target(base_path(environment), &path).ok()?;
    Some((path.as_str().to_owned(), sent.path().to_owned()))
}

/// How a reading of the sent path betrays what was matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Betrayal {
    /// It is in the other environment, or twice in its own.
    Crosses,
    /// It is not below the base URL.
    Leaves,
    /// It is another path than the one matched.
    Differs,
}

/// Reads what a resolver sends in every single way, every pair of ways, and the given chain.
fn betrayals(mapped: &Mapped, environment: Environment, chain: &[usize]) -> Vec<Betrayal> {
    let Some((matched, sent)) = mapped else {
        return Vec::new();
    };
    let ways = 0..readings::ALL.len();
    let pairs = ways
        .clone()
        .flat_map(|first| ways.clone().map(move |second| [first, second]));
    let mut found: Vec<_> = pairs
        .filter_map(|pair| betrayal(matched, sent, environment, &pair))
        .chain(betrayal(matched, sent, environment, chain))
        .chain(betrayal(matched, sent, environment, &readings::THOROUGH))
        .collect();
    found.sort();
    found.dedup();
    found
}

fn betrayal(
    matched: &str,
    sent: &str,
    environment: Environment,
    chain: &[usize],
) -> Option<Betrayal> {
    let base = base_path(environment);
    let rest = matched.strip_prefix("/pay").unwrap_or(matched);
    let mut read = sent.as_bytes().to_vec();
    let mut expected = format!("{base}{rest}").into_bytes();
    for way in chain {
        read = readings::ALL[*way](&read);
        if *way == readings::LETTER_CASE {
            expected.make_ascii_lowercase();
        }
    }
    let folded = read.to_ascii_lowercase();
    let below = |folder: &str| {
        folded
            .strip_prefix(folder.as_bytes())
            .is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
    };
    let crosses = match environment {
        Environment::Production => below("/pay/sandbox"),
        Environment::Sandbox => !below("/pay/sandbox") || below("/pay/sandbox/sandbox"),
    };
    if crosses {
        Some(Betrayal::Crosses)
    } else if !below(base) {
        Some(Betrayal::Leaves)
    } else {
        (read != expected).then_some(Betrayal::Differs)
    }
}

/// Targets made of what attackers write, between enough ordinary pieces that many are accepted.
fn targets() -> impl Strategy<Value = String> {
    let head = prop_oneof![
        8 => Just("/pay/"),
        2 => Just("/pay/sandbox/"),
        1 => prop::sample::select(vec![
            "", "/", "/pay", "/PAY/", "//pay/", "/./pay/", "/x/../pay/", "/%70ay/", "\\pay\\",
            "http://evil.example/pay/", "/pay;a=b/", "/pay/SandBox/", "/pay/sandbox",
        ]),
    ];
    let ordinary = prop::sample::select(vec![
        "gateway", "inquire", "wallet", "Gateway", "x", "...", "a.b", "~a_b-C", "a:b@c", "pay",
        "sandbox",
    ]);
    let hostile = prop::sample::select(vec![
        ".",
        "..",
        "..;",
        "..;a=b",
        ";",
        ";a=b",
        "%2e",
        "%2e%2e",
        "%2E%2E",
        ".%2e",
        "%252e%252e",
        "%25252e%25252e",
        "%2f",
        "%252f",
        "%5c",
        "%5C..",
        "\\",
        "..\\",
        "..\\..\\gateway",
        "%c0%ae%c0%ae",
        "%c0%af",
        "%e0%80%ae",
        "%c1%9c",
        "．．",
        "／",
        "＼",
        "%00",
        "\0",
        "#",
        "%23",
        "?",
        "%3f",
        "%3b",
        "%",
        "%2",
        "%zz",
        " ",
        "\t",
        "\r\n",
        "%0d%0a",
        "%09",
        "é",
        "ſ",
        "SandBox",
        "SANDBOX",
        "s%61ndbox",
        "%73andbox",
        "sandbox\0",
        "sandbox%00",
        "sandbox;a",
        "sandbox#",
        "san\tdbox",
        "%53andbox",
        "http://evil.example",
        "@",
        ":",
        "",
    ]);
    let anything = any::<char>().prop_map(String::from);
    let piece = prop_oneof![
        6 => ordinary.prop_map(str::to_owned),
        3 => hostile.prop_map(str::to_owned),
        1 => anything,
    ];
    let joint = prop_oneof![
        8 => Just("/"),
        1 => Just(""),
        1 => prop::sample::select(vec!["//", "\\", "%2f", "/./", "/../", ";/", "%5c", "／"]),
    ];
    let tail = prop_oneof![
        6 => Just(""),
        2 => prop::sample::select(vec!["/", "?", "?a=b", "?/../x", "#", "?#", "?\n", ";", "\0", "/."]),
    ];
    (head, prop::collection::vec((piece, joint), 1..5), tail).prop_map(|(head, pieces, tail)| {
        let mut target = head.to_owned();
        for (number, (piece, joint)) in pieces.iter().enumerate() {
            target.push_str(if number == 0 { "" } else { joint });
            target.push_str(piece);
        }
        target + tail
    })
}

fn environments() -> impl Strategy<Value = Environment> {
    prop::sample::select(BOTH.to_vec())
}

fn chains() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0..readings::ALL.len(), 0..9)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn nobody_can_read_an_accepted_path_otherwise(
        target in targets(),
        environment in environments(),
        chain in chains(),
    ) {
        let mapped = mapped(&target, environment);
        prop_assert_eq!(betrayals(&mapped, environment, &chain), []);
    }

    #[test]
    fn what_is_sent_is_what_came_byte_for_byte(
        target in targets(),
        environment in environments(),
    ) {
        let allowed = PathCharacters::unreserved();
        if let Ok(path) = resolve(&target, environment, &allowed) {
            let (received, query) = match target.split_once('?') {
                Some((path, query)) => (path, Some(query)),
                None => (target.as_str(), None),
            };
            let stripped = without_prefix(received);
            prop_assert_eq!(path.as_str(), &stripped);
            prop_assert_eq!(path.query(), query);
            let Ok(sent) = upstream_target("/base", &path) else {
                // hyper lets none of these in.
                prop_assert!(query.is_some_and(|query| query.contains(['"', '<', '>'])));
                return Ok(());
            };
            prop_assert_eq!(sent.path(), stripped.replacen("/pay/", "/base/", 1));
            prop_assert_eq!(sent.query(), query);
            let read_back: PathAndQuery = sent.as_str().parse().expect("it was one");
            prop_assert_eq!(read_back, sent);
        }
    }

    #[test]
    fn no_text_at_all_makes_it_panic(target in any::<String>(), environment in environments()) {
        let _ = mapped(&target, environment);
        let _ = mapped(&format!("/pay/{target}"), environment);
    }
}

/// A rule of the resolver: the targets that it is there to refuse, and the worst that follows
/// where it is missing.
type Rule = (&'static str, fn(&str, Environment) -> bool, Betrayal);

/// The rules one by one, each written down without regard to the resolver.
const RULES: [Rule; 12] = [
    (
        "percent sign",
        |path, _| path.contains('%'),
        Betrayal::Crosses,
    ),
    (
        "backslash",
        |path, _| path.contains('\\'),
        Betrayal::Crosses,
    ),
    ("semicolon", |path, _| path.contains(';'), Betrayal::Crosses),
    ("fragment", |path, _| path.contains('#'), Betrayal::Crosses),
    (
        "control",
        |path, _| path.contains(|c: char| c.is_ascii_control()),
        Betrayal::Crosses,
    ),
    (
        "beyond ASCII",
        |path, _| !path.is_ascii(),
        Betrayal::Crosses,
    ),
    (
        "empty segment",
        |path, _| path.contains("//"),
        Betrayal::Crosses,
    ),
    (
        "trailing slash",
        |path, _| path.ends_with('/'),
        Betrayal::Differs,
    ),
    (
        "dot segment",
        |path, _| path.split('/').any(|s| s == "." || s == ".."),
        Betrayal::Crosses,
    ),
    (
        "sandbox in production",
        |path, environment| environment == Environment::Production && first(path) == "sandbox",
        Betrayal::Crosses,
    ),
    (
        "other letter case of sandbox",
        |path, _| first(path) != "sandbox" && first(path).eq_ignore_ascii_case("sandbox"),
        Betrayal::Crosses,
    ),
    (
        "sandbox twice",
        |path, environment| {
            environment == Environment::Sandbox && path.starts_with("/pay/sandbox/sandbox")
        },
        Betrayal::Crosses,
    ),
];

fn first(path: &str) -> &str {
    path.split('/').nth(2).unwrap_or_default()
}

/// A resolver that keeps all rules but one.
fn mapped_without(missing: Option<&str>, target: &str, environment: Environment) -> Mapped {
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let refused = RULES
        .iter()
        .filter(|(name, _, _)| Some(*name) != missing)
        .any(|(_, refuses, _)| refuses(path, environment));
    if refused || !path.starts_with("/pay/") || path == "/pay/sandbox" {
        return None;
    }
    let matched = match environment {
        Environment::Sandbox => without_prefix(path),
        Environment::Production => path.to_owned(),
    };
    let sent = matched.replacen("/pay", base_path(environment), 1);
    Some((matched, sent))
}

/// How many targets [`worst`] tries; the worst that a missing rule allows shows before.
const SAMPLES: usize = 4000;

/// Runs a resolver over many generated targets; gives the worst betrayal, and how many targets it
/// accepted until then.
fn worst(resolver: impl Fn(&str, Environment) -> Mapped) -> (Option<Betrayal>, usize) {
    let mut runner = TestRunner::deterministic();
    let inputs = (targets(), environments(), chains());
    let mut worst = None;
    let mut accepted = 0;
    for _ in 0..SAMPLES {
        let (target, environment, chain) = inputs
            .new_tree(&mut runner)
            .expect("nothing is filtered")
            .current();
        let mapped = resolver(&target, environment);
        accepted += usize::from(mapped.is_some());
        let found = betrayals(&mapped, environment, &chain);
        worst = worst.into_iter().chain(found).min();
        if worst == Some(Betrayal::Crosses) {
            break;
        }
    }
    (worst, accepted)
}

#[test]
fn the_property_finds_every_rule_that_is_missing() {
    for (rule, _, expected) in RULES {
        let (found, _) =
            worst(|target, environment| mapped_without(Some(rule), target, environment));
        assert_eq!(found, Some(expected), "without the rule on: {rule}");
    }
}

#[test]
fn the_property_finds_nothing_when_all_rules_are_kept_and_many_targets_accepted() {
    let (found, accepted) = worst(|target, environment| mapped_without(None, target, environment));
    assert_eq!(found, None);
    assert!(
        accepted > SAMPLES / 10,
        "the rules accept only {accepted} of 4000"
    );
    let (found, accepted) = worst(mapped);
    assert_eq!(found, None);
    assert!(
        accepted > SAMPLES / 10,
        "the resolver accepts only {accepted} of {SAMPLES}"
    );
}
