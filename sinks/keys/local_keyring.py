"""A keyring whose master key versions are files in a private folder."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from erasestream.schemas.errors import Code, Refused, SealBroken, Unavailable
from erasestream.sinks.keys.keyring import MasterVersion, VersionState, Wrapped
from erasestream.sinks.keys.master_file import (
    SUFFIX,
    destroy_master,
    flush_folder,
    is_destroyed,
    unwrap_key,
    wrap_key,
    write_master,
)

WRAP_INFO = b"erasestream/v1/keyring"
VERSION_PATTERN = re.compile(r"[1-9][0-9]{0,8}")


class LocalKeyring:
    """Master key versions as files `1.key`, `2.key`, ... of 32 raw bytes in a private folder.

    The folder is read on every call: a version that another process adds or destroys takes
    effect at once.
    """

    def __init__(self, directory: Path, *, random: Callable[[int], bytes] = os.urandom) -> None:
        self._directory = directory
        self._random = random
        self._newest()

    @classmethod
    def create(cls, directory: Path) -> Self:
        """Create a keyring with its first master key.  Raises `Refused` if the folder has one."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(directory.glob(f"*{SUFFIX}")):
            raise Refused(
                "the folder already holds a master key; it was not changed: name another folder"
            )
        write_master(directory / f"1{SUFFIX}")
        return cls(directory)

    def versions(self) -> tuple[str, ...]:
        """Return the versions in the folder, newest first."""
        try:
            names = [p.name.removesuffix(SUFFIX) for p in self._directory.glob(f"*{SUFFIX}")]
            self._directory.stat()
        except FileNotFoundError:
            raise Refused(
                "the keyring's folder is missing: mount its disk, or correct its path"
            ) from None
        except OSError as error:
            raise Unavailable(code=Code.KEYRING_UNAVAILABLE) from error
        numbers = (int(name) for name in names if VERSION_PATTERN.fullmatch(name))
        return tuple(str(number) for number in sorted(numbers, reverse=True))

    def wrap(self, key: bytes, context: bytes) -> Wrapped:
        """Wrap keys under the newest version."""
        newest = self._newest()
        path = self._path(newest)
        return Wrapped(newest, wrap_key(path, key, context, info=WRAP_INFO, random=self._random))

    def unwrap(self, version: str, wrapped: bytes, context: bytes) -> bytes:
        """Return the keys that were wrapped for this context."""
        return unwrap_key(self._path(version), wrapped, context, info=WRAP_INFO)

    def history(self) -> tuple[MasterVersion, ...]:
        """Return all versions up to the newest; one that is not in the folder is destroyed."""
        numbers = range(1, int(self._newest()) + 1)
        with _available():
            # So that a version which is seen destroyed is not back after a crash of the machine.
            flush_folder(self._directory)
            return tuple(self._version(str(number)) for number in numbers)

    def state(self, version: str) -> VersionState:
        """Return the state of one version."""
        path = self._path(version)
        if int(version) > int(self._newest()):
            raise SealBroken
        with _available():
            return VersionState.DESTROYED if is_destroyed(path) else VersionState.ENABLED

    def rotate(self) -> None:
        """Add a version; of several that add one at once, one does."""
        with _available(), suppress(FileExistsError):
            write_master(self._path(str(int(self._newest()) + 1)))

    def destroy(self, version: str) -> None:
        """Delete a version."""
        path = self._path(version)
        if int(version) >= int(self._newest()):
            raise Refused("only an older version of the master key can be destroyed")
        with _available():
            destroy_master(path)

    def close(self) -> None:
        """Do nothing: no file is kept open."""

    def _newest(self) -> str:
        versions = self.versions()
        if not versions:
            raise Refused(
                "the keyring's folder holds no master key: run `erasestream keyring create`"
            )
        return versions[0]

    def _version(self, version: str) -> MasterVersion:
        path = self._path(version)
        if is_destroyed(path):
            return MasterVersion(version, VersionState.DESTROYED, None)
        created = datetime.fromtimestamp(path.stat().st_mtime, UTC) if path.exists() else None
        return MasterVersion(version, VersionState.ENABLED, created)

    def _path(self, version: str) -> Path:
        if VERSION_PATTERN.fullmatch(version) is None:
            raise SealBroken
        return self._directory / f"{version}{SUFFIX}"


@contextmanager
def _available() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(code=Code.KEYRING_UNAVAILABLE) from error
