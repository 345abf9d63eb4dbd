"""docker-compose.yml: valid, confined, and the same system as the embedded stack.

Needs no Docker: the file is read as data.
"""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from erasestream.pipeline.devstack.gcs_emulator.server import BucketSettings
from erasestream.pipeline.devstack.kafka.broker_config import properties, single
from erasestream.pipeline.devstack.kafka.java_launcher import DIRECT_MB, HEAP_MB
from erasestream.pipeline.devstack.stack_files import GATEWAY_HOST, IMAGE_BUCKET, VAULT_BUCKET
from erasestream.pipeline.settings import Settings, load
from erasestream.sinks.buckets.access_policy import IMAGES, VAULT
from tests.deploy.conftest import COMPOSE, ROOT, Service, mounts

ADDRESSES_AND_PATHS = {
    "advertised.listeners",
    "controller.quorum.bootstrap.servers",
    "listeners",
    "log.dirs",
    "ssl.keystore.location",
    "ssl.truststore.location",
}
STAGES = {
    name: name
    for name in ("infer", "route", "sink", "purge", "erase", "attest", "rotate", "gateway")
}
KEY_SERVICE = ("keys-1", "keys-2")
MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"
SETTINGS_FILE = COMPOSE / "erasestream.toml"


def read_properties(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def environment(service: Service) -> dict[str, str]:
    """Return the settings in the environment of a service."""
    variables = service.get("environment", {})
    return {name: value for name, value in variables.items() if name.startswith("ERASESTREAM_")}


def test_the_file_follows_the_compose_specification(document: dict[str, Any]) -> None:
    schema = json.loads(Path(__file__).with_name("compose-spec.json").read_text())
    jsonschema.Draft7Validator(schema).validate(document)


def test_every_service_is_confined(services: dict[str, Service]) -> None:
    """Unprivileged user, read-only root, no capability, no new privileges, no core dump."""
    for name, service in services.items():
        assert service["user"] == "1000:1000", name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["ulimits"] == {"core": 0}, name
        # With equal limits nothing of the memory can be swapped out to a disk.
        assert service["mem_limit"] == service["memswap_limit"], name
        assert not {"privileged", "cap_add", "devices", "pid", "ipc"} & service.keys(), name


def test_no_service_is_reachable_from_outside(
    document: dict[str, Any], services: dict[str, Service]
) -> None:
    """The gateway's port is, on loopback; no service with a key has a network to the internet."""
    networks = document["networks"]
    for name, service in services.items():
        published = {"ports", "expose"} & service.keys()
        assert published == ({"ports"} if name == "gateway" else set()), name
        closed = set(service.get("networks", ())) - {"download", "customers"}
        assert all(networks[network]["internal"] for network in closed), name
        has_network = "networks" in service or service.get("network_mode") == "none"
        assert has_network, name  # else it would join one that leads outside
    assert [n for n, s in services.items() if "download" in s.get("networks", ())] == ["model"]
    assert [n for n, s in services.items() if "customers" in s.get("networks", ())] == ["gateway"]
    assert networks["customers"]["driver_opts"] == {MASQUERADE: "false"}
    settings = load(SETTINGS_FILE).gateway
    assert settings is not None
    port = settings.listen_port
    assert services["gateway"]["ports"] == [f"{GATEWAY_HOST}:{port}:{port}"]
    assert list(mounts(services["model"])) == ["models"]


OWN = re.compile(r"erasestream-(cli|sink|worker|gateway|model|local):\d+\.\d+\.\d+")
PINNABLE = re.compile(r"\$\{(\w+):-([a-z/-]+:\d+\.?[\w.-]*)\}")
"""A variable of `.env`, and the image that is used without it: a tag with a version."""


def test_images_are_pinned(services: dict[str, Service]) -> None:
    """Every base image has a version, never `latest`, and a variable that pins it by digest."""
    images = {service["image"] for service in services.values()}
    arguments = services["route"]["build"]["args"]
    found = dict(PINNABLE.findall(" ".join([*images, *arguments.values()])))
    assert {image for image in images if not OWN.fullmatch(image)} == {services["kafka"]["image"]}
    assert found["KAFKA_IMAGE"] == "apache/kafka:4.4.0"
    text = (ROOT / "Dockerfile").read_text()
    declared = dict(re.findall(r"(?m)^ARG (\w+)=(\S+)$", text))
    assert declared == {name: found[name] for name in arguments}
    stages = re.findall(r"(?m)^FROM \S+ AS (\S+)", text)
    bases = {*re.findall(r"(?m)^FROM (\S+)", text)} - {*stages}
    assert bases == {f"${{{name}}}" for name in declared}
    for service in services.values():
        if build := service.get("build"):
            assert service["image"].startswith(f"erasestream-{build['target']}:")
            assert build["target"] in stages
            assert build["args"] == arguments
    documented = (COMPOSE / "README.md").read_text()
    assert all(f"{name}={image}@sha256:" in documented for name, image in found.items())


def test_no_service_has_the_keys_of_another(services: dict[str, Service]) -> None:
    """Each mounts its own volume of identities, read-only; only `setup` mounts the others."""
    for name, service in services.items():
        found = {
            volume: target for volume, target in mounts(service).items() if "identity" in volume
        }
        if name == "setup":
            expected = {
                f"{n}-identity": f"/hand-out/{n}" for n in services if n not in {"setup", "model"}
            }
        else:
            expected = {} if name == "model" else {f"{name}-identity": "/stack:ro"}
        assert found == expected, name
    assert [n for n, s in services.items() if "authority" in mounts(s)] == ["setup"]


def test_the_image_has_a_mount_point_for_each_volume(services: dict[str, Service]) -> None:
    """A volume takes the owner of its mount point."""
    dockerfile = (ROOT / "Dockerfile").read_text().split()
    for service in services.values():
        if service["image"].startswith("erasestream"):
            targets = {target.partition(":")[0] for target in mounts(service).values()}
            assert targets <= set(dockerfile)


def test_exactly_the_used_volumes_networks_and_configs_are_declared(
    document: dict[str, Any], services: dict[str, Service]
) -> None:
    """The files of the configs exist."""
    used = {name for service in services.values() for name in mounts(service)}
    assert used == set(document["volumes"])
    networks = {name for service in services.values() for name in service.get("networks", ())}
    assert networks == set(document["networks"])
    configs = {c["source"] for service in services.values() for c in service.get("configs", ())}
    assert configs == set(document["configs"])
    assert all((ROOT / config["file"]).is_file() for config in document["configs"].values())


def test_the_settings_load_with_the_environment_of_each_service(
    services: dict[str, Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    for service in services.values():
        variables = environment(service)
        names = {name.removeprefix("ERASESTREAM_").partition("__")[0].lower() for name in variables}
        assert names <= {"settings", "cache", *Settings.model_fields}
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            settings = load(SETTINGS_FILE)
        assert settings.catalog().lane_names == ("shop", "bulk", "web")


def test_the_settings_match_the_compose_file(services: dict[str, Service]) -> None:
    """Addresses, paths and ports."""
    settings = load(SETTINGS_FILE)
    assert settings.kafka.bootstrap_servers == (f"{services['kafka']['hostname']}:9092",)
    assert settings.storage is not None
    assert settings.inference is not None
    assert settings.storage.endpoint == f"https://{services['bucket']['hostname']}:9443"
    assert {settings.storage.bucket, settings.storage.vault} == {IMAGE_BUCKET, VAULT_BUCKET}
    assert settings.keys is not None
    assert settings.keys.endpoints == tuple(
        f"https://{services[name]['hostname']}:{settings.keys.listen_port}" for name in KEY_SERVICE
    )
    for name in KEY_SERVICE:
        assert mounts(services[name])["masters"] == str(settings.keys.masters)
        assert services[name]["command"] == ["keys"]
    paths = [settings.kafka.identities, settings.storage.name_key]
    assert all(path.parent == Path("/stack") for path in paths)
    assert settings.receipts is not None
    keys = settings.receipts.model_dump(exclude_none=True).values()
    assert all(Path(key).parent == Path("/stack/receipts") for key in keys)
    assert settings.gateway is not None
    assert settings.gateway.session_key == Path("/stack/session.key")
    files = settings.gateway.certificate, settings.gateway.certificate_key
    assert {path.parent for path in files} == {settings.kafka.identities}
    assert mounts(services["infer"])["models"] == f"{settings.inference.models}:ro"
    assert mounts(services["model"])["models"] == str(settings.inference.models)


def test_stages_run_their_command_after_provisioning(services: dict[str, Service]) -> None:
    """Each is probed on the loopback of its container, where it has a port."""
    assert load(SETTINGS_FILE).stage.health_port
    for name, command in STAGES.items():
        service = services[name]
        assert service["command"] == [command]
        assert "provision" in service["depends_on"]
        assert service["healthcheck"]["test"] == ["CMD", "erasestream", "probe", command]
        assert service["restart"] == "on-failure"


def test_only_the_key_service_has_the_master_keys_of_epochs(services: dict[str, Service]) -> None:
    """Its replicas need no topics, so that no stage has to wait for them."""
    assert {n for n, s in services.items() if "masters" in mounts(s)} == {*KEY_SERVICE}
    for name in KEY_SERVICE:
        assert services[name]["depends_on"].keys() == {"bucket"}
        assert services[name]["healthcheck"]["test"] == ["CMD", "erasestream", "probe", "keys"]
        assert services[name]["build"]["target"] == "sink"


def test_the_rotator_alone_changes_the_master_keys_of_grants(services: dict[str, Service]) -> None:
    """Sink and reader see the versions that it adds and destroys; `setup` puts the first there."""
    folder = load(SETTINGS_FILE).storage.keyring  # type: ignore[union-attr]
    found = {name: mounts(s)["keyring"] for name, s in services.items() if "keyring" in mounts(s)}
    assert found == {
        "setup": "/hand-out/keyring",
        "sink": f"{folder}:ro",
        "retained": f"{folder}:ro",
        "rotate": f"{folder}",
    }


def test_stages_run_from_the_image_with_what_they_need(services: dict[str, Service]) -> None:
    """No stage has code that it does not need; only set-up and the local bucket have the stack."""
    targets = {
        name: service["build"]["target"] for name, service in services.items() if "build" in service
    }
    assert {name: targets[name] for name in STAGES} == {
        "infer": "worker",
        "route": "cli",
        "sink": "sink",
        "purge": "cli",
        "erase": "sink",
        "attest": "sink",
        "rotate": "sink",
        "gateway": "gateway",
    }
    assert {name for name, target in targets.items() if target == "local"} == {"setup", "bucket"}


def test_health_checks_work_in_every_engine(services: dict[str, Service]) -> None:
    """One line for each argument, no shell, and no option of newer engines only."""
    for name, service in services.items():
        check = service.get("healthcheck", {})
        assert "start_interval" not in check, name
        test = check.get("test", ["CMD"])
        assert test[0] == "CMD", name
        assert not any("\n" in argument for argument in test), name
        if "python" in test:
            compile(test[-1], "healthcheck", "exec")


def test_the_model_is_installed_with_the_memory_that_it_takes(
    services: dict[str, Service],
) -> None:
    """Its calibration takes 3.8 GB (docs/decisions/0013)."""
    assert services["model"]["mem_limit"] == "4g"


def test_the_broker_has_the_embedded_brokers_settings() -> None:
    """Entry for entry, except for addresses and paths."""
    found = read_properties(COMPOSE / "server.properties")
    embedded = properties(
        single(port=9092, controller_port=9093, random=bytes(16)),
        data=Path("/d"),
        keystore=Path("/k"),
        truststore=Path("/t"),
    )
    assert {name for name in embedded if found.get(name) != embedded[name]} == ADDRESSES_AND_PATHS
    assert found.keys() == embedded.keys()
    for name in ("advertised.listeners", "controller.quorum.bootstrap.servers", "listeners"):
        assert found[name].replace("kafka:", "127.0.0.1:") == embedded[name]


def test_the_brokers_settings_match_its_mounts(services: dict[str, Service]) -> None:
    """Data, keys and scripts are where volumes and configs put them, in bounded memory."""
    kafka = services["kafka"]
    found = read_properties(COMPOSE / "server.properties")
    assert mounts(kafka)["kafka-data"] == found["log.dirs"]
    assert found["ssl.keystore.location"] == "/stack/identities/broker.pem"
    targets = {config["target"] for config in kafka["configs"]}
    assert {kafka["entrypoint"][-1], "/etc/erasestream/server.properties"} <= targets
    script = (COMPOSE / "kafka.sh").read_text()
    assert "umask 077" in script
    assert f"-Xmx{HEAP_MB}m -XX:MaxDirectMemorySize={DIRECT_MB}m" in script


def test_the_bucket_has_the_embedded_buckets_policy(services: dict[str, Service]) -> None:
    """Data and certificate are where they are mounted."""
    found = BucketSettings.model_validate_json((COMPOSE / "bucket.json").read_bytes())
    assert found.buckets == {IMAGE_BUCKET: IMAGES, VAULT_BUCKET: VAULT}
    assert mounts(services["bucket"])["bucket-data"] == str(found.data)
    assert found.certificate == Path("/stack/identities/bucket.crt")
    assert found.port_file.parent == Path("/tmp")  # noqa: S108 (the only place it may write)
