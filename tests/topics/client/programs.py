"""Programs that use a client library, each a process of its own."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from erasestream.schemas.ids import Lane
from tests.kafka_fixture import KafkaFixture
from tests.paths import ROOT
from tests.topics.client.uploads import PNG

PREAMBLE = """
import os, signal, sys, threading, time
from pathlib import Path
from erasestream import AsyncUploadProducer, Cluster, Lane, UploadProducer
from erasestream.topics.client.upload_sender import SendingLimits

PNG = {png!r}
LANE = Lane({lane!r})
cluster = Cluster(bootstrap_servers={bootstrap!r}, identities={identities!r})
"""


def start(kafka: KafkaFixture, lane: Lane, program: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a program, which finds the cluster, the lane and an image under these names."""
    preamble = PREAMBLE.format(
        png=PNG,
        lane=lane,
        bootstrap=kafka.broker.bootstrap,
        identities=str(kafka.identities),
    )
    return subprocess.Popen(
        [sys.executable, *arguments, "-c", preamble + textwrap.dedent(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(Path(ROOT))},
    )


def await_line(process: subprocess.Popen[str], line: str) -> None:
    """Wait until the program has printed this line."""
    assert process.stdout is not None
    printed = process.stdout.readline().strip()
    assert printed == line, printed or process.communicate()[1]


def finish(process: subprocess.Popen[str], *, timeout_s: float = 120.0) -> tuple[int, str, str]:
    """Send a line, and wait for the end; return the exit status and what was printed."""
    try:
        printed, errors = process.communicate("\n", timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        _, errors = process.communicate()
        raise AssertionError(f"does not end: {errors}") from None
    return process.returncode, printed, errors
