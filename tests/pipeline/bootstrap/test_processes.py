"""Each stage as a process: it gets ready, and ends with success at SIGTERM."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import IO

import pytest

from erasestream.pipeline.runtime.runner import EX_OK
from erasestream.pipeline.settings import PREFIX, Settings
from tests.paths import ROOT


def variables(settings: Settings) -> dict[str, str]:
    """Return the environment variables with these settings, one per section."""
    sections = settings.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    return {f"{PREFIX}{name.upper()}": json.dumps(value) for name, value in sections.items()}


def events(log: IO[str]) -> Iterator[str]:
    return (json.loads(line)["event"] for line in log)


@pytest.mark.parametrize("command", ["route", "sink", "purge", "erase", "rotate"])
def test_a_stage_gets_ready_and_ends_at_sigterm(settings: Settings, command: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "erasestream.pipeline.cli.main", command],
        cwd=ROOT,
        env={**os.environ, **variables(settings)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        logged = events(process.stderr)
        assert next(logged) == "starting"
        assert "ready" in logged
        process.send_signal(signal.SIGTERM)
        *_, last = logged
    assert last == "ended"
    assert process.returncode == EX_OK
