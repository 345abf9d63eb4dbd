"""The jars: pinned, fetched once, refused with a sentence that says what to do."""

import shutil
from pathlib import Path

import pytest

from erasestream.pipeline.devstack.kafka import distribution
from erasestream.pipeline.devstack.kafka.distribution import install_kafka, require_java
from erasestream.schemas.errors import Refused, Unavailable

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""SHA-256 of nothing."""


def program(folder: Path, name: str, script: str) -> None:
    """A program of that name in `folder`."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def old_java(version: str) -> str:
    """What a java says that is asked for its version."""
    return f"echo 'openjdk version \"{version}\"' >&2"


def told(said: list[str]) -> distribution.Progress:
    """Keep what is said."""
    return said.append


def test_installed_once(
    cache: Path, libs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is installed is found again without Maven, and nothing is announced."""
    java = shutil.which("java")
    assert java
    (tmp_path / "java").symlink_to(java)
    monkeypatch.setenv("PATH", str(tmp_path))
    said: list[str] = []
    assert install_kafka(cache, told(said)) == libs
    assert said == []


def test_no_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Java, the package that brings it is named."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match="there is no java: install the package default-jre"):
        install_kafka(tmp_path, told([]))


@pytest.mark.parametrize("version", ["1.8.0_402", "11.0.2"])
def test_old_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """A Java that is too old is refused, in both spellings of its version."""
    program(tmp_path / "bin", "java", old_java(version))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin:/usr/bin")
    with pytest.raises(Refused, match="needs 17 or newer"):
        require_java()


def test_no_maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Maven, the package that brings it is named."""
    program(tmp_path / "bin", "java", "echo 'openjdk version \"21\"' >&2")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(Refused, match=r"there is no mvn .*install the package maven"):
        install_kafka(tmp_path, told([]))


def fake_maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A Maven that does what `script` says; its last argument ends with the target."""
    program(tmp_path / "bin", "java", "echo 'openjdk version \"21\"' >&2")
    program(tmp_path / "bin", "mvn", f'for a; do target="${{a#*=}}"; done\n{script}')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin:/usr/bin")


def pins(tmp_path: Path, line: str) -> Path:
    """A list of jars of one line."""
    files = tmp_path / "files"
    files.mkdir()
    (files / "distribution.sha256").write_text(line)
    return files


def test_relative_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative cache lies below the folder that one is in, wherever Maven looks from."""
    fake_maven(
        tmp_path, monkeypatch, 'cd "$(dirname "$0")"; mkdir -p "$target"; : > "$target/a.jar"'
    )
    files = pins(tmp_path, f"{EMPTY}  a.jar\n")
    monkeypatch.chdir(tmp_path)
    libs = install_kafka(Path("cache"), told([]), files=files)
    assert libs.is_relative_to(tmp_path.resolve())


def test_wrong_jar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A jar that is not the pinned one is refused by name, and nothing stays."""
    fake_maven(tmp_path, monkeypatch, 'mkdir -p "$target"; echo other > "$target/a.jar"')
    files = pins(tmp_path, f"{'0' * 64}  a.jar\n")
    said: list[str] = []
    with pytest.raises(Refused, match=r"a\.jar"):
        install_kafka(tmp_path / "cache", told(said), files=files)
    assert len(said) == 1
    assert "MB" in said[0]
    assert not list((tmp_path / "cache" / f"kafka-{distribution.KAFKA_VERSION}").iterdir())


def test_changed_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A jar that was changed, added or removed after the installation is refused."""
    fake_maven(tmp_path, monkeypatch, 'mkdir -p "$target"; : > "$target/a.jar"')
    files = pins(tmp_path, f"{EMPTY}  a.jar\n")
    libs = install_kafka(tmp_path / "cache", told([]), files=files)
    (libs / "b.jar").touch()
    with pytest.raises(Refused, match=r"b\.jar"):
        install_kafka(tmp_path / "cache", told([]), files=files)
    (libs / "b.jar").unlink()
    (libs / "a.jar").write_text("changed")
    with pytest.raises(Refused, match=r"a\.jar"):
        install_kafka(tmp_path / "cache", told([]), files=files)


def test_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Maven's own reason is passed on when it can not fetch."""
    fake_maven(tmp_path, monkeypatch, "echo '[ERROR] no route to host'; exit 1")
    with pytest.raises(Unavailable, match="no route to host"):
        install_kafka(tmp_path / "cache", told([]))
