//! The program as an operator meets it: files, commands, exit codes and what is printed.
//!
//! Each test starts the real binary with an environment of its own, and kills it if it must.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use insta::assert_snapshot;
use rustix::process::Signal;
use serde_json::Value as Json;
use tempfile::TempDir;

use crate::support::program::{curl, running_configuration, sh, start, start_in};

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config");

const WALLET: &str = "/inquire/wallet";

#[test]
fn check_tells_all_faults_at_once_and_no_value() {
    let folder = folder(&[(
        "gateway.toml",
        r#"
        environment = "sandbox"
        [server]
        drain_timout = "42s"
        [[listeners]]
        address = "0.0.0.0:4242"
        max_connections = "marker"
        [environments.sandbox]
        app_id = { file = "/nonexistent/marker" }
        secret = "marker"
        [upstream]
        ca_file = "/nonexistent/marker"
        [[routes]]
        name = "marker"
        path = "/pay/*"
        [[routes]]
        name = "marker-2"
        path = "/pay/marker"
        "#,
    )]);
    let ended = start_in(folder.path(), &["check", "--config", "gateway.toml"], &[]).end();
    assert_eq!((ended.code, ended.stdout.as_str()), (78, ""));
    assert_snapshot!(ended.stderr, @"
    gateway.toml: environments.sandbox.app_id: the secret file could not be read: No such file or directory (os error 2)
    gateway.toml: environments.sandbox.secret: expected a table with exactly one key that says where the value comes from: { file = … }, { env = … }, { credential = … } or { command = … }; the value itself never stands in the configuration, found a string
    gateway.toml: listeners[0].address: can be reached from other machines, and nobody would be asked who they are: use a loopback address such as 127.0.0.1 or a unix: path, or write allow_anonymous = true in this listener to allow it
    gateway.toml: listeners[0].max_connections: expected an integer, found a string
    gateway.toml: routes[1].path: is never reached: earlier routes match all of its paths and methods, and the first match decides, also about path_extra; order it before them
    gateway.toml: server.drain_timout: is an unknown key; did you mean drain_timeout?
    gateway.toml: upstream.ca_file: the file cannot be used: I/O error: No such file or directory (os error 2)
    ");
    for value in ["42", "0.0.0.0", "marker", "/nonexistent", "/pay/"] {
        assert!(!ended.stderr.contains(value), "{}", ended.stderr);
    }
}

#[test]
fn says_what_to_write_when_no_environment_is_named() {
    let folder = folder(&[("gateway.toml", "[server]\nthreads = 1\n")]);
    let run = |command| start_in(folder.path(), &[command, "--config", "gateway.toml"], &[]).end();
    let ended = run("check");
    assert_eq!(ended.code, 78);
    assert_snapshot!(ended.stderr, @r#"gateway.toml: environment: is missing and has no default: write environment = "sandbox" or environment = "production" into the file, set MODEN_GATEWAY__ENVIRONMENT, or give --environment"#);
    let refused = run("run");
    assert_eq!((refused.code, refused.stderr), (78, ended.stderr));
    let ended = start_in(folder.path(), &["run"], &[]).end();
    assert_eq!(ended.code, 78);
    assert!(
        ended
            .stderr
            .contains("neither ./config nor /etc/moden-gateway is there")
    );
}

#[test]
fn accepts_the_shipped_files_for_the_sandbox_when_the_secrets_are_there() {
    let secrets = secrets(0o400);
    let arguments = ["check", "--config", SHIPPED, "--environment", "sandbox"];
    let ended = start(&arguments, &secrets.variables("SANDBOX")).end();
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    assert_eq!(
        ended.stdout,
        format!(
            "read {SHIPPED}/base.toml\nread {SHIPPED}/sandbox.toml\n\
             ok: the configuration is valid for sandbox\n"
        )
    );

    let ended = start(&arguments, &[]).end();
    assert_eq!((ended.code, ended.stdout.as_str()), (78, ""));
    assert_snapshot!(ended.stderr.replace(SHIPPED, "config"), @"
    config/base.toml: environments.sandbox.app_id: the secret file could not be read: No such file or directory (os error 2)
    config/base.toml: environments.sandbox.secret: the secret file could not be read: No such file or directory (os error 2)
    ");
}

#[test]
fn accepts_the_shipped_files_for_production_only_once_it_is_armed() {
    let secrets = secrets(0o400);
    let arguments = ["check", "--config", SHIPPED, "--environment", "production"];
    let mut variables = secrets.variables("PRODUCTION");
    let ended = start(&arguments, &variables).end();
    assert_eq!(ended.code, 78);
    assert_snapshot!(ended.stderr.replace(SHIPPED, "config"), @"config/production.toml: environments.production.armed: production moves real money and must be armed: write armed = true under [environments.production]");
    let run = ["run", "--config", SHIPPED, "--environment", "production"];
    let refused = start(&run, &variables).end();
    assert_eq!((refused.code, refused.stderr), (78, ended.stderr));
    let armed = "MODEN_GATEWAY__ENVIRONMENTS__PRODUCTION__ARMED";
    variables.push((armed.into(), "true".into()));
    assert_eq!(start(&arguments, &variables).end().code, 0);
}

#[test]
fn refuses_a_secret_file_that_others_can_read_in_production_and_warns_in_the_sandbox() {
    let secrets = secrets(0o644);
    let text = "\n[environments.production]\narmed = true\n";
    let folder = folder(&[("gateway.toml", text)]);
    let check = |environment: &str| {
        let arguments = [
            "check",
            "--config",
            "gateway.toml",
            "--environment",
            environment,
        ];
        let variables = secrets.variables(&environment.to_uppercase());
        start_in(folder.path(), &arguments, &variables).end()
    };
    let ended = check("production");
    assert_eq!((ended.code, ended.stdout.as_str()), (78, ""));
    assert_snapshot!(ended.stderr, @"
    MODEN_GATEWAY__ENVIRONMENTS__PRODUCTION__APP_ID__FILE: environments.production.app_id: the secret file is readable by others (mode 0644); take that away, for example with chmod 0400
    MODEN_GATEWAY__ENVIRONMENTS__PRODUCTION__SECRET__FILE: environments.production.secret: the secret file is readable by others (mode 0644); take that away, for example with chmod 0400
    ");
    let ended = check("sandbox");
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    assert_snapshot!(ended.stdout, @"
    read gateway.toml
    warning: environments.sandbox.app_id: the secret file is readable by others (mode 0644); take that away, for example with chmod 0400
    warning: environments.sandbox.secret: the secret file is readable by others (mode 0644); take that away, for example with chmod 0400
    ok: the configuration is valid for sandbox
    ");
}

#[test]
fn says_how_it_is_used() {
    assert_snapshot!(start(&["--help"], &[]).end().stdout, @"
    The one process in a merchant's network that knows the MODEN payment secret.

    Services call http://gateway/pay/<endpoint> without a credential; the gateway adds it, forwards to MODEN's sandbox or production, and says with every reply what became of the request.

    Usage: moden-gateway <COMMAND>

    Commands:
      run          Run the gateway until SIGTERM or SIGINT
      check        Check the configuration and the credential; report all faults at once
      doctor       Look at everything that a payment needs, up to MODEN's answer to a check of the balance
      explain      Say what would happen to a request, without sending it
      demo         Run a simulator of MODEN and a gateway in front of it; nothing to configure
      simulate     Run the simulator of MODEN alone
      wait-ready   Wait until a gateway is ready: serving, with a credential, not draining
      pause        Have a running gateway forward nothing from now on; what runs already finishes
      resume       Have a paused gateway forward again
      schema       Print the JSON Schema of the configuration
      completions  Print shell completions
      help         Print this message or the help of the given subcommand(s)

    Options:
      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    Exit codes: 0 (also after a clean drain), 64 usage, 69 unavailable, 70 internal, 78 configuration.
    ");
    for arguments in [
        &["serve"][..],
        &["serve"],
        &["run", "--port", "1"],
        &["demo", "--address", "x"],
    ] {
        let ended = start(arguments, &[]).end();
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (64, ""),
            "{arguments:?}"
        );
        assert!(ended.stderr.contains("--help"), "{}", ended.stderr);
    }
}

#[test]
fn names_its_version_and_commit() {
    let ended = start(&["--version"], &[]).end();
    assert_eq!(ended.code, 0);
    let commit = ended
        .stdout
        .strip_prefix(concat!("moden-gateway ", env!("CARGO_PKG_VERSION"), " ("))
        .and_then(|rest| rest.strip_suffix(")\n"));
    assert!(
        commit.is_some_and(|commit| !commit.is_empty()),
        "{}",
        ended.stdout
    );
}

#[test]
fn prints_a_schema_that_knows_every_key_of_the_shipped_file() {
    let ended = start(&["schema"], &[]).end();
    assert_eq!(ended.code, 0);
    let schema: Json = serde_json::from_str(&ended.stdout).expect("the schema is JSON");
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );

    let text = fs::read_to_string(Path::new(SHIPPED).join("base.toml")).expect("it is shipped");
    // A key without a default is shown in a comment.
    let text: Vec<_> = text.lines().map(uncommented).collect();
    let file: Json = config::Config::builder()
        .add_source(config::File::from_str(
            &text.join("\n"),
            config::FileFormat::Toml,
        ))
        .build()
        .and_then(config::Config::try_deserialize)
        .expect("the shipped file is TOML");
    let mut keys = Vec::new();
    assert_known("", &file, &schema, &mut keys);
    for key in [
        "environment",
        "routes[].methods",
        "upstream.ca_file",
        "log.level",
    ] {
        assert!(keys.iter().any(|known| known == key), "{key}: {keys:?}");
    }
}

#[test]
fn prints_completions_for_a_shell() {
    let ended = start(&["completions", "bash"], &[]).end();
    assert_eq!(ended.code, 0);
    assert!(ended.stdout.contains("complete -F "), "{}", ended.stdout);
}

#[test]
fn names_the_key_of_an_address_that_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let taken = taken.local_addr().expect("it is bound");
    for (second, admin, key) in [
        (
            taken.to_string().as_str(),
            "127.0.0.1:0",
            "listeners[1].address",
        ),
        ("127.0.0.1:0", taken.to_string().as_str(), "admin.address"),
    ] {
        let text = format!(
            "environment = \"sandbox\"\n[[listeners]]\naddress = \"127.0.0.1:0\"\n\
             [[listeners]]\naddress = \"{second}\"\n[admin]\naddress = \"{admin}\"\n\
             [environments.sandbox]\napp_id = {{ env = \"A\" }}\nsecret = {{ env = \"B\" }}\n"
        );
        let folder = folder(&[("gateway.toml", &text)]);
        let ended = start_in(folder.path(), &["run", "--config", "gateway.toml"], &[]).end();
        assert_eq!(ended.code, 69);
        assert_eq!(
            ended.stderr,
            format!("failed to bind {key} {taken}: Address already in use (os error 98)\n")
        );
    }
}

#[test]
fn ends_for_its_configuration_when_a_certificate_file_cannot_be_used() {
    let text = "environment = \"sandbox\"\n[upstream]\nca_file = \"./ca.pem\"\n\
                [environments.sandbox]\napp_id = { env = \"A\" }\nsecret = { env = \"B\" }\n";
    let folder = folder(&[("gateway.toml", text), ("ca.pem", "no certificate")]);
    for command in ["check", "run"] {
        let ended = start_in(folder.path(), &[command, "--config", "gateway.toml"], &[]).end();
        assert_eq!(ended.code, 78);
        let message = "upstream.ca_file: the file cannot be used: it holds no certificate";
        assert!(ended.stderr.contains(message), "{}", ended.stderr);
    }
}

#[test]
fn refuses_a_proxy_in_front_of_an_upstream_that_has_no_tls() {
    let base_urls = [
        "http://127.0.0.1:4242/pay/sandbox",
        "http://[::1]:4242/pay/sandbox",
        "http://localhost:4242/pay/sandbox",
    ];
    for base_url in base_urls {
        let text = running_configuration(base_url);
        let text = format!("{text}[upstream]\nproxy = \"http://egress.marker:3128\"\n");
        let folder = folder(&[("gateway.toml", &text)]);
        for command in ["check", "run"] {
            let arguments = [command, "--config", "gateway.toml"];
            let ended = start_in(folder.path(), &arguments, &[]).end();
            let stderr = ended.stderr;
            assert_eq!((ended.code, ended.stdout.as_str()), (78, ""), "{stderr}");
            let is_named = stderr.starts_with("gateway.toml: upstream.proxy: ");
            assert!(is_named && stderr.lines().count() == 1, "{stderr}");
            assert!(
                !stderr.contains("marker") && !stderr.contains("4242"),
                "{stderr}"
            );
        }
    }
}

#[test]
fn runs_with_secrets_from_commands_logs_json_and_ends_well_by_sigterm() {
    let mut simulator = start(&["simulate", "--address", "127.0.0.1:0"], &[]);
    let base_url = last_word(&simulator.stdout.until("sandbox at "));
    let folder = folder(&[("gateway.toml", &running_configuration(&base_url))]);
    let arguments = ["run", "--config", "gateway.toml"];
    assert_eq!(
        start_in(folder.path(), &["check", "--config", "gateway.toml"], &[])
            .end()
            .code,
        0
    );

    let mut gateway = start_in(folder.path(), &arguments, &[]);
    let listening = gateway.stderr.until("\"listening\"");
    let listening: Json = serde_json::from_str(&listening).expect("a line of JSON");
    let address = listening["address"].as_str().expect("the address as bound");
    gateway.stderr.until("the credential is loaded");
    let reply = curl(&format!("curl -si -X POST http://{address}/pay{WALLET}"));
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    assert!(reply.contains("gateway-environment: sandbox"), "{reply}");

    gateway.signal(Signal::TERM);
    let ended = gateway.end();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(
        ended.stdout.contains("\"outcome\":\"answered\""),
        "{}",
        ended.stdout
    );
    assert!(ended.stderr.contains("\"drained\""), "{}", ended.stderr);
    for line in ended.stderr.lines().chain(ended.stdout.lines()) {
        let line: Json = serde_json::from_str(line).expect("a line of JSON");
        assert!(line.is_object());
    }
    simulator.signal(Signal::TERM);
    assert_eq!(simulator.end().code, 0);
}

#[test]
fn rust_log_wins_over_the_level_of_the_file() {
    let text = running_configuration("http://127.0.0.1:1/pay/sandbox") + "[log]\nlevel = \"error\"";
    let folder = folder(&[("gateway.toml", &text)]);
    let variables = [("RUST_LOG".into(), "off,moden_gateway::app=info".into())];
    let arguments = ["run", "--config", "gateway.toml"];
    let mut gateway = start_in(folder.path(), &arguments, &variables);
    gateway.stderr.until("\"serving\"");
    gateway.signal(Signal::INT);
    let ended = gateway.end();
    assert_eq!(ended.code, 0);
    // The addresses are told by another module, which is off.
    assert!(!ended.stderr.contains("\"listening\""), "{}", ended.stderr);
}

#[test]
fn the_demos_curl_lines_do_what_they_promise_and_nothing_stays_behind() {
    let folder = folder(&[]);
    let arguments = [
        "demo",
        "--address",
        "127.0.0.1:0",
        "--admin-address",
        "127.0.0.1:0",
    ];
    let temporary = folder.path().display().to_string();
    let mut demo = start(&arguments, &[("TMPDIR".into(), temporary)]);
    demo.stderr.until("the credential is loaded");
    let greeting = demo.stdout.up_to("access log below");
    assert!(fs::read_dir(folder.path()).is_ok_and(|mut files| files.next().is_some()));

    let mut promises = Vec::new();
    for (heading, line) in greeting.iter().zip(greeting.iter().skip(2)) {
        let Some(promise) = heading
            .strip_suffix("):")
            .and_then(|text| text.split_once(" ("))
        else {
            continue;
        };
        let (status, outcome) = promise.1.split_once(", ").expect("status and outcome");
        assert!(line.starts_with("  curl "), "{line}");
        assert!(!line.contains(":0/"), "the real port is printed: {line}");
        let reply = curl(line).to_lowercase();
        assert!(
            reply.starts_with(&format!("http/1.1 {status} ")),
            "{line}\n{reply}"
        );
        assert!(reply.contains(&outcome.to_lowercase()), "{line}\n{reply}");
        let logged = demo.stdout.until("\"request_id\"");
        assert!(
            logged.contains(&format!("\"status\":{status},")),
            "{logged}"
        );
        promises.push(promise.1.to_owned());
    }
    assert_eq!(
        promises,
        [
            "200, Gateway-Outcome: answered",
            "200, Gateway-Outcome: answered",
            "412, Gateway-Outcome: answered",
            "502, Gateway-Outcome: unknown",
        ]
    );
    demo.signal(Signal::INT);
    let ended = demo.end();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let left: Vec<_> = fs::read_dir(folder.path()).expect("a folder").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_simulators_authority_is_accepted_by_a_tls_client() {
    let folder = folder(&[]);
    let authority = folder.path().join("ca.pem").display().to_string();
    let arguments = [
        "simulate",
        "--address",
        "127.0.0.1:0",
        "--tls",
        "--ca-out",
        &authority,
    ];
    let mut simulator = start(&arguments, &[]);
    let url = last_word(&simulator.stdout.until("sandbox at ")) + WALLET;
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    let credential = "-u demo-app:demo-secret";
    let reply = curl(&format!(
        "curl -si --cacert {authority} {credential} -X POST {url}"
    ));
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    let refused = sh(&format!("curl -si {credential} -X POST {url}"));
    assert_eq!(
        refused.status.code(),
        Some(60),
        "the certificate is not to be trusted by others"
    );
    simulator.signal(Signal::TERM);
    assert_eq!(simulator.end().code, 0);
}

#[test]
fn the_simulator_takes_the_secret_of_a_file() {
    let folder = folder(&[("secret", "top\n"), ("odd", "to\np\n")]);
    let simulate = |file: &str| {
        let path = folder.path().join(file).display().to_string();
        start(
            &[
                "simulate",
                "--address",
                "127.0.0.1:0",
                "--secret-file",
                &path,
            ],
            &[],
        )
    };
    let mut simulator = simulate("secret");
    let url = last_word(&simulator.stdout.until("sandbox at ")) + WALLET;
    for (secret, status) in [("top", 200), ("demo-secret", 401)] {
        let reply = curl(&format!("curl -si -u demo-app:{secret} -X POST {url}"));
        assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{reply}");
    }
    for file in ["odd", "absent"] {
        let refused = simulate(file).end();
        assert_eq!(refused.code, 69, "{file}");
        assert!(!refused.stderr.contains("top"), "{}", refused.stderr);
    }
}

#[test]
fn simulator_flags_that_contradict_each_other_are_refused() {
    for arguments in [
        &["--secret", "a", "--app-id", "b", "--secret-file", "c"][..],
        &["--tls-name", "simulator"],
        &["--ca-out", "ca.pem"],
    ] {
        let arguments = [&["simulate", "--address", "127.0.0.1:0"], arguments].concat();
        let ended = start(&arguments, &[]).end();
        assert_eq!(ended.code, 64, "{arguments:?}: {}", ended.stderr);
    }
}

#[test]
fn the_demo_serves_other_machines_when_told_to_and_prints_an_address_to_call() {
    let arguments = [
        "demo",
        "--address",
        "0.0.0.0:0",
        "--admin-address",
        "127.0.0.1:0",
    ];
    // As in an image of nothing but the program: without a folder for temporary files.
    let mut demo = start(&arguments, &[("TMPDIR".into(), "/nonexistent".into())]);
    demo.stderr.until("the credential is loaded");
    let greeting = demo.stdout.up_to("/inquire/wallet");
    let line = greeting.last().expect("a line to try");
    assert!(line.contains("http://127.0.0.1:"), "{line}");
    let reply = curl(line);
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    demo.signal(Signal::TERM);
    assert_eq!(demo.end().code, 0);
}

/// A line of the shipped file, with its key or list even if that stands in a comment.
fn uncommented(line: &str) -> &str {
    let key_line = line.strip_prefix("# ").filter(|text| {
        let key = text.split_once(" = ").map_or("", |(key, _)| key);
        let is_key = !key.is_empty()
            && key
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        is_key || text.starts_with("[[")
    });
    key_line.unwrap_or(line)
}

/// Walks the file along the schema, and notes each key.
fn assert_known(path: &str, value: &Json, schema: &Json, keys: &mut Vec<String>) {
    match value {
        Json::Object(table) => {
            for (key, value) in table {
                let path = format!("{path}.{key}").trim_start_matches('.').to_owned();
                let node = &schema["properties"][key.as_str()];
                assert!(
                    node["description"].is_string(),
                    "{path} is not in the schema"
                );
                keys.push(path.clone());
                assert_known(&path, value, node, keys);
            }
        }
        Json::Array(elements) => {
            for element in elements {
                assert_known(&format!("{path}[]"), element, &schema["items"], keys);
            }
        }
        _ => {}
    }
}

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, text) in files {
        fs::write(folder.path().join(name), text).expect("a file can be written");
    }
    folder
}

/// A folder with an APP ID and a secret.
struct Secrets(TempDir);

fn secrets(mode: u32) -> Secrets {
    let folder = folder(&[("app-id", "marker-app\n"), ("secret", "marker-secret\n")]);
    for name in ["app-id", "secret"] {
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(folder.path().join(name), permissions).expect("it is ours");
    }
    Secrets(folder)
}

impl Secrets {
    /// The variables that make them the sources of an environment.
    fn variables(&self, environment: &str) -> Vec<(String, String)> {
        [("APP_ID", "app-id"), ("SECRET", "secret")]
            .map(|(key, file)| {
                let name = format!("MODEN_GATEWAY__ENVIRONMENTS__{environment}__{key}__FILE");
                (name, self.0.path().join(file).display().to_string())
            })
            .into()
    }
}

fn last_word(line: &str) -> String {
    line.rsplit(' ').next().unwrap_or_default().to_owned()
}
