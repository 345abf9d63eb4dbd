"""Jars of Apache Kafka and for its TLS: fetched once through Maven, accepted only if pinned.

`pom.xml` lists them, `jars.sha256` pins their digests; a comment in the first explains how to
update the second.  Every call verifies the jars, so a cache that was changed later is refused
as well.  An interrupted installation leaves nothing that looks complete.
"""

import hashlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from erasestream.schemas.errors import NotReady, Refused

KAFKA_VERSION = "4.4.0"
FOLDER = f"kafka-{KAFKA_VERSION}-accp-2.5.0"
"""Below the cache, which other checkouts may share: another list of jars has another folder."""

MIN_JAVA = 17
DOWNLOAD_MB = 68
"""The jars (46 MB) and the plugins that Maven needs to copy them, if neither is cached."""

FILES = Path(__file__).parent
_FETCH_TIMEOUT_S = 900.0

Progress = Callable[[str], None]
"""Receives one sentence before anything that takes long."""


def install_kafka(cache: Path, progress: Progress, *, files: Path = FILES) -> Path:
    """Return the folder with Kafka's jars, below `cache`; fetch them if it does not exist.

    `files` holds `pom.xml` and `jars.sha256`.  A second call fetches nothing and works offline.
    Raises `Refused` if Java or Maven is missing or too old, or if a jar is not the pinned one;
    `Unavailable` if the jars cannot be fetched.
    """
    expected = _pinned(files / "jars.sha256")
    # Maven resolves a relative path against the folder of the pom.
    libs = cache.resolve() / FOLDER / "libs"
    require_java()
    if not libs.is_dir():
        _install(libs, expected, progress, files)
    _verify(libs, expected)
    return libs


def class_archive(libs: Path) -> Path:
    """Return the path of the class archive of these jars; see `cds_archive.py`."""
    return libs.parent / "classes.jsa"


def require_java() -> str:
    """Return the path of `java`.  Raises `Refused` naming the package if missing or too old."""
    java = shutil.which("java")
    if java is None:
        raise Refused("there is no java: install the package default-jre-headless")
    # "17.0.15", or "1.8.0_402" before Java 9; on stderr.
    output = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(?:1\.)?(\d+)', output)
    if found is None or int(found[1]) < MIN_JAVA:
        version = found[1] if found else "unknown"
        raise Refused(
            f"java has version {version}, Kafka needs {MIN_JAVA} or newer: install the package"
            " default-jre-headless"
        )
    return java


def _install(libs: Path, expected: Mapping[str, str], progress: Progress, files: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise Refused("there is no mvn to fetch Kafka with: install the package maven")
    progress(f"Fetching Apache Kafka {KAFKA_VERSION} through Maven: about {DOWNLOAD_MB} MB.")
    libs.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=libs.parent, prefix=".fetching-") as folder:
        draft = Path(folder) / "libs"
        _copy(maven, files / "pom.xml", draft)
        _verify(draft, expected)
        try:
            draft.rename(libs)
        except OSError:
            # Another process was faster; the caller verifies its jars.
            if not libs.is_dir():
                raise


def _copy(maven: str, pom: Path, target: Path) -> None:
    options = ["--quiet", "--batch-mode", "--strict-checksums", "--file", str(pom)]
    command = [maven, *options, "dependency:copy-dependencies", f"-DoutputDirectory={target}"]
    try:
        subprocess.run(command, capture_output=True, check=True, timeout=_FETCH_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise NotReady("Maven took too long to fetch Kafka: run it again") from error
    except subprocess.CalledProcessError as error:
        lines = error.stdout.decode(errors="replace").splitlines()
        reason = next((line for line in lines if line.startswith("[ERROR]")), "no reason given")
        raise NotReady(f"Maven could not fetch Kafka: {reason[:300]}") from error


def _pinned(path: Path) -> dict[str, str]:
    """Read a list in the format of `sha256sum`: file name to digest."""
    lines = (line.split() for line in path.read_text().splitlines())
    return {name: digest for digest, name in lines}


def _verify(libs: Path, expected: Mapping[str, str]) -> None:
    actual = {path.name: _sha256(path) for path in libs.iterdir()} if libs.is_dir() else {}
    if wrong := sorted(dict(expected.items() ^ actual.items())):
        raise Refused(f"not the pinned jars of Kafka, delete {libs} and try again: {wrong[0]}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
