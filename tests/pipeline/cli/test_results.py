"""`erasestream results`, as a process, on a real broker."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from erasestream.schemas.ids import Lane
from tests.kafka_fixture import KafkaFixture
from tests.topics.client.results import (
    TIMEOUT_S,
    ResultWriter,
    committed,
    cutout,
    failure,
    upload_id,
)

USAGE = 2


def start(kafka: KafkaFixture, lane: Lane, *options: str) -> subprocess.Popen[str]:
    settings = {
        "ERASESTREAM_KAFKA__BOOTSTRAP_SERVERS": json.dumps([kafka.broker.bootstrap]),
        "ERASESTREAM_KAFKA__IDENTITIES": str(kafka.identities),
        "ERASESTREAM_LANES": json.dumps({lane: {}}),
    }
    command = [sys.executable, "-m", "erasestream.pipeline.cli.main", "results", "--lane", lane]
    return subprocess.Popen(
        [*command, "--group", "test", *options],
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_sigterm_ends_it_while_it_waits(kafka: KafkaFixture, lane: Lane, tmp_path: Path) -> None:
    """With status 0; what it has shown is committed, and what it has saved is complete."""
    ResultWriter(kafka, lane).write(cutout(1))
    with start(kafka, lane, "--save", str(tmp_path)) as running:
        assert running.stdout
        assert str(upload_id(1)) in running.stdout.readline()
        running.send_signal(signal.SIGTERM)
        _, messages = running.communicate(timeout=TIMEOUT_S)
    assert (running.returncode, messages) == (0, "")
    assert committed(kafka, lane) == 1
    assert (tmp_path / f"{upload_id(1)}.png").read_bytes() == b"cut"


def test_a_line_names_account_and_reference(kafka: KafkaFixture, lane: Lane) -> None:
    """On one line, whatever the reference is."""
    odd = cutout(1).model_copy(update={"reference": "a\nb\x1b[2J"})
    ResultWriter(kafka, lane).write(odd, failure(2))
    with start(kafka, lane, "--count", "2") as running:
        shown, messages = running.communicate(timeout=TIMEOUT_S)
    assert running.returncode == 0, messages
    first, second = (line.split("  ") for line in shown.splitlines())
    assert first[:4] == [upload_id(1), "acct-17", r"a\nb\x1b[2J", "image/png"]
    assert second == [upload_id(2), "acct-17", "-", "truncated: cut off"]


def test_saving_into_a_file_is_refused_in_a_sentence(
    kafka: KafkaFixture, lane: Lane, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.touch()
    with start(kafka, lane, "--save", str(file)) as running:
        _, messages = running.communicate(timeout=TIMEOUT_S)
    assert running.returncode == USAGE
    assert "name a folder" in " ".join(messages.replace("│", " ").split())
    assert "Traceback" not in messages


def test_a_cutout_that_cannot_be_saved_is_not_acknowledged(
    kafka: KafkaFixture, lane: Lane, tmp_path: Path
) -> None:
    ResultWriter(kafka, lane).write(cutout(1))
    (tmp_path / f"{upload_id(1)}.png").mkdir()
    with start(kafka, lane, "--save", str(tmp_path)) as running:
        _, messages = running.communicate(timeout=TIMEOUT_S)
    assert running.returncode == USAGE
    assert "directory" in messages
    assert "Traceback" not in messages
    assert committed(kafka, lane) <= 0
