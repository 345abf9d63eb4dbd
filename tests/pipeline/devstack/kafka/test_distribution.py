"""The jars: pinned, fetched once, and refused with advice."""

import shutil
from pathlib import Path

import pytest

from erasestream.pipeline.devstack.kafka import distribution
from erasestream.pipeline.devstack.kafka.distribution import install_kafka, require_java
from erasestream.schemas.errors import NotReady, Refused

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""SHA-256 of no bytes."""


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def old_java(version: str) -> str:
    """Return a script that prints a version as Java does."""
    return f"echo 'openjdk version \"{version}\"' >&2"


def progress(lines: list[str]) -> distribution.Progress:
    return lines.append


def test_an_installed_distribution_is_found_without_maven_and_announces_nothing(
    cache: Path, libs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    java = shutil.which("java")
    assert java
    (tmp_path / "java").symlink_to(java)
    monkeypatch.setenv("PATH", str(tmp_path))
    lines: list[str] = []
    assert install_kafka(cache, progress(lines)) == libs
    assert lines == []


def test_missing_java_is_refused_naming_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match="there is no java: install the package default-jre"):
        install_kafka(tmp_path, progress([]))


@pytest.mark.parametrize("version", ["1.8.0_402", "11.0.2"])
def test_java_that_is_too_old_is_refused_in_both_spellings_of_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    program(tmp_path / "bin", "java", old_java(version))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin:/usr/bin")
    with pytest.raises(Refused, match="needs 17 or newer"):
        require_java()


def test_missing_maven_is_refused_naming_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "bin", "java", "echo 'openjdk version \"21\"' >&2")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(Refused, match=r"there is no mvn .*install the package maven"):
        install_kafka(tmp_path, progress([]))


def fake_maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a Maven on the path that runs `script`; its last argument ends with the target."""
    program(tmp_path / "bin", "java", "echo 'openjdk version \"21\"' >&2")
    program(tmp_path / "bin", "mvn", f'for a; do target="${{a#*=}}"; done\n{script}')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin:/usr/bin")


def pins(tmp_path: Path, line: str) -> Path:
    """Write a list of pinned jars of one line."""
    files = tmp_path / "files"
    files.mkdir()
    (files / "jars.sha256").write_text(line)
    return files


def test_set_up_asks_for_maven_unless_these_jars_are_cached() -> None:
    script = Path(__file__).parents[4] / "deploy/setup.sh"
    assert f"KAFKA_FOLDER={distribution.FOLDER}\n" in script.read_text()


def test_a_relative_cache_is_below_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_maven(
        tmp_path, monkeypatch, 'cd "$(dirname "$0")"; mkdir -p "$target"; : > "$target/a.jar"'
    )
    files = pins(tmp_path, f"{EMPTY}  a.jar\n")
    monkeypatch.chdir(tmp_path)
    libs = install_kafka(Path("cache"), progress([]), files=files)
    assert libs.is_relative_to(tmp_path.resolve())


def test_a_jar_with_another_digest_is_refused_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_maven(tmp_path, monkeypatch, 'mkdir -p "$target"; echo other > "$target/a.jar"')
    files = pins(tmp_path, f"{'0' * 64}  a.jar\n")
    lines: list[str] = []
    with pytest.raises(Refused, match=r"a\.jar"):
        install_kafka(tmp_path / "cache", progress(lines), files=files)
    assert len(lines) == 1
    assert "MB" in lines[0]
    assert not list((tmp_path / "cache" / distribution.FOLDER).iterdir())


def test_a_jar_that_changes_after_the_installation_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_maven(tmp_path, monkeypatch, 'mkdir -p "$target"; : > "$target/a.jar"')
    files = pins(tmp_path, f"{EMPTY}  a.jar\n")
    libs = install_kafka(tmp_path / "cache", progress([]), files=files)
    (libs / "b.jar").touch()
    with pytest.raises(Refused, match=r"b\.jar"):
        install_kafka(tmp_path / "cache", progress([]), files=files)
    (libs / "b.jar").unlink()
    (libs / "a.jar").write_text("changed")
    with pytest.raises(Refused, match=r"a\.jar"):
        install_kafka(tmp_path / "cache", progress([]), files=files)


def test_mavens_reason_is_passed_on_if_it_cannot_fetch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_maven(tmp_path, monkeypatch, "echo '[ERROR] no route to host'; exit 1")
    with pytest.raises(NotReady, match=r"The embedded stack is not ready.*no route to host"):
        install_kafka(tmp_path / "cache", progress([]))
