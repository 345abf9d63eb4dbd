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


def test_every_lifetime_is_shown_with_its_sum(tmp_path: Path) -> None:
    settings = tmp_path / "erasestream.toml"
    settings.write_text(SETTINGS)
    shown = subprocess.run(
        [sys.executable, "-m", "erasestream.pipeline.cli.main", "topics"],
        env={**os.environ, "ERASESTREAM_SETTINGS": str(settings), "COLUMNS": "220"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (ephemeral,) = (line for line in shown.splitlines() if "ephemeral.shop" in line)
    (consent,) = (line for line in shown.splitlines() if "consent.shop" in line)
    assert "4:01 + 18:38 + 0:15 + 0:06 = 23:00 h" in ephemeral
    assert "superseded: 0:15 + 0:05 + 0:01 + 0:01 = 0:22 h" in consent
