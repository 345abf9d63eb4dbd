"""`erasestream topics` shows how each lifetime adds up."""

import os
import subprocess
import sys
from pathlib import Path

SETTINGS = """
[kafka]
bootstrap_servers = ["127.0.0.1:1"]
identities = "not-needed"
[lanes.shop]
"""


def test_the_quotas_of_a_lane_are_shown(tmp_path: Path) -> None:
    """As the settings declare them; a quarter of them for the account service."""
    shown = topics(tmp_path, SETTINGS + "produce_bytes_per_s = 40_000_000\nrequest_percent = 60\n")
    for role, numbers in (("shop.producer", "40 200 60"), ("shop.account", "10 50 15")):
        (row,) = (line for line in shown.splitlines() if line.strip("│ ").startswith(f"{role} "))
        assert row.replace("│", " ").split()[1:] == numbers.split()


def topics(folder: Path, settings: str) -> str:
    """Return the output of the command."""
    file = folder / "erasestream.toml"
    file.write_text(settings)
    return subprocess.run(
        [sys.executable, "-m", "erasestream.pipeline.cli.main", "topics"],
        env={**os.environ, "ERASESTREAM_SETTINGS": str(file), "COLUMNS": "220"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_every_lifetime_is_shown_with_its_sum(tmp_path: Path) -> None:
    shown = topics(tmp_path, SETTINGS)
    (ephemeral,) = (line for line in shown.splitlines() if "ephemeral.shop" in line)
    (consent,) = (line for line in shown.splitlines() if "consent.shop" in line)
    assert "4:01 + 18:38 + 0:15 + 0:06 = 23:00 h" in ephemeral
    assert "superseded: 0:15 + 0:05 + 0:01 + 0:01 = 0:22 h" in consent
