use std::fs;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::secret::Source;

mod layers;

mod every_key;

/// A text that stands where values stand, and must show up in no message.
const MARKER: &str = "s3cr3t-marker";

/// The credential that a sandbox needs.
const CREDENTIAL: &str = "
[environments.sandbox]
app_id = { env = \"APP_ID\" }
secret = { env = \"SECRET\" }
";

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    for (name, content) in files {
        fs::write(folder.path().join(name), content).expect("a file can be written");
    }
    folder
}

fn variables(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    variables
        .iter()
        .map(|&(name, value)| (name.into(), value.into()))
        .collect()
}

/// Loads one file for the sandbox.
fn load_text(text: &str) -> Result<Loaded, ConfigFaults> {
    let folder = folder(&[("gateway.toml", text)]);
    load(&LoadOptions {
        paths: vec![folder.path().join("gateway.toml")],
        environment: Some("sandbox".into()),
        ..LoadOptions::default()
    })
}

/// Loads one file that has a credential besides.
fn load_with_credential(text: &str) -> Result<Loaded, ConfigFaults> {
    load_text(&format!("{text}\n{CREDENTIAL}"))
}

/// Loads variables over the credential of a sandbox.
fn load_variables(given: &[(&str, &str)]) -> Result<Loaded, ConfigFaults> {
    let mut all = vec![
        ("MODEN_GATEWAY__ENVIRONMENT", "sandbox"),
        (
            "MODEN_GATEWAY__ENVIRONMENTS__SANDBOX__APP_ID__ENV",
            "APP_ID",
        ),
        (
            "MODEN_GATEWAY__ENVIRONMENTS__SANDBOX__SECRET__ENV",
            "SECRET",
        ),
    ];
    all.extend(given);
    load(&LoadOptions {
        variables: variables(&all),
        embedded_only: true,
        ..LoadOptions::default()
    })
}

fn keys(result: Result<Loaded, ConfigFaults>) -> Vec<String> {
    let faults = result.expect_err("faults").0;
    faults.into_iter().map(|fault| fault.key).collect()
}

/// The message of the only fault, which is at `key`.
fn message(result: Result<Loaded, ConfigFaults>, key: &str) -> String {
    let faults = result.expect_err("a fault").0;
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0].key, key, "{faults:?}");
    faults[0].message.clone()
}

#[test]
fn wants_room_for_one_body_at_least() {
    let text = "[server]\nmax_held_bytes = \"64KiB\"\n[upstream]\nhold_body = \"65KiB\"";
    let message = message(load_with_credential(text), "server.max_held_bytes");
    assert!(message.contains("upstream.hold_body"), "{message}");
    let text = text.replace("65KiB", "64KiB");
    let config = load_with_credential(&text).expect("it fits").config;
    assert_eq!(config.server.max_held_bytes, 64 * 1024);
}

#[test]
fn loads_ten_lines_with_defaults_for_all_else() {
    let loaded = load_with_credential("").expect("complete");
    let config = loaded.config;
    assert_eq!(config.environment, Environment::Sandbox);
    assert_eq!(config.selected().base_url.path(), "/pay/sandbox");
    assert_eq!(config.listeners, [ListenerConfig::default()]);
    assert_eq!(config.upstream, UpstreamConfig::default());
    let names: Vec<_> = config
        .routes
        .iter()
        .map(|route| route.name.as_str())
        .collect();
    assert_eq!(names, ["create-payment", "everything-else"]);
    assert_eq!(config.headers.remove.len(), 6);
    assert!(loaded.warnings.is_empty());
    assert_eq!(loaded.files.len(), 1);
}

#[test]
fn reports_faults_of_every_kind_at_once_and_shows_no_value() {
    let result = load_text(&format!(
        r#"
        [server]
        thread = "{MARKER}"
        drain_timeout = "{MARKER}"
        [[listeners]]
        [[listeners]]
        address = "0.0.0.0:4242"
        allow_anonymous = "{MARKER}"
        max_connections = -4242
        header_timeout = "0s"
        body_timeout = 4242
        [environments.sandbox]
        base_url = "http://{MARKER}.example"
        secret = "{MARKER}"
        [upstream]
        roots = "{MARKER}"
        hold_body = "4242"
        proxy = "http://{MARKER}:{MARKER}@egress:4242"
        [[routes]]
        name = "{MARKER}!"
        path = "/{MARKER}"
        methods = [4242]
        [log]
        level = "{MARKER}"
        "#
    ));
    let faults = result.expect_err("faults");
    let text = faults.to_string();
    let keys: Vec<_> = faults.0.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "environments.sandbox.app_id",
            "environments.sandbox.base_url",
            "environments.sandbox.secret",
            "listeners[1].address",
            "listeners[1].allow_anonymous",
            "listeners[1].body_timeout",
            "listeners[1].header_timeout",
            "listeners[1].max_connections",
            "log.level",
            "routes[0].methods[0]",
            "routes[0].name",
            "routes[0].path",
            "server.drain_timeout",
            "server.thread",
            "upstream.hold_body",
            "upstream.proxy",
            "upstream.roots",
        ]
    );
    assert!(!text.contains(MARKER) && !text.contains("4242"), "{text}");
    assert_eq!(text.lines().count(), keys.len());
    assert!(
        text.lines().all(|line| line.contains("gateway.toml: ")),
        "{text}"
    );
}

#[test]
fn says_what_was_expected_and_of_which_type_the_value_is() {
    let cases = [
        (
            "[server]\ndrain_timeout = 5",
            "server.drain_timeout",
            "expected a duration with a unit such as \"5s\", found an integer",
        ),
        (
            "[server]\ndrain_timeout = \"5\"",
            "server.drain_timeout",
            "expected a duration with a unit such as \"5s\", found a string without one",
        ),
        (
            "[server]\nthreads = \"5\"",
            "server.threads",
            "expected an integer, found a string",
        ),
        (
            "[server]\nthreads = 5.5",
            "server.threads",
            "expected an integer, found a float",
        ),
        (
            "[server]\nthreads = -1",
            "server.threads",
            "expected an integer of at least 0, found a smaller one",
        ),
        (
            "[upstream]\nmax_connections = 0",
            "upstream.max_connections",
            "expected an integer of at least 1, found a smaller one",
        ),
        (
            "[upstream]\nhold_body = 65536",
            "upstream.hold_body",
            "expected a size with a unit such as \"64KiB\", found an integer",
        ),
        (
            "[upstream]\nroots = \"Bundled\"",
            "upstream.roots",
            "expected \"bundled\" or \"platform\", found another string",
        ),
        (
            "[upstream]\nbreaker = \"on\"",
            "upstream.breaker",
            "expected a table such as { failures = 50 }, or \"off\", found another string",
        ),
        (
            "[upstream]\nbreaker = 50",
            "upstream.breaker",
            "expected a table such as { failures = 50 }, or \"off\", found an integer",
        ),
        (
            "[upstream]\nbreaker = { failures = 0 }",
            "upstream.breaker.failures",
            "expected an integer of at least 1, found a smaller one",
        ),
        (
            "[upstream]\nbreaker = { window = 10 }",
            "upstream.breaker.window",
            "expected a duration with a unit such as \"5s\", found an integer",
        ),
        (
            "[upstream]\nbreaker = { open_for = \"0s\" }",
            "upstream.breaker.open_for",
            "expected a duration longer than zero, found zero",
        ),
        (
            "[upstream]\nbreaker = { open = \"1s\" }",
            "upstream.breaker.open",
            "is an unknown key; did you mean open_for?",
        ),
        (
            "[[listeners]]\nallow_anonymous = \"yes\"",
            "listeners[0].allow_anonymous",
            "expected true or false, found a string",
        ),
        (
            "[[listeners]]\nallow_anonymous = 1",
            "listeners[0].allow_anonymous",
            "expected true or false, found an integer",
        ),
        ("server = 5", "server", "expected a table, found an integer"),
        (
            "listeners = 5",
            "listeners",
            "expected a list, found an integer",
        ),
        (
            "[listeners]\naddress = \"a\"",
            "listeners",
            "expected a list, found a table",
        ),
        (
            "listeners = [5]",
            "listeners[0]",
            "expected a table, found an integer",
        ),
    ];
    for (text, key, expected) in cases {
        assert_eq!(message(load_with_credential(text), key), expected, "{text}");
    }
}

#[test]
fn reads_limits_as_they_are_written() {
    let text = "
[[limits]]
name = \"gateway\"
requests = 50
period = \"2s\"
burst = 100

[[limits]]
name = \"at-once\"
per = [\"route\", \"client_ip\"]
concurrency = 20
mode = \"observe\"
max_keys = 10
";
    let limits = load_with_credential(text).expect("clean").config.limits;
    let [rate, at_once] = limits.as_slice() else {
        panic!("{limits:?}");
    };
    assert!(matches!(
        rate.allowance,
        Allowance::Rate { requests, period, burst }
            if (requests.get(), period.as_secs(), burst.get()) == (50, 2, 100)
    ));
    assert!(matches!(at_once.allowance, Allowance::Concurrency(n) if n.get() == 20));
    assert_eq!(at_once.per, [Dimension::Route, Dimension::ClientIp]);
    assert_eq!((at_once.mode, at_once.max_keys), (LimitMode::Observe, 10));

    for (line, key) in [
        ("requests = 0", "limits[0].requests"),
        ("requests = 1\nperiod = \"0s\"", "limits[0].period"),
        ("requests = 1\nper = [\"client\"]", "limits[0].per[0]"),
        ("concurrency = 0", "limits[0].concurrency"),
    ] {
        message(
            load_with_credential(&format!("[[limits]]\nname = \"a\"\n{line}")),
            key,
        );
    }
}

#[test]
fn names_the_nearest_known_key() {
    let message_of = |text, key| message(load_with_credential(text), key);
    let near = "is an unknown key; did you mean threads?";
    assert_eq!(message_of("[server]\nthread = 1", "server.thread"), near);
    assert_eq!(message_of("[server]\nThreads = 1", "server.Threads"), near);
    let far = message_of("[server]\nqqqq = 1", "server.qqqq");
    assert_eq!(
        far,
        "is an unknown key; known here: drain_delay, drain_timeout, max_held_bytes, max_in_flight, \
         threads"
    );
    let quoted = message_of(
        "\"listeners[0].allow_anonymous\" = true",
        "listeners[0].allow_anonymous",
    );
    assert!(quoted.starts_with("is an unknown key"), "{quoted}");
}

#[test]
fn knows_no_key_whose_feature_is_not_built() {
    let unbuilt = [
        ("listeners", "allow_browsers = true"),
        ("listeners", "http2 = false"),
        ("environments.sandbox", "max_age = \"90d\""),
        ("environments.sandbox", "armed = true"),
        ("upstream", "http2 = \"off\""),
        ("routes", "order_key = \"/sn\""),
        ("telemetry", "leak_check = true"),
    ];
    for (section, line) in unbuilt {
        let text = match section {
            "listeners" => format!("[[listeners]]\n{line}"),
            "routes" => format!("[[routes]]\nname = \"a\"\npath = \"/pay/a\"\n{line}"),
            "environments.sandbox" => {
                format!("[environments.sandbox]\n{line}\n")
                    + CREDENTIAL
                        .trim_start()
                        .trim_start_matches("[environments.sandbox]")
            }
            _ => format!("[{section}]\n{line}"),
        };
        let result = if section == "environments.sandbox" {
            load_text(&text)
        } else {
            load_with_credential(&text)
        };
        let faults = result.expect_err(line).0;
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(
            faults[0].message.starts_with("is an unknown key"),
            "{faults:?}"
        );
    }
}

#[test]
fn tells_where_a_secret_may_come_from_when_one_is_written_out() {
    let text = format!("[environments.sandbox]\napp_id = {{ env = \"A\" }}\nsecret = \"{MARKER}\"");
    let message = message(load_text(&text), "environments.sandbox.secret");
    for word in ["file", "env", "credential", "command", "found a string"] {
        assert!(message.contains(word), "{message}");
    }
    assert!(!message.contains(MARKER), "{message}");
}

#[test]
fn wants_exactly_one_source_of_a_secret() {
    let cases = [
        "{}",
        "{ file = \"/a\", env = \"A\" }",
        "{ vault = \"a\" }",
        "{ env = 5 }",
        "{ env = \"lower\" }",
        "{ file = \"no-slash\" }",
        "{ credential = \"a/b\" }",
        "{ command = [] }",
        "{ command = [5] }",
        "{ command = \"vault\" }",
        "[]",
    ];
    for source in cases {
        let text = format!("[environments.sandbox]\napp_id = {{ env = \"A\" }}\nsecret = {source}");
        let keys = keys(load_text(&text));
        assert!(
            keys.iter()
                .all(|key| key.starts_with("environments.sandbox.secret")),
            "{source}: {keys:?}"
        );
    }
}

#[test]
fn lets_a_later_source_replace_an_earlier_one() {
    let folder = folder(&[("base.toml", CREDENTIAL)]);
    let mut options = LoadOptions {
        paths: vec![folder.path().into()],
        environment: Some("sandbox".into()),
        variables: variables(&[("MODEN_GATEWAY__ENVIRONMENTS__SANDBOX__SECRET__FILE", "/a/b")]),
        embedded_only: false,
    };
    let config = load(&options).expect("complete").config;
    assert_eq!(config.selected().secret, Some(Source::File("/a/b".into())));
    assert_eq!(config.selected().app_id, Some(Source::Env("APP_ID".into())));

    let second = (
        "MODEN_GATEWAY__ENVIRONMENTS__SANDBOX__SECRET__ENV",
        "SECRET",
    );
    options.variables.extend(variables(&[second]));
    let message = message(load(&options), "environments.sandbox.secret");
    assert!(message.contains("found 2 keys"), "{message}");
}

#[test]
fn refuses_to_guess_the_environment() {
    let options = LoadOptions {
        embedded_only: true,
        ..LoadOptions::default()
    };
    let fault = load(&options).expect_err("no environment").to_string();
    assert_eq!(
        fault,
        "no configuration file: environment: is missing and has no default: write environment = \
         \"sandbox\" or environment = \"production\" into the file, set \
         MODEN_GATEWAY__ENVIRONMENT, or give --environment"
    );

    let options = LoadOptions {
        environment: Some("prod".into()),
        ..options
    };
    let faults = load(&options).expect_err("no environment").0;
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0].origin, "--environment");
}

#[test]
fn tells_all_other_faults_when_the_environment_is_missing() {
    let text = "[[listeners]]\naddress = \"0.0.0.0:80\"\n[log]\nlevel = \"loud\"";
    let folder = folder(&[("gateway.toml", text)]);
    let result = load(&LoadOptions {
        paths: vec![folder.path().join("gateway.toml")],
        ..LoadOptions::default()
    });
    assert_eq!(
        keys(result),
        ["environment", "listeners[0].address", "log.level"]
    );
}

#[test]
fn wants_the_credential_of_the_selected_environment_only() {
    let options = LoadOptions {
        environment: Some("sandbox".into()),
        embedded_only: true,
        ..LoadOptions::default()
    };
    assert_eq!(
        keys(load(&options)),
        ["environments.sandbox.app_id", "environments.sandbox.secret"]
    );
}

#[test]
fn names_the_environment_by_flag_then_variable_then_file() {
    let text = "environment = \"production\"\n".to_owned()
        + CREDENTIAL
        + "[environments.production]\narmed = true\napp_id = { env = \"A\" }\nsecret = { env = \"B\" }";
    let folder = folder(&[("gateway.toml", &text)]);
    let mut options = LoadOptions {
        paths: vec![folder.path().join("gateway.toml")],
        ..LoadOptions::default()
    };
    let environment = |options: &LoadOptions| load(options).expect("complete").config.environment;
    assert_eq!(environment(&options), Environment::Production);
    options.variables = variables(&[("MODEN_GATEWAY__ENVIRONMENT", "sandbox")]);
    assert_eq!(environment(&options), Environment::Sandbox);
    options.environment = Some("production".into());
    assert_eq!(environment(&options), Environment::Production);
}

#[test]
fn refuses_production_unless_it_is_armed() {
    let load_armed = |armed: &str| {
        let folder = folder(&[(
            "gateway.toml",
            &format!(
                "environment = \"production\"\n[environments.production]\n{armed}\n\
                 app_id = {{ env = \"A\" }}\nsecret = {{ env = \"B\" }}"
            ),
        )]);
        load(&LoadOptions {
            paths: vec![folder.path().join("gateway.toml")],
            ..LoadOptions::default()
        })
    };
    let config = load_armed("armed = true").expect("armed").config;
    assert_eq!(config.selected().base_url.path(), "/pay");
    assert_eq!(config.secret_file_policy(), FilePolicy::Refuse);
    for armed in ["", "armed = false", "armed = \"true\"", "armed = 1"] {
        message(load_armed(armed), "environments.production.armed");
    }
}

#[test]
fn refuses_environments_that_can_be_mistaken_for_each_other() {
    for (sandbox, production) in [
        ("https://a.example/pay", "https://a.example/pay"),
        ("https://A.example:443/pay/", "https://a.example/pay"),
        ("https://a.example/pay", "https://b.example/pay/SandBox"),
        ("https://a.example/pay", "https://b.example/sandbox/"),
        ("https://a.example/pay", "https://b.example/pay/sandbox/v2"),
    ] {
        let text = format!(
            "[environments.production]\nbase_url = \"{production}\"\n{CREDENTIAL}\n\
             base_url = \"{sandbox}\""
        );
        message(load_text(&text), "environments.production.base_url");
    }
}

#[test]
fn refuses_a_sandbox_that_is_production_whatever_production_is_said_to_be() {
    let sandbox = "base_url = \"https://API.modenpay.io:443/pay/\"";
    for production in ["", "base_url = \"https://egress.example/pay\""] {
        let text = format!("[environments.production]\n{production}\n{CREDENTIAL}\n{sandbox}");
        let message = message(load_text(&text), "environments.sandbox.base_url");
        assert!(message.contains("real money"), "{message}");
    }
}

#[test]
fn refuses_a_sandbox_on_modens_host_that_is_not_its_sandbox() {
    for path in ["", "/", "/Pay", "/pay/Sandbox", "/payments"] {
        let text = format!("{CREDENTIAL}\nbase_url = \"https://api.modenpay.io{path}\"");
        let message = message(load_text(&text), "environments.sandbox.base_url");
        assert!(message.contains("real money"), "{path}: {message}");
    }
}

#[test]
fn refuses_an_open_listener_and_says_what_to_write() {
    let text = "[[listeners]]\naddress = \"0.0.0.0:8080\"\n";
    let message = message(load_with_credential(text), "listeners[0].address");
    assert!(message.contains("allow_anonymous = true"), "{message}");

    let loaded = load_with_credential(&format!("{text}allow_anonymous = true")).expect("allowed");
    assert_eq!(loaded.warnings.len(), 1);
}

#[test]
fn refuses_listeners_that_cannot_be_bound_together() {
    let listeners = |addresses: &[&str]| {
        let texts: Vec<_> = addresses
            .iter()
            .map(|address| format!("[[listeners]]\naddress = \"{address}\"\n"))
            .collect();
        load_with_credential(&texts.concat())
    };
    message(
        listeners(&["127.0.0.1:1", "127.0.0.1:1"]),
        "listeners[1].address",
    );
    message(
        listeners(&["unix:/a", "unix:/b", "unix:/a"]),
        "listeners[2].address",
    );
    message(listeners(&["127.0.0.1:9090"]), "listeners[0].address");
    // The first has no address of its own, so that nothing can be the same.
    message(
        listeners(&["here", "127.0.0.1:8080"]),
        "listeners[0].address",
    );
    assert!(listeners(&["127.0.0.1:0", "127.0.0.1:0", "unix:/a", "[::1]:1"]).is_ok());
}

#[test]
fn knows_the_least_size_of_a_head() {
    let sized =
        |size: &str| load_with_credential(&format!("[[listeners]]\nmax_header_bytes = {size}"));
    assert!(sized("\"8KiB\"").is_ok());
    message(sized("\"8191B\""), "listeners[0].max_header_bytes");
    let sized =
        |size: &str| load_with_credential(&format!("[upstream]\nmax_header_bytes = {size}"));
    for size in ["\"8KiB\"", "\"1MiB\""] {
        assert!(sized(size).is_ok());
    }
    for size in ["\"8191B\"", "\"1025KiB\"", "\"0B\""] {
        message(sized(size), "upstream.max_header_bytes");
    }
}

#[test]
fn a_breaker_is_set_key_by_key_or_turned_off() {
    let breaker = |text: &str, over: &[(&str, &str)]| {
        let folder = folder(&[("gateway.toml", &format!("[upstream]\n{text}\n{CREDENTIAL}"))]);
        let loaded = load(&LoadOptions {
            paths: vec![folder.path().join("gateway.toml")],
            environment: Some("sandbox".into()),
            variables: variables(over),
            ..LoadOptions::default()
        });
        loaded.expect("complete").config.upstream.breaker
    };
    let few = |open_for| {
        BreakerConfig::On(BreakerSettings {
            failures: 5,
            open_for: Duration::from_secs(open_for),
            ..BreakerSettings::default()
        })
    };
    let off = ("MODEN_GATEWAY__UPSTREAM__BREAKER", "off");
    let long = ("MODEN_GATEWAY__UPSTREAM__BREAKER__OPEN_FOR", "1m");
    assert_eq!(breaker("breaker = { failures = 5 }", &[]), few(5));
    assert_eq!(breaker("breaker = { failures = 5 }", &[long]), few(60));
    assert_eq!(
        breaker("breaker = { failures = 5 }", &[off]),
        BreakerConfig::Off
    );
    assert_eq!(breaker("breaker = \"off\"", &[]), BreakerConfig::Off);
}

#[test]
fn knows_how_many_fields_a_head_can_have() {
    let fields =
        |count| load_with_credential(&format!("[[listeners]]\nmax_header_fields = {count}"));
    assert!(fields(1).is_ok() && fields(100).is_ok());
    message(fields(0), "listeners[0].max_header_fields");
    message(fields(101), "listeners[0].max_header_fields");
}

#[test]
fn allows_zero_durations_only_where_they_make_sense() {
    let sensible = "[server]\ndrain_timeout = \"0s\"\n[upstream]\nqueue_timeout = \"0s\"\n\
                    reuse_within = \"0s\"";
    assert!(load_with_credential(sensible).is_ok());
    for name in ["connect", "tls", "response", "body_idle", "exchange"] {
        let text = format!("[upstream]\n{name}_timeout = \"0ms\"");
        message(
            load_with_credential(&text),
            &format!("upstream.{name}_timeout"),
        );
    }
    for name in ["header", "body", "idle"] {
        let text = format!("[[listeners]]\n{name}_timeout = \"0s\"");
        message(
            load_with_credential(&text),
            &format!("listeners[0].{name}_timeout"),
        );
    }
}

#[test]
fn refuses_to_remove_fields_that_the_gateway_sets() {
    let text = "[headers]\nremove = [\"Cookie\", \"Host\", \"a b\", \"AUTHORIZATION\", \"\"]";
    assert_eq!(
        keys(load_with_credential(text)),
        [
            "headers.remove[1]",
            "headers.remove[2]",
            "headers.remove[3]",
            "headers.remove[4]"
        ]
    );
    let config = load_with_credential("[headers]\nremove = []")
        .expect("complete")
        .config;
    assert!(config.headers.remove.is_empty());
}

#[test]
fn refuses_empty_lists_of_listeners_and_routes() {
    assert_eq!(keys(load_with_credential("listeners = []")), ["listeners"]);
    assert_eq!(keys(load_with_credential("routes = []")), ["routes"]);
}

#[test]
fn prints_a_whole_configuration_without_anything_confidential() {
    let text = CREDENTIAL.replace(
        "{ env = \"SECRET\" }",
        &format!("{{ command = [\"/usr/bin/vault\", \"{MARKER}\"] }}"),
    );
    let config = load_text(&text).expect("complete").config;
    let printed = format!("{config:?}");
    assert!(printed.contains("/usr/bin/vault"), "{printed}");
    assert!(!printed.contains(MARKER), "{printed}");
}

#[test]
fn reads_who_may_ask_the_admin_listener() {
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let hosts = "hosts = [\"Gateway.internal\", \"gw_1\"]";
    let text = format!("[admin]\ntoken_sha256 = \"{digest}\"\n{hosts}");
    let admin = load_with_credential(&text).expect("clean").config.admin;
    assert_eq!(admin.hosts, ["gateway.internal", "gw_1"]);
    assert!(
        admin
            .token_sha256
            .is_some_and(|digest| digest.is_of(b"abc"))
    );
    assert!(!format!("{admin:?}").contains(digest));
}

#[test]
fn refuses_what_no_operator_can_be_known_by() {
    let message_of = |text: &str, key| message(load_with_credential(text), key);
    let upper_case = "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD";
    for text in ["", "secret", upper_case] {
        let line = format!("[admin]\ntoken_sha256 = \"{text}\"");
        let expected = "expected 64 lower-case hexadecimal digits";
        assert!(message_of(&line, "admin.token_sha256").starts_with(expected));
    }
    for text in ["", "http://a", "a:80", "a b", "ä", "[::1]"] {
        let line = format!("[admin]\nhosts = [\"good\", \"{text}\"]");
        let expected = "expected a host name";
        assert!(message_of(&line, "admin.hosts[1]").starts_with(expected));
    }
}

#[test]
fn reads_the_admin_section_alone_whatever_is_wrong_with_others() {
    let admin_of = |text: &str| {
        let folder = folder(&[("gateway.toml", text)]);
        load_admin(&LoadOptions {
            paths: vec![folder.path().join("gateway.toml")],
            ..LoadOptions::default()
        })
    };
    let broken = "[servr]\n[server]\nthreads = \"x\"\n";
    let text = format!("{broken}[admin]\naddress = \"127.0.0.1:4242\"");
    let admin = admin_of(&text).expect("its own section is clean");
    assert_eq!(admin.address.port(), 4242);
    assert_eq!(admin_of(broken).expect("defaults").address.port(), 9090);

    let faults = admin_of(&format!("{broken}[admin]\naddress = \"x\"\nhost = 1"));
    let faults = faults.expect_err("two faults of its own").0;
    let keys: Vec<_> = faults.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!(keys, ["admin.address", "admin.host"]);
    admin_of("[admin").expect_err("no valid TOML");
    let nowhere = LoadOptions {
        paths: vec!["/nonexistent".into()],
        ..LoadOptions::default()
    };
    load_admin(&nowhere).expect_err("nothing can be read");
}
