//! The units, read strictly: systemd only warns of a key that it does not know, and goes on.

use std::time::Duration;

use moden_gateway::secret::Source;

use super::{assert_understood, configuration, longest_end, read};

/// Where docs/operations.md has the program installed.
const PROGRAM: &str = "/usr/local/bin/moden-gateway";

const CONFIG: &str = "deploy/systemd/gateway.toml";

/// Every section and key that we mean to use; another is a mistake in writing.
///
/// # Source
/// systemd.unit(5), systemd.service(5), systemd.socket(5), systemd.exec(5),
/// systemd.resource-control(5), systemd.kill(5), of systemd 252.
const KNOWN: [(&str, &[&str]); 4] = [
    ("Unit", &["Description", "Requires", "After", "Wants"]),
    ("Socket", &["ListenStream", "FileDescriptorName", "Backlog"]),
    ("Install", &["WantedBy"]),
    (
        "Service",
        &[
            "Type",
            "NotifyAccess",
            "WatchdogSec",
            "ExecStart",
            "Restart",
            "RestartSec",
            "RestartPreventExitStatus",
            "TimeoutStartSec",
            "TimeoutStopSec",
            "LoadCredential",
            "StandardOutput",
            "StandardError",
            "LogRateLimitIntervalSec",
            "DynamicUser",
            "UMask",
            "NoNewPrivileges",
            "CapabilityBoundingSet",
            "AmbientCapabilities",
            "RestrictSUIDSGID",
            "PrivateUsers",
            "KeyringMode",
            "LimitCORE",
            "LimitNOFILE",
            "TasksMax",
            "ProtectSystem",
            "ProtectHome",
            "PrivateTmp",
            "PrivateMounts",
            "PrivateDevices",
            "DevicePolicy",
            "PrivateIPC",
            "RemoveIPC",
            "ProtectProc",
            "ProtectClock",
            "ProtectHostname",
            "ProtectControlGroups",
            "ProtectKernelLogs",
            "ProtectKernelModules",
            "ProtectKernelTunables",
            "NoExecPaths",
            "ExecPaths",
            "MemoryDenyWriteExecute",
            "LockPersonality",
            "RestrictNamespaces",
            "RestrictRealtime",
            "RestrictAddressFamilies",
            "SystemCallArchitectures",
            "SystemCallFilter",
            "SystemCallErrorNumber",
        ],
    ),
];

/// The lines of a unit: section, key and value.
struct Unit(Vec<(String, String, String)>);

impl Unit {
    fn read(name: &str) -> Self {
        let mut lines = Vec::new();
        let mut section = "";
        let file = read(&format!("deploy/systemd/{name}"));
        for line in file.lines() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(name) = line
                .strip_prefix('[')
                .and_then(|line| line.strip_suffix(']'))
            {
                section = name;
                continue;
            }
            let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{line}"));
            let known = KNOWN.iter().find(|(known, _)| *known == section);
            let keys = known.unwrap_or_else(|| panic!("[{section}]")).1;
            assert!(keys.contains(&key), "[{section}] {line}");
            lines.push((section.to_owned(), key.to_owned(), value.to_owned()));
        }
        Self(lines)
    }

    /// All values of a key, in order.
    fn all(&self, section: &str, key: &str) -> Vec<&str> {
        let lines = self.0.iter();
        let values = lines.filter(|line| line.0 == section && line.1 == key);
        values.map(|line| line.2.as_str()).collect()
    }

    /// The value of a key that stands there once.
    #[track_caller]
    fn one(&self, section: &str, key: &str) -> &str {
        let values = self.all(section, key);
        assert_eq!(values.len(), 1, "[{section}] {key}");
        values[0]
    }

    #[track_caller]
    fn duration(&self, key: &str) -> Duration {
        humantime::parse_duration(self.one("Service", key)).expect("a duration")
    }
}

#[test]
fn the_service_runs_the_program_and_tells_how_it_is() {
    let service = Unit::read("moden-gateway.service");
    let mut command = service.one("Service", "ExecStart").split(' ');
    assert_eq!(command.next(), Some(PROGRAM));
    assert_understood(&command.collect::<Vec<_>>());
    assert_eq!(service.one("Service", "ExecPaths"), PROGRAM);
    assert_eq!(service.one("Service", "Type"), "notify");
    assert_eq!(service.one("Service", "NotifyAccess"), "main");
    assert!(
        service.duration("WatchdogSec") > Duration::from_secs(5),
        "a core may pause so long"
    );
    // Usage and configuration.
    let hopeless = service.one("Service", "RestartPreventExitStatus");
    assert_eq!(hopeless, "64 78");
    let socket = service.one("Unit", "Requires");
    assert_eq!(socket, "moden-gateway.socket");
    Unit::read(socket);
}

#[test]
fn the_service_can_do_nothing_but_serve() {
    let service = Unit::read("moden-gateway.service");
    for key in [
        "DynamicUser",
        "NoNewPrivileges",
        "PrivateTmp",
        "PrivateDevices",
        "PrivateUsers",
        "ProtectHome",
        "ProtectControlGroups",
        "ProtectKernelLogs",
        "ProtectKernelModules",
        "ProtectKernelTunables",
        "MemoryDenyWriteExecute",
        "LockPersonality",
        "RestrictNamespaces",
        "RestrictRealtime",
        "RestrictSUIDSGID",
    ] {
        assert_eq!(service.one("Service", key), "yes", "{key}");
    }
    for (key, value) in [
        ("ProtectSystem", "strict"),
        ("CapabilityBoundingSet", ""),
        ("AmbientCapabilities", ""),
        ("LimitCORE", "0"),
        ("UMask", "0077"),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
        ("SystemCallArchitectures", "native"),
    ] {
        assert_eq!(service.one("Service", key), value, "{key}");
    }
    assert_eq!(
        service.all("Service", "SystemCallFilter"),
        ["@system-service", "~@privileged @resources"]
    );
}

#[test]
fn the_configuration_uses_the_socket_and_the_credentials_of_the_units() {
    let service = Unit::read("moden-gateway.service");
    let socket = Unit::read("moden-gateway.socket");
    let config = configuration(&read(CONFIG));
    let addresses: Vec<_> = config
        .listeners
        .iter()
        .map(|listener| listener.address.to_string())
        .collect();
    let name = socket.one("Socket", "FileDescriptorName");
    assert_eq!(addresses, [format!("systemd:{name}")]);
    let reached = socket.one("Socket", "ListenStream");
    assert!(
        reached.starts_with("127.0.0.1:"),
        "only this machine reaches {reached}"
    );

    let passed: Vec<_> = service
        .all("Service", "LoadCredential")
        .iter()
        .map(|line| line.split_once(':').expect("a name and a path").0)
        .map(|name| Some(Source::Credential(name.to_owned())))
        .collect();
    let selected = config.selected();
    assert_eq!(passed, [selected.app_id.clone(), selected.secret.clone()]);

    let files = service.one("Service", "LimitNOFILE").parse::<usize>();
    let connections: usize = config
        .listeners
        .iter()
        .map(|listener| listener.max_connections)
        .sum();
    assert!(files.is_ok_and(|files| files > connections + 2 * config.upstream.max_connections));
}

#[test]
fn the_service_is_given_time_to_end() {
    let service = Unit::read("moden-gateway.service");
    assert!(service.duration("TimeoutStopSec") > longest_end(&read(CONFIG)));
}
