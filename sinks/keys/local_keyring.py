"""A keyring whose master key versions are files in a private folder."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Self

from erasestream.schemas.errors import Code, Refused, SealBroken, Unavailable
from erasestream.sinks.keys.keyring import Wrapped
from erasestream.sinks.keys.master_file import (
    SUFFIX,
    destroy_master,
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
        if not self.versions():
            raise Refused("the keyring's folder holds no master key")

    @classmethod
    def create(cls, directory: Path) -> Self:
        """Create a keyring with its first master key.  Raises `Refused` if the folder has one."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(directory.glob(f"*{SUFFIX}")):
            raise Refused("the folder already holds a master key; it was not changed")
        write_master(directory / f"1{SUFFIX}")
        return cls(directory)

    def versions(self) -> tuple[str, ...]:
        """Return the versions in the folder, newest first."""
        try:
            names = [p.name.removesuffix(SUFFIX) for p in self._directory.glob(f"*{SUFFIX}")]
            self._directory.stat()
        except FileNotFoundError:
            raise Refused("the keyring's folder is missing") from None
        except OSError as error:
            raise Unavailable(code=Code.KEYRING_UNAVAILABLE) from error
        numbers = (int(name) for name in names if VERSION_PATTERN.fullmatch(name))
        return tuple(str(number) for number in sorted(numbers, reverse=True))

    def wrap(self, key: bytes, context: bytes) -> Wrapped:
        """Wrap a key under the newest version."""
        versions = self.versions()
        if not versions:
            raise Refused("the keyring's folder holds no master key")
        path = self._path(versions[0])
        wrapped = wrap_key(path, key, context, info=WRAP_INFO, random=self._random)
        return Wrapped(versions[0], wrapped)

    def unwrap(self, version: str, wrapped: bytes, context: bytes) -> bytes:
        """Return the key that was wrapped for this context."""
        if VERSION_PATTERN.fullmatch(version) is None:
            raise SealBroken
        return unwrap_key(self._path(version), wrapped, context, info=WRAP_INFO)

    def rotate(self) -> str:
        """Add a version, which wraps from now on, and return it.  Older versions still unwrap."""
        version = str(int(self.versions()[0]) + 1)
        write_master(self._path(version))
        return version

    def destroy(self, version: str) -> None:
        """Delete a version.  Keys that are still wrapped under it are lost.

        Raises `Refused` for the newest version and for one that does not exist.
        """
        if version not in self.versions()[1:]:
            raise Refused("only an older version of the master key can be destroyed")
        destroy_master(self._path(version))

    def _path(self, version: str) -> Path:
        return self._directory / f"{version}{SUFFIX}"
