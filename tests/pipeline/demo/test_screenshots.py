"""Screenshots where there is no browser, or none that works; with one: test_demo.py."""

from pathlib import Path

import pytest

from erasestream.pipeline.demo.screenshots import take
from erasestream.pipeline.devstack.stack_files import GATEWAY, StackFiles
from erasestream.schemas.ids import Lane


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    files = StackFiles(tmp_path / "stack")
    files.create_identities([Lane("shop")])
    return files.identities / f"{GATEWAY}.crt"


def test_without_chromium_there_is_a_sentence_instead(
    certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So there is with one that does not start."""
    monkeypatch.setenv("PATH", str(tmp_path))
    found = take("https://127.0.0.4:1", certificate, {"Mine": "key"})
    assert found.pictures == ()
    assert found.missing == "There are no screenshots: Chromium is not installed here."
    program = tmp_path / "chromium"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    found = take("https://127.0.0.4:1", certificate, {"Mine": "key"})
    assert found.pictures == ()
    assert found.missing == "There are no screenshots: Chromium did not show the page."
