//! The gateway as a sidecar and as a shared service on Kubernetes.

use std::time::Duration;

use moden_gateway::config::{Config, ListenAddress};
use moden_gateway::secret::Source;
use serde_json::{Value as Json, json};

use super::{
    CONFIG_FOLDER, IMAGE, assert_understood, at, configuration, drain_delay, list, longest_end,
    read, text, texts, yaml,
};

const SIDECAR: &str = "deploy/kubernetes/sidecar.yaml";
const SHARED: &str = "deploy/kubernetes/shared.yaml";

/// The manifests of a file, in order.
struct Manifests(Vec<Json>);

impl Manifests {
    fn read(path: &str) -> Self {
        Self(yaml(path))
    }

    fn kinds(&self) -> Vec<&str> {
        self.0.iter().map(|one| text(one, "/kind")).collect()
    }

    /// The one of this kind.
    #[track_caller]
    fn of(&self, kind: &str) -> &Json {
        let mut found = self.0.iter().filter(|one| text(one, "/kind") == kind);
        let first = found.next().unwrap_or_else(|| panic!("there is no {kind}"));
        assert!(found.next().is_none(), "there are two of kind {kind}");
        first
    }

    fn pod(&self) -> &Json {
        at(self.of("Deployment"), "/spec/template/spec")
    }

    fn labels(&self) -> &Json {
        at(self.of("Deployment"), "/spec/template/metadata/labels")
    }

    /// Sidecars and others.
    fn containers(&self) -> impl Iterator<Item = &Json> {
        let pod = self.pod();
        let sidecars = pod.pointer("/initContainers").and_then(Json::as_array);
        let sidecars = sidecars.into_iter().flatten();
        sidecars.chain(list(pod, "/containers"))
    }

    /// The container that holds the credential.
    fn gateway(&self) -> &Json {
        let mut found = self
            .containers()
            .filter(|container| text(container, "/name") == "gateway");
        found.next().expect("there is one")
    }

    /// `base.toml`, by way of the volume that is mounted where the program looks.
    fn base(&self) -> &str {
        let volume = self.volume_at(CONFIG_FOLDER);
        let name = text(volume, "/configMap/name");
        let map = self.of("ConfigMap");
        assert_eq!(text(map, "/metadata/name"), name);
        text(map, "/data/base.toml")
    }

    fn config(&self) -> Config {
        configuration(self.base())
    }

    /// The volume that the gateway has at a folder.
    #[track_caller]
    fn volume_at(&self, folder: &str) -> &Json {
        let mount = named(self.gateway(), "/volumeMounts", "/mountPath", folder);
        assert!(mount.get("subPath").is_none(), "it would never change");
        assert_eq!(at(mount, "/readOnly"), true);
        named(self.pod(), "/volumes", "/name", text(mount, "/name"))
    }

    /// A setting of the container's security, or else of its pod's.
    fn security<'a>(&'a self, container: &'a Json, key: &str) -> &'a Json {
        let pointer = format!("/securityContext/{key}");
        let own = container.pointer(&pointer);
        own.or_else(|| self.pod().pointer(&pointer))
            .unwrap_or(&Json::Null)
    }
}

/// The element of a list that has a value at a key.
#[track_caller]
fn named<'a>(owner: &'a Json, pointer: &str, key: &str, value: &str) -> &'a Json {
    let mut found = list(owner, pointer)
        .iter()
        .filter(|one| text(one, key) == value);
    found
        .next()
        .unwrap_or_else(|| panic!("nothing in {pointer} has {key} {value}"))
}

fn tcp_port(address: &ListenAddress) -> u16 {
    match address {
        ListenAddress::Tcp(address) => address.port(),
        other => panic!("{other} has no port"),
    }
}

#[test]
fn every_pod_is_restricted() {
    for path in [SIDECAR, SHARED] {
        let manifests = Manifests::read(path);
        let pod = manifests.pod();
        assert_eq!(at(pod, "/automountServiceAccountToken"), false);
        for key in ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"] {
            assert!(pod.get(key).is_none(), "{key}");
        }
        for container in manifests.containers() {
            for (key, value) in [
                ("runAsNonRoot", json!(true)),
                ("seccompProfile", json!({ "type": "RuntimeDefault" })),
                ("allowPrivilegeEscalation", json!(false)),
                ("readOnlyRootFilesystem", json!(true)),
                ("capabilities", json!({ "drop": ["ALL"] })),
            ] {
                assert_eq!(manifests.security(container, key), &value, "{path}: {key}");
            }
            at(container, "/resources/requests/cpu");
            at(container, "/resources/limits/memory");
        }
    }
}

#[test]
fn the_gateway_is_the_image_with_a_command_that_it_knows() {
    for path in [SIDECAR, SHARED] {
        let manifests = Manifests::read(path);
        let gateway = manifests.gateway();
        let image = text(gateway, "/image")
            .rsplit_once('/')
            .expect("a registry");
        assert_eq!(image.1, IMAGE);
        assert_understood(&texts(gateway, "/args"));
    }
}

#[test]
fn only_the_gateway_reads_the_credential_and_all_of_it_is_there() {
    for path in [SIDECAR, SHARED] {
        let manifests = Manifests::read(path);
        let config = manifests.config();
        let folder = "/run/secrets/moden";
        let volume = manifests.volume_at(folder);
        let secret = text(volume, "/secret/secretName");
        for (source, key) in [
            (&config.selected().app_id, "app-id"),
            (&config.selected().secret, "secret"),
        ] {
            let file = Source::File(format!("{folder}/{key}").into());
            assert_eq!(source, &Some(file));
        }
        // How it is made, in the file's own words.
        let made = format!("{secret} --from-file=app-id --from-file=secret\n");
        assert!(read(path).contains(&made), "{path}");

        // In production the group's is read only by a process of that group.
        assert_eq!(at(volume, "/secret/defaultMode"), 0o440);
        let group = at(manifests.pod(), "/securityContext/fsGroup");
        let gateway = manifests.gateway();
        assert_eq!(manifests.security(gateway, "runAsGroup"), group);
        assert_eq!(manifests.security(gateway, "runAsUser"), 65532);
        let name = text(volume, "/name");
        for container in manifests.containers() {
            let mounts = container.pointer("/volumeMounts").and_then(Json::as_array);
            let mut mounts = mounts.into_iter().flatten();
            let is_mounted = mounts.any(|mount| text(mount, "/name") == name);
            assert_eq!(is_mounted, container == gateway);
        }
    }
}

#[test]
fn probes_reach_the_admin_listener_where_it_is() {
    for path in [SIDECAR, SHARED] {
        let manifests = Manifests::read(path);
        let config = manifests.config();
        assert!(
            config.admin.address.ip().is_unspecified(),
            "the kubelet is outside of the pod"
        );
        let gateway = manifests.gateway();
        for (probe, path) in [
            ("startupProbe", "/readyz"),
            ("readinessProbe", "/readyz"),
            ("livenessProbe", "/livez"),
        ] {
            let request = at(gateway, &format!("/{probe}/httpGet"));
            assert_eq!(text(request, "/path"), path);
            assert!(request.get("host").is_none(), "that would be the node's");
            let port = named(gateway, "/ports", "/name", text(request, "/port"));
            assert_eq!(at(port, "/containerPort"), config.admin.address.port());
        }
    }
}

#[test]
fn the_gateway_is_given_time_to_end() {
    for path in [SIDECAR, SHARED] {
        let manifests = Manifests::read(path);
        let grace = at(manifests.pod(), "/terminationGracePeriodSeconds");
        let grace = Duration::from_secs(grace.as_u64().expect("seconds"));
        assert!(grace > longest_end(manifests.base()), "{path}");
    }
}

#[test]
fn a_sidecar_outlives_the_containers_that_call_it_and_serves_nobody_else() {
    let manifests = Manifests::read(SIDECAR);
    assert_eq!(manifests.kinds(), ["ConfigMap", "Deployment"]);
    let sidecar = at(manifests.pod(), "/initContainers/0");
    assert_eq!(sidecar, manifests.gateway());
    assert_eq!(text(sidecar, "/restartPolicy"), "Always");
    // Whoever calls it has ended before it is told to.
    assert_eq!(drain_delay(manifests.base()), Duration::ZERO);

    let config = manifests.config();
    assert!(
        config
            .listeners
            .iter()
            .all(|listener| listener.address.is_local())
    );
    let address = &config.listeners[0].address;
    let caller = at(manifests.pod(), "/containers/0/env/0");
    assert_eq!(
        caller,
        &json!({ "name": "GATEWAY", "value": format!("http://{address}") })
    );
}

#[test]
fn a_shared_gateway_is_found_by_its_service_and_reached_by_those_who_may() {
    let manifests = Manifests::read(SHARED);
    assert_eq!(
        manifests.kinds(),
        [
            "ConfigMap",
            "Deployment",
            "Service",
            "PodDisruptionBudget",
            "NetworkPolicy"
        ]
    );
    let config = manifests.config();
    let port = tcp_port(&config.listeners[0].address);
    let labels = manifests.labels();
    let service = manifests.of("Service");
    for (manifest, selector) in [
        ("Deployment", "/spec/selector/matchLabels"),
        ("Service", "/spec/selector"),
        ("PodDisruptionBudget", "/spec/selector/matchLabels"),
        ("NetworkPolicy", "/spec/podSelector/matchLabels"),
    ] {
        assert_eq!(at(manifests.of(manifest), selector), labels, "{manifest}");
    }
    let target = text(service, "/spec/ports/0/targetPort");
    let named = named(manifests.gateway(), "/ports", "/name", target);
    assert_eq!(at(named, "/containerPort"), port);

    let policy = manifests.of("NetworkPolicy");
    let open = |rule: usize| at(policy, &format!("/spec/ingress/{rule}/ports/0/port"));
    assert_eq!(texts(policy, "/spec/policyTypes"), ["Ingress", "Egress"]);
    assert_eq!(
        (open(0), open(1)),
        (&json!(port), &json!(config.admin.address.port()))
    );
    let moden = config.selected().base_url.port();
    assert_eq!(at(policy, "/spec/egress/1/ports/0/port"), moden);
    // New connections come until every node has learned that the pod is going.
    assert!(drain_delay(manifests.base()) >= Duration::from_secs(5));
}
