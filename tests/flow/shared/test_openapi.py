"""schemathesis, a program of others, sends what the reference allows, and what it forbids.

No answer is 5xx, and each has a status, a type, headers and a body that are documented.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from erasestream.pipeline.bootstrap.credentials import open_credential_writer
from erasestream.pipeline.gateway.reference.routes import CONTRACTS
from erasestream.schemas.events.credentials import CredentialKind
from tests.faults.overload import SETTINGS
from tests.flow.pipeline_harness import BULK, PipelineHarness
from tests.flow.shared.test_gateway import Client
from tests.flow.waiting import eventually

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
OPERATIONS = sum(len(each.operations) for each in CONTRACTS)
SEED = 20_261_130
DEADLINE_S = 500


@pytest.fixture(scope="module")
def key(flow: PipelineHarness) -> Iterator[str]:
    """Return a key without limits that these requests would reach, of a running gateway."""
    roomy = SETTINGS | {"ERASESTREAM_GATEWAY__MAX_WAITING": "64"}
    flow.start_stages(("gateway",), **roomy)
    with open_credential_writer(flow.settings, BULK) as writer:
        key = writer.create("schemathesis", CredentialKind.OWNER).text  # may delete, too
    eventually("the key is known", lambda: Client(flow, key).get("/v1.0/account").ok)
    yield key
    flow.stack.stop_stage("gateway")


def explore(flow: PipelineHarness, key: str, folder: Path, *, examples: int, phases: str) -> None:
    url = flow.stack.gateway_url
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"]
    options = {
        "checks": ",".join(CHECKS),
        "phases": phases,
        "max-examples": f"{examples}",
        "seed": f"{SEED}",
        "header": f"x-api-key: {key}",
        "tls-verify": f"{flow.stack.files.identities / 'ca.crt'}",
        "request-timeout": "120",
        "generation-database": "none",
        "suppress-health-check": "all",  # they fail on a busy machine
        "workers": "1",  # CPython 3.11 fails if two threads compile modules at once
    }
    done = subprocess.run(
        [*command, *(f"--{name}={value}" for name, value in options.items())],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S * examples,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert f"Operations:       {OPERATIONS - 1} selected" in done.stdout  # all but the document


def test_every_answer_is_documented(flow: PipelineHarness, key: str, tmp_path: Path) -> None:
    explore(flow, key, tmp_path, examples=10, phases="fuzzing")


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_every_answer_to_more_requests_is_documented(
    flow: PipelineHarness, key: str, tmp_path: Path
) -> None:
    explore(flow, key, tmp_path, examples=300, phases="examples,coverage,fuzzing")
