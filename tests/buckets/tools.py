"""Other emulators of Cloud Storage, installed into the cache on first use.

fake-gcs-server is a Go module and is built here (minutes, 300 MB of sources); gcp-storage-emulator
is a Python package, in an environment of its own.  Their versions are pinned here: the deviations
in `deviations.py` are those of these versions.
"""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from erasestream.schemas.errors import Refused
from tests.paths import CACHE

FAKE_GCS_SERVER = "github.com/fsouza/fake-gcs-server@v1.56.1"
GCP_STORAGE_EMULATOR = "gcp-storage-emulator==2026.7.19"
FOLDER = CACHE.resolve() / "buckets"
TIMEOUT_S = 1800


def fake_gcs_server() -> Path:
    """Return the program, built on first use.  Raises `Refused` if it cannot be."""
    folder = FOLDER / FAKE_GCS_SERVER.rpartition("/")[2]
    if not folder.is_dir():
        if not shutil.which("go"):
            raise Refused("fake-gcs-server needs Go: install the Debian package golang-go")
        sys.stderr.write("Building fake-gcs-server: several minutes.\n")
        draft = _draft(folder)
        _run(["go", "install", FAKE_GCS_SERVER], {"GOBIN": str(draft)})
        draft.rename(folder)
    return folder / "fake-gcs-server"


def gcp_storage_emulator() -> Path:
    """Return the program, installed on first use.  Raises `Refused` if it cannot be."""
    folder = FOLDER / GCP_STORAGE_EMULATOR
    done = folder / "installed"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        _run([*install, GCP_STORAGE_EMULATOR], {})
        done.touch()
    return folder / "bin" / "gcp-storage-emulator"


def _draft(folder: Path) -> Path:
    """Return an empty folder beside it: a folder in its place is always complete."""
    draft = folder.with_name(f".{folder.name}-{os.getpid()}")
    draft.mkdir(parents=True)
    return draft


def _run(command: list[str], environment: dict[str, str]) -> None:
    try:
        subprocess.run(
            command,
            env={**os.environ, **environment},
            capture_output=True,
            check=True,
            timeout=TIMEOUT_S,
        )
    except (OSError, subprocess.SubprocessError) as error:
        output = getattr(error, "stderr", None) or b""
        detail = output.decode(errors="replace")[-300:]
        raise Refused(f"{command[0]} cannot install an emulator: {detail}") from error
