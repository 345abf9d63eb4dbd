"""`erasestream topics` shows how each lifetime adds up."""

import contextlib
import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path

import pytest

SETTINGS = """
[kafka]
bootstrap_servers = ["127.0.0.1:1"]
identities = "not-needed"
[lanes.shop]
"""


KEYS = """
[keys]
endpoints = ["https://keys:1"]
"""
WORTHLESS = "worthless: 23:45 + 0:05 + 0:10 = 24:00 h"


def test_the_quotas_of_a_lane_are_shown(tmp_path: Path) -> None:
    """As the settings declare them; a quarter of them for the account service."""
    shown = topics(tmp_path, SETTINGS + "produce_bytes_per_s = 40_000_000\nrequest_percent = 60\n")
    for role, numbers in (("shop.producer", "40 200 60"), ("shop.account", "10 50 15")):
        (row,) = (line for line in shown.splitlines() if line.startswith(f"{role} "))
        assert row.split()[1:] == numbers.split()


def topics(folder: Path, settings: str) -> str:
    """Return the output of the command."""
    file = folder / "erasestream.toml"
    file.write_text(settings)
    return subprocess.run(
        [sys.executable, "-m", "erasestream.pipeline.cli.main", "topics"],
        env={**os.environ, "ERASESTREAM_SETTINGS": str(file), "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def on_terminal(command: list[str], *, environment: dict[str, str], columns: int) -> str:
    """Return what a command prints on a terminal of this width, without its escape sequences."""
    terminal, child = pty.openpty()
    termios.tcsetwinsize(child, (50, columns))
    process = subprocess.Popen(command, env=environment, stdin=child, stdout=child, stderr=child)
    os.close(child)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: the command has ended
        while block := os.read(terminal, 4096):
            shown += block
    os.close(terminal)
    assert process.wait() == 0, shown
    return re.sub(r"\x1b\[[0-9;]*m", "", shown.decode())


def _terminal_environment(settings: Path) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in os.environ.keys() - {"COLUMNS", "NO_COLOR"}}
    return {**inherited, "ERASESTREAM_SETTINGS": str(settings), "TERM": "xterm"}


@pytest.mark.parametrize("no_color", [{}, {"NO_COLOR": "1"}], ids=["color", "no color"])
def test_at_a_terminal_of_80_columns_every_value_is_whole(
    tmp_path: Path, no_color: dict[str, str]
) -> None:
    """As two tables of the same topics, none of whose lines is wrapped."""
    file = tmp_path / "erasestream.toml"
    file.write_text(SETTINGS + 'sealing = "required"\n' + KEYS)
    shown = on_terminal(
        [sys.executable, "-m", "erasestream.pipeline.cli.main", "topics"],
        environment=_terminal_environment(file) | no_color,
        columns=80,
    )
    first, *others = (
        line.split() for line in shown.splitlines() if line.startswith("ephemeral.shop")
    )
    assert " ".join(first).endswith(" MB 4:01 + 18:38 + 0:15 + 0:06 = 23:00 h")
    assert others == [["ephemeral.shop", "router", "shop.consumer"]]
    assert [line.strip() for line in shown.splitlines()].count(WORTHLESS) == 4
    writers = shown.index("ephemeral.shop", shown.index("readers"))
    assert shown[writers:].splitlines()[1].startswith("uploads.shop")
    assert "…" not in shown


def test_every_lifetime_is_shown_with_its_sum(tmp_path: Path) -> None:
    shown = topics(tmp_path, SETTINGS)
    (ephemeral,) = (line for line in shown.splitlines() if line.startswith("ephemeral.shop"))
    (consent,) = (line for line in shown.splitlines() if line.startswith("consent.shop"))
    assert "4:01 + 18:38 + 0:15 + 0:06 = 23:00 h" in ephemeral
    assert "superseded: 0:15 + 0:05 + 0:01 + 0:01 = 0:22 h" in consent


def test_each_topic_with_images_tells_when_its_bytes_become_worthless(tmp_path: Path) -> None:
    """On the line below that of its bytes; a lane that accepts unsealed uploads is named."""

    def below(settings: str, topic: str) -> str:
        nonlocal shown
        shown = topics(tmp_path, settings)
        lines = [line.strip() for line in shown.splitlines()]
        (at,) = (n for n, line in enumerate(lines) if line.startswith(f"{topic} "))
        return lines[at + 1]

    shown = ""
    required, accepted = 'sealing = "required"\n', 'sealing = "accepted"\n'
    assert below(SETTINGS, "uploads.shop") == "not sealed: the settings have no keys"
    for topic in ("uploads.shop", "cutouts.shop", "ephemeral.shop", "retained"):
        assert below(SETTINGS + required + KEYS, topic) == WORTHLESS
    assert "accept unsealed" not in shown
    assert "at least 21:40 h" in shown
    both = SETTINGS + required + "[lanes.bulk]\n" + accepted + KEYS
    unless = "worthless: 24:00 h, unless unsealed"
    assert [below(both, f"uploads.{name}") for name in ("shop", "bulk")] == [WORTHLESS, unless]
    assert below(both, "retained") == unless
    assert "Lanes that accept unsealed uploads: bulk.\n" in shown
