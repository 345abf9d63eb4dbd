"""The manifests of deploy/kubernetes: valid, confined, and what the images and settings need."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from erasestream.pipeline.settings import load
from tests.deploy.conftest import Service
from tests.deploy.test_compose import STAGES as WITHOUT_KEYS
from tests.paths import ROOT

FOLDER = ROOT / "deploy/kubernetes"
SCHEMAS = json.loads(Path(__file__).with_name("kubernetes.json").read_text())
API = {
    "StatefulSet": "apps/v1",
    "Job": "batch/v1",
    "ConfigMap": "core/v1",
    "PersistentVolumeClaim": "core/v1",
    "Service": "core/v1",
    "ServiceAccount": "core/v1",
    "NetworkPolicy": "networking/v1",
    "PodDisruptionBudget": "policy/v1",
}
"""Group and version of each kind, as the schemas name them."""
CHILD_GB, WORKER_GB, AHEAD_GB = 1.6, 0.2, 1.2
"""Memory of `infer`: docs/isolation.md and docs/hostile.md."""
STAGES = (*WITHOUT_KEYS, "keys")

LAST_CONNECTIONS = {"preStop": {"sleep": {"seconds": 5}}}

Manifest = dict[str, Any]
MANIFESTS: list[Manifest] = [
    manifest
    for path in sorted(FOLDER.glob("*.yaml"))
    for manifest in yaml.safe_load_all(path.read_text())
]
KEYS = {
    "sink": {"erasestream-name-key"},
    "erase": {"erasestream-name-key"},
    "attest": {"erasestream-receipts"},
    "gateway": {"erasestream-gateway-tls", "erasestream-session-key"},
}
"""Secrets of the stages that need more than their identity."""
PODS = {
    m["metadata"]["name"]: m["spec"]["template"]
    for m in MANIFESTS
    if "template" in m.get("spec", {})
}


def of_kind(kind: str) -> dict[str, Manifest]:
    return {m["metadata"]["name"]: m for m in MANIFESTS if m["kind"] == kind}


def container(name: str) -> Manifest:
    (only,) = PODS[name]["spec"]["containers"]
    return dict(only)


def bytes_of(quantity: str) -> int:
    number, unit = quantity[:-2], quantity[-2:]
    return int(number) * {"Mi": 2**20, "Gi": 2**30}[unit]


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    """Write the settings that all stages mount."""
    file = tmp_path / "erasestream.toml"
    file.write_text(of_kind("ConfigMap")["erasestream"]["data"]["erasestream.toml"])
    return file


@pytest.mark.parametrize(
    "manifest", MANIFESTS, ids=lambda m: f"{m['kind']}/{m['metadata']['name']}"
)
def test_manifests_follow_the_schemas_of_kubernetes(manifest: Manifest) -> None:
    """Strictly: a member that Kubernetes does not know would be ignored silently."""
    group, _, version = API[manifest["kind"]].partition("/")
    name = f"io.k8s.api.{group}.{version}.{manifest['kind']}"
    schema = SCHEMAS | {"$ref": f"#/definitions/{name}"}
    jsonschema.Draft7Validator(schema).validate(manifest)
    assert {"apiVersion", "kind", "metadata"} <= manifest.keys()


@pytest.mark.parametrize("name", PODS)
def test_every_pod_is_confined(name: str) -> None:
    """As the Pod Security Standard `restricted` asks, and more: a read-only root, no token."""
    pod, own = PODS[name]["spec"], container(name)
    # Else a new pod would let the group write all master keys, and such a key is refused.
    only_once = {"fsGroupChangePolicy": "OnRootMismatch"} if name == "keys" else {}
    assert pod["securityContext"] == only_once | {
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "runAsGroup": 1000,
        "fsGroup": 1000,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert own["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    # Its variables have the name of the service as their prefix, which is ours.
    assert pod["enableServiceLinks"] is False
    # With equal values nothing of the memory can be swapped out to a disk.
    assert own["resources"]["requests"] == own["resources"]["limits"]
    assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & pod.keys()


@pytest.mark.parametrize("stage", STAGES)
def test_stages_are_probed_from_inside_and_have_time_to_end(stage: str) -> None:
    own = container(stage)
    probe = ["erasestream", "probe", stage]
    assert own["args"] == [stage]
    assert own["startupProbe"]["exec"]["command"] == probe
    assert own["livenessProbe"]["exec"]["command"] == probe
    assert own["readinessProbe"]["exec"]["command"] == [*probe, "--ready"]
    assert "ports" not in own
    # A stage ends within 20 s of SIGTERM, which the gateway gets 5 s later.
    assert own.get("lifecycle") == (LAST_CONNECTIONS if stage == "gateway" else None)
    assert PODS[stage]["spec"]["terminationGracePeriodSeconds"] == 30


def test_images_are_those_of_compose(services: dict[str, Service]) -> None:
    for name in PODS:
        service = "keys-1" if name == "keys" else name
        assert container(name)["image"] == services[service]["image"]


@pytest.mark.parametrize("stage", STAGES)
def test_settings_load_with_the_environment_of_each_stage(
    stage: str, settings_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each member has a name of its own, and where the settings say, files are mounted."""
    variables = {each["name"]: each for each in container(stage)["env"]}
    assert variables.pop("ERASESTREAM_SETTINGS")["value"] == "/etc/erasestream/erasestream.toml"
    instance = variables.pop("ERASESTREAM_STAGE__INSTANCE")
    assert instance["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    for name, each in variables.items():
        monkeypatch.setenv(name, each["value"])
    monkeypatch.setenv("ERASESTREAM_STAGE__INSTANCE", f"{stage}-0")
    settings = load(settings_file)
    mounted = {each["mountPath"] for each in container(stage)["volumeMounts"]}
    assert settings.stage.health_port
    assert str(settings.kafka.identities) in mounted
    assert settings.storage is not None
    assert settings.inference is not None
    assert settings.storage.kms_key  # a folder would need a volume that several nodes mount
    has_name_key = "erasestream-name-key" in KEYS.get(stage, ())
    assert (str(settings.storage.name_key.parent) in mounted) == has_name_key
    assert settings.receipts is not None
    assert settings.receipts.secret is not None
    assert (str(settings.receipts.secret.parent) in mounted) == (stage == "attest")
    assert (str(settings.inference.models) in mounted) == (stage == "infer")
    assert settings.keys is not None
    assert (str(settings.keys.masters) in mounted) == (stage == "keys")
    assert settings.gateway is not None
    assert settings.gateway.session_key is not None
    files = settings.gateway.certificate, settings.gateway.certificate_key
    for file in (*files, settings.gateway.session_key):
        assert (str(file.parent) in mounted) == (stage == "gateway")
    assert settings.epochs()


def test_every_pod_mounts_its_own_identity_read_only() -> None:
    """And no other's; nothing but models, master keys of epochs and `/tmp` can be written."""
    for name in PODS:
        pod = PODS[name]["spec"]
        secrets = {v["name"]: v["secret"] for v in pod["volumes"] if "secret" in v}
        keys = KEYS.get(name, set())
        identity = set() if name == "model" else {f"erasestream-{name}"}
        assert {secret["secretName"] for secret in secrets.values()} == keys | identity
        assert all(secret["defaultMode"] == 0o440 for secret in secrets.values())
        mounts = container(name)["volumeMounts"]
        writable = {m["mountPath"] for m in mounts if not m.get("readOnly")}
        own = {"model": {"/var/lib/erasestream/models"}, "keys": {"/var/lib/erasestream/masters"}}
        assert writable == {"/tmp", *own.get(name, ())}  # noqa: S108 (in memory)
        assert not any("subPath" in mount for mount in mounts)


def test_a_worker_has_the_memory_of_its_children() -> None:
    own = container("infer")
    (children,) = (int(e["value"]) for e in own["env"] if e["name"].endswith("CHILDREN"))
    assert own["resources"]["limits"]["cpu"] == str(children)
    needed = children * CHILD_GB + WORKER_GB + AHEAD_GB
    assert bytes_of(own["resources"]["limits"]["memory"]) >= needed * 1e9


def test_drained_nodes_take_one_member_of_a_stage_at_a_time() -> None:
    """Of each stage that has several; its label selects the pods."""
    several = {name: m for name, m in of_kind("StatefulSet").items() if m["spec"]["replicas"] > 1}
    budgets = of_kind("PodDisruptionBudget")
    assert budgets.keys() == {f"erasestream-{name}" for name in several}
    for name, manifest in several.items():
        spec = budgets[f"erasestream-{name}"]["spec"]
        assert spec["maxUnavailable"] == 1
        assert spec["selector"] == manifest["spec"]["selector"]


def test_only_those_that_use_buckets_reach_more_than_the_brokers(settings_file: Path) -> None:
    """No connection to a stage is allowed, but to the key service from those that need keys.

    And to the gateway's one port, from customers.
    """
    policies = of_kind("NetworkPolicy")
    everyone = policies["erasestream"]["spec"]
    assert everyone["podSelector"] == {"matchLabels": {"app": "erasestream"}}
    assert everyone["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in everyone
    ports = {
        int(server.rpartition(":")[2]) for server in load(settings_file).kafka.bootstrap_servers
    }
    assert {p["port"] for rule in everyone["egress"] for p in rule["ports"]} == {53, *ports}
    labels = {name: pod["metadata"]["labels"] for name, pod in PODS.items()}
    assert all(labels[name]["app"] == "erasestream" for name in (*STAGES, "provision"))
    assert {name for name in PODS if labels[name].get("storage")} == {
        "sink",
        "erase",
        "attest",
        "rotate",
        "keys",
    }
    assert {name for name in PODS if labels[name].get("keys")} == {"infer", "sink", "gateway"}
    settings = load(settings_file)
    keys, gateway = settings.keys, settings.gateway
    assert keys is not None
    assert gateway is not None
    own = of_kind("StatefulSet")["keys"]["spec"]
    pods = [f"keys-{number}.{own['serviceName']}" for number in range(own["replicas"])]
    assert keys.endpoints == tuple(f"https://{pod}:{keys.listen_port}" for pod in pods)
    listening = {name for name, policy in policies.items() if "ingress" in policy["spec"]}
    assert listening == {"erasestream-keys", "erasestream-gateway"}
    (rule,) = policies["erasestream-keys"]["spec"]["ingress"]
    assert rule["ports"] == [{"port": keys.listen_port, "protocol": "TCP"}]
    open_port = {"port": gateway.listen_port, "protocol": "TCP"}
    assert policies["erasestream-gateway"]["spec"]["ingress"] == [{"ports": [open_port]}]
    (port,) = of_kind("Service")["erasestream-gateway"]["spec"]["ports"]
    assert port["targetPort"] == gateway.listen_port


def test_the_secrets_of_the_page_are_those_that_are_mounted() -> None:
    page = (ROOT / "docs/kubernetes.md").read_text()
    mounted = {
        volume["secret"]["secretName"]
        for pod in PODS.values()
        for volume in pod["spec"]["volumes"]
        if "secret" in volume
    }
    assert all(f"| `{name}` |" in page for name in mounted)
