"""The programs of `docs/clients`, as their pages show them, with the whole pipeline."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from erasestream.pipeline.devstack.kafka.distribution import install_kafka
from erasestream.schemas.errors import SENTENCES, Code
from erasestream.schemas.image_formats import PNG, sniff_content_type
from tests.clients.tools import kcat_environment, node_modules
from tests.flow.pictures import photo
from tests.flow.pipeline_harness import PipelineHarness
from tests.paths import CACHE, ROOT

DEADLINE_S = 300


def program_of(page: str, language: str, folder: Path, name: str) -> Path:
    """Write the last block of this language of a page into a file."""
    text = (ROOT / "docs" / "clients" / f"{page}.md").read_text()
    path = folder / name
    path.write_text(re.findall(rf"(?ms)^```{language}\n(.*?)^```$", text)[-1])
    return path


class Command(NamedTuple):
    """A command, to which the photo and the file of the cut-out are added."""

    arguments: list[str]
    environment: dict[str, str]


def node(folder: Path) -> Command:
    (folder / "node_modules").symlink_to(node_modules())
    return Command(["node", str(program_of("node", "js", folder, "client.mjs"))], {})


def sealing_node(folder: Path) -> Command:
    (folder / "node_modules").symlink_to(node_modules())
    return Command(["node", str(program_of("node-sealed", "js", folder, "client.mjs"))], {})


def java(folder: Path) -> Command:
    jars = install_kafka(CACHE, print)
    program = program_of("java", "java", folder, "Client.java")
    return Command(["java", "-XX:TieredStopAtLevel=1", "-cp", f"{jars}/*", str(program)], {})


def kcat(folder: Path) -> Command:
    program = program_of("kcat", "sh", folder, "client.sh")
    return Command(["sh", str(program)], kcat_environment())


@pytest.mark.parametrize("client", [node, sealing_node, java, kcat])
def test_an_upload_and_its_result(
    client: Callable[[Path], Command], flow: PipelineHarness, tmp_path: Path
) -> None:
    """A photo has a cut-out, and a file that is no photo has a failed result with its code."""
    command = client(tmp_path)
    cluster = flow.stack.cluster
    environment = {
        **os.environ,
        **command.environment,
        "BOOTSTRAP": ",".join(cluster.bootstrap_servers),
        "KEYS": cluster.key_endpoints[0],
        "IDENTITIES": str(cluster.identities),
    }
    cutout, text = tmp_path / "cutout.png", tmp_path / "text.jpg"
    (tmp_path / "photo.jpg").write_bytes(photo())
    text.write_text("no photo")

    def run(upload: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command.arguments, str(upload), str(cutout)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_S,
        )

    sent = run(tmp_path / "photo.jpg")
    assert sent.returncode == 0, sent.stdout + sent.stderr
    assert sniff_content_type(cutout.read_bytes()) == PNG
    refused = run(text)
    assert refused.returncode == 1, refused.stdout + refused.stderr
    assert Code.UNSUPPORTED_FORMAT in refused.stdout
    assert SENTENCES[Code.UNSUPPORTED_FORMAT] in refused.stdout
