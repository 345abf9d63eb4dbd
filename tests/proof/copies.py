"""Copies of a stack's disks and secrets, and what the opener makes of them."""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from erasestream.pipeline.devstack.stack_files import BROKER, BUCKET, StackFiles
from tests.paths import ROOT

VANISHED = "No such file or directory"
"""A broker deletes and renames files while they are copied."""


class FoundImage(NamedTuple):
    """An image in a copy, and the SHA-256 of its bytes if it was opened."""

    place: str
    upload: str
    part: str
    sealed: bool
    sha256: str | None

    @property
    def topic(self) -> str:
        """The topic in whose files it is; empty for an object."""
        folder = self.place.split("@")[0].split("/")[-2] if "@" in self.place else ""
        return folder.rpartition("-")[0]


def brokers_of(files: StackFiles) -> list[Path]:
    """Return the folders of the brokers."""
    return [each for each in sorted(files.directory.glob(f"{BROKER}*")) if each.is_dir()]


def copy_disks(files: StackFiles, copy: Path) -> Path:
    """Copy all that brokers and buckets have on their disks; return the copy."""
    return _copy([*brokers_of(files), files.directory / BUCKET], copy)


def copy_secrets(files: StackFiles, copy: Path) -> Path:
    """Copy every secret of the installation, as it is now; return the copy."""
    secrets = ("authority", "identities", "tokens", "keyring", "masters", "name.key")
    return _copy([files.directory / name for name in secrets], copy)


def open_all(secrets: Path, *copies: Path) -> Iterator[FoundImage]:
    """Let the opener open what it can, and yield every image in the copies."""
    command = [sys.executable, "-m", "tests.proof.opener", str(secrets), *map(str, copies)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        yield FoundImage(**json.loads(line))


def _copy(sources: Iterable[Path], copy: Path) -> Path:
    copy.mkdir(mode=0o700, parents=True)
    command = ["cp", "--archive", "--sparse=always", *map(str, sources), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert all(VANISHED in line for line in done.stderr.splitlines()), done.stderr
    return copy
