"""Every import contract of pyproject.toml holds, and fails when its rule is broken.

One test builds the import graph once and adds one forbidden import to it for each contract.
"""

from copy import deepcopy

import grimp
import pytest
from importlinter.api import read_configuration
from importlinter.application.use_cases import _register_contract_types, read_user_options
from importlinter.domain.contract import Contract, registry

from tests.paths import ROOT

CONFIGURATION = str(ROOT / "pyproject.toml")
CONTRACTS = {
    options["name"]: options for options in read_configuration(CONFIGURATION)["contracts_options"]
}
STAGES = "pipeline.stages"

FORBIDDEN = {
    "schemas <- topics <- sinks <- pipeline": ("schemas.ids", "topics.kafka.tls"),
    "No folder and no module imports in a cycle": ("topics.kafka.tls", "topics.kafka.connection"),
    "schemas do no I/O and read no clock": ("schemas.ids", "os"),
    "topics: catalog <- kafka <- consent, keys <- credentials, index <- client, admin": (
        "topics.catalog.catalog",
        "topics.kafka.connection",
    ),
    "pipeline: the composition root is above the stages, the commands above all": (
        f"{STAGES}.purge.stage",
        "pipeline.devstack.stack",
    ),
    "Only commands, devstack and demo import the composition root": (
        f"{STAGES}.purge.stage",
        "pipeline.bootstrap.storage",
    ),
    "Stages do not import each other": (f"{STAGES}.purge.stage", f"{STAGES}.erasure.stage"),
    "Stages take plain values: only composition and commands read settings": (
        f"{STAGES}.purge.stage",
        "pipeline.settings",
    ),
    "settings import no stage": ("pipeline.settings", f"{STAGES}.purge.stage"),
    "The client libraries reach no keys, models or buckets": (
        "topics.client.upload_producer",
        "cryptography",
    ),
    "The router's process holds no key: it has no cryptography to use one": (
        f"{STAGES}.routing.retention",
        "schemas.sealing.envelope",
    ),
    "confluent_kafka: topics.kafka": ("topics.consent.writer", "confluent_kafka"),
    "faust and aiokafka: the inference worker": (f"{STAGES}.routing.router", "aiokafka"),
    "onnxruntime and onnx: the inference models": ("pipeline.bootstrap.inference", "onnxruntime"),
    "PIL, isal and simplejpeg: the inference imaging; the resize before the model; "
    "the images of the reader": (
        f"{STAGES}.inference.worker.record_parser",
        "PIL",
    ),
    "numpy: imaging and models": (f"{STAGES}.inference.worker.record_parser", "numpy"),
    "cryptography: the envelope, keys, signatures of the log, the development authority": (
        "sinks.images.image_writer",
        "cryptography",
    ),
    "google: buckets and keys": ("sinks.images.image_writer", "google"),
    "google_crc32c: buckets, keys, and the buckets' emulator": (
        "sinks.images.image_writer",
        "google_crc32c",
    ),
    "grpc: Cloud KMS": ("sinks.buckets.gcs", "grpc"),
    "starlette and uvicorn: the gateway and the bucket emulator": (
        "pipeline.devstack.stack",
        "uvicorn",
    ),
    "multipart: the gateway's bodies": ("pipeline.gateway.app", "multipart"),
    "The gateway reaches no key, model or bucket: it is an upstream service": (
        "pipeline.gateway.core",
        "sinks.buckets.object_store",
    ),
    "A fetcher of URLs has nothing of the gateway: no Kafka client, server or setting": (
        "pipeline.gateway.egress.protocol",
        "pydantic",
    ),
    "jinja2: the demo's report and the account page": ("pipeline.cli.images", "jinja2"),
    "typer: the commands": ("pipeline.bootstrap.storage", "typer"),
    "rich: the commands and the demo": ("pipeline.runtime.json_logging", "rich"),
    "pydantic_settings: the settings": ("pipeline.cli.app", "pydantic_settings"),
    "playwright: the demo's screenshots": ("pipeline.cli.demo", "playwright"),
    "psutil: the development stack": ("pipeline.demo.run", "psutil"),
    "requests: the buckets": ("sinks.images.image_writer", "requests"),
}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("erasestream", include_external_packages=True, cache_dir=None)


def contract(name: str) -> Contract:
    options = read_user_options(CONFIGURATION)
    _register_contract_types(options)
    of_type = registry.get_contract_class(CONTRACTS[name]["type"])
    return of_type(name, options.session_options, CONTRACTS[name])


def test_every_contract_has_a_forbidden_import() -> None:
    assert set(FORBIDDEN) == set(CONTRACTS)


@pytest.mark.parametrize("name", FORBIDDEN)
def test_contract_fails_when_its_rule_is_broken(name: str, graph: grimp.ImportGraph) -> None:
    assert contract(name).check(deepcopy(graph), verbose=False).kept
    importer, imported = FORBIDDEN[name]
    broken = deepcopy(graph)
    prefix = "" if "." not in imported else "erasestream."
    broken.add_import(
        importer=f"erasestream.{importer}",
        imported=f"{prefix}{imported}",
        line_number=1,
        line_contents="import it",
    )
    assert not contract(name).check(broken, verbose=False).kept
