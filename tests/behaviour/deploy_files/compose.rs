//! The composition of gateway and simulator.

use std::fs;

use moden_gateway::secret::Source;
use moden_gateway::simulator::{DEMO_APP_ID, DEMO_SECRET};
use rustix::process::Signal;
use serde_json::Value as Json;

use super::{
    CONFIG_FOLDER, IMAGE, assert_understood, at, configuration, list, longest_end, read, root,
    text, texts, yaml,
};
use crate::support::program::{curl, start};

const FILE: &str = "deploy/compose.yaml";
const CONFIG: &str = "deploy/compose/gateway.toml";

fn composition() -> Json {
    let mut documents = yaml(FILE);
    assert_eq!(documents.len(), 1);
    documents.remove(0)
}

/// The value of a flag written as `--flag=value`.
fn flag<'a>(command: &[&'a str], name: &str) -> &'a str {
    let mut values = command.iter().filter_map(|argument| {
        let (flag, value) = argument.split_once('=')?;
        (flag == name).then_some(value)
    });
    values
        .next()
        .unwrap_or_else(|| panic!("there is no {name}"))
}

/// The port behind the last colon.
fn port(address: &str) -> &str {
    address.rsplit_once(':').expect("a port").1
}

#[test]
fn both_services_are_the_image_without_a_privilege() {
    let file = composition();
    for service in ["simulator", "gateway"] {
        let service = at(&file, &format!("/services/{service}"));
        assert_eq!(text(service, "/image"), IMAGE);
        let context = root().join("deploy").join(text(service, "/build/context"));
        assert!(context.join(text(service, "/build/dockerfile")).is_file());
        assert_understood(&texts(service, "/command"));
        assert_eq!(at(service, "/read_only"), true);
        assert_eq!(texts(service, "/cap_drop"), ["ALL"]);
        assert_eq!(texts(service, "/security_opt"), ["no-new-privileges:true"]);
        for port in texts(service, "/ports") {
            assert!(port.starts_with("127.0.0.1:"), "{port}");
        }
        for secret in texts(service, "/secrets") {
            let secret = text(&file, &format!("/secrets/{secret}/file"));
            assert!(root().join("deploy").join(secret).is_file());
        }
    }
}

#[test]
fn nothing_but_the_known_credential_is_in_it() {
    assert_eq!(read("deploy/compose/moden-app-id").trim_end(), DEMO_APP_ID);
    assert_eq!(read("deploy/compose/moden-secret").trim_end(), DEMO_SECRET);
}

#[test]
fn the_gateway_finds_its_files_and_the_simulator() {
    let file = composition();
    let simulator = at(&file, "/services/simulator");
    let gateway = at(&file, "/services/gateway");
    let config = configuration(&read(CONFIG));
    let command = texts(simulator, "/command");

    let base_url = &config.selected().base_url;
    assert!(base_url.is_tls());
    assert_eq!(base_url.host(), flag(&command, "--tls-name"));
    assert_eq!(base_url.host(), flag(&command, "--control-host"));
    let simulator_port = port(flag(&command, "--address"));
    assert_eq!(base_url.port().to_string(), simulator_port);
    assert_eq!(port(texts(simulator, "/ports")[0]), simulator_port);
    let listener = config.listeners[0].address.to_string();
    assert_eq!(port(texts(gateway, "/ports")[0]), port(&listener));
    assert!(!config.listeners[0].address.is_local());

    // Compose puts a secret where its name says.
    let secret = |name: &str| Source::File(format!("/run/secrets/{name}").into());
    assert_eq!(texts(gateway, "/secrets"), ["moden-app-id", "moden-secret"]);
    assert_eq!(config.selected().app_id, Some(secret("moden-app-id")));
    assert_eq!(config.selected().secret, Some(secret("moden-secret")));
    assert_eq!(flag(&command, "--secret-file"), "/run/secrets/moden-secret");
    assert_eq!(flag(&command, "--app-id"), DEMO_APP_ID);

    let authority = flag(&command, "--ca-out");
    assert_eq!(config.upstream.ca_file, Some(authority.into()));
    let (folder, _) = authority.rsplit_once('/').expect("a folder");
    let shared = format!("simulator-ca:{folder}");
    assert_eq!(texts(simulator, "/volumes"), [shared.as_str()]);
    let mounts = texts(gateway, "/volumes");
    let settings = format!("./compose/gateway.toml:{CONFIG_FOLDER}/base.toml:ro");
    assert_eq!(mounts, [settings, format!("{shared}:ro")]);
    // The account of the image owns it.
    let options = text(&file, "/volumes/simulator-ca/driver_opts/o");
    let user = read("deploy/Dockerfile");
    let user = user
        .lines()
        .find_map(|line| line.strip_prefix("USER "))
        .and_then(|account| account.split_once(':'))
        .expect("an account");
    let owner = format!("uid={},gid={}", user.0, user.1);
    assert!(options.ends_with(&owner), "{options}");
}

#[test]
fn the_gateway_is_given_time_to_end_and_is_started_again_until_it_can() {
    let file = composition();
    let gateway = at(&file, "/services/gateway");
    let grace = humantime::parse_duration(text(gateway, "/stop_grace_period")).expect("a duration");
    assert!(grace > longest_end(&read(CONFIG)));
    assert_eq!(text(gateway, "/restart"), "unless-stopped");
}

#[test]
fn the_gateways_health_is_asked_by_the_program_itself() {
    let file = composition();
    let check = list(&file, "/services/gateway/healthcheck/test");
    let words: Vec<_> = check.iter().filter_map(Json::as_str).collect();
    assert_eq!(words[..2], ["CMD", "/moden-gateway"]);
    assert_understood(&words[2..]);
}

/// Puts one text into the place of another, which must be there.
#[track_caller]
fn replace(all: &str, from: &str, to: &str) -> String {
    assert!(all.contains(from), "there is no {from} in {all}");
    all.replace(from, to)
}

/// The composition without containers: the same command and the same file, but for ports, for
/// folders, and for names that only a network of containers would resolve.
#[test]
fn what_is_composed_pays_over_tls() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let shared = folder.path().join("simulator");
    fs::create_dir(&shared).expect("it is new");
    let shared = shared.display().to_string();
    let secrets = root().join("deploy/compose").display().to_string();
    let configure = |simulator: &str| {
        let file = replace(&read(CONFIG), "0.0.0.0:8080", "127.0.0.1:0");
        let file = replace(&file, "simulator:8081", simulator);
        let file = replace(&file, "/run/secrets", &secrets);
        let file = replace(&file, "/run/simulator", &shared);
        let file = format!("{file}[admin]\naddress = \"127.0.0.1:0\"\n");
        fs::write(folder.path().join("base.toml"), file).expect("it can be written");
    };
    let config = folder.path().display().to_string();
    let run = ["run", "--config", &config];

    // Started before the simulator, it ends at once, for its supervisor to start it again.
    configure("127.0.0.1:1");
    let early = start(&run, &[]).end();
    assert_eq!(early.code, 78, "{}", early.stderr);
    assert!(early.stderr.contains("ca_file"), "{}", early.stderr);

    let file = composition();
    let command = texts(&file, "/services/simulator/command").join("\n");
    let command = replace(&command, "0.0.0.0:8081", "127.0.0.1:0");
    let command = replace(&command, "/run/secrets", &secrets);
    let command = replace(&command, "/run/simulator", &shared);
    let command: Vec<_> = command.lines().collect();
    let mut simulator = start(&command, &[]);
    let told = simulator.stdout.until("sandbox at https://");
    let (_, url) = told.split_once("https://").expect("a URL");
    let (address, _) = url.split_once('/').expect("a path");
    let files: Vec<_> = fs::read_dir(&shared)
        .expect("a folder")
        .map(|file| file.expect("an entry").file_name())
        .collect();
    assert_eq!(files, ["ca.pem"], "nothing unfinished is left");

    configure(address);
    let mut gateway = start(&run, &[]);
    let listening: Json = serde_json::from_str(&gateway.stderr.until("\"listening\""))
        .expect("a line of the log is JSON");
    gateway.stderr.until("the credential is loaded");
    let order = r#"{"coin":"USDT","currency_code":"VND","amount":150000,"sn":"order-1","notify_url":"https://shop.example/notify","timestamp":1700000000}"#;
    let reply = curl(&format!(
        "curl -si http://{}/pay/gateway -H 'Content-Type: application/json' -d '{order}'",
        text(&listening, "/address")
    ));
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    assert!(reply.contains("gateway-outcome: answered"), "{reply}");

    // By its name in the composition: the certificate holds it, and control answers to it.
    let port = port(address);
    let orders = curl(&format!(
        "curl -s --cacert {shared}/ca.pem --resolve simulator:{port}:127.0.0.1 \
         https://simulator:{port}/simulator/orders"
    ));
    let orders: Json = serde_json::from_str(&orders).expect("an answer in JSON");
    assert_eq!(at(&orders, "/committed_total"), 1);
    assert_eq!(text(&orders, "/orders/0/sn"), "order-1");

    gateway.signal(Signal::TERM);
    let ended = gateway.end();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
}
