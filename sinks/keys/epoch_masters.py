"""Master keys of the epochs' keys: one for each day, destroyed with its last epoch.

    <number>.key    a master key in a private folder, which all replicas of the key service share

The number follows from the epoch, so that replicas need not agree on the current one.
"""

import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from erasestream.schemas.errors import Code, Refused, Unavailable
from erasestream.sinks.keys.master_file import (
    SUFFIX,
    destroy_master,
    unwrap_key,
    wrap_key,
    write_master,
)

WRAP_INFO = b"erasestream/v1/epoch-master"
_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")


class EpochMasters(Protocol):
    """Holder of the master keys of epochs."""

    def numbers(self) -> tuple[int, ...]:
        """Return the master keys that exist, in order."""

    def wrap(self, master: int, key: bytes, context: bytes) -> bytes:
        """Wrap a key of 32 bytes, creating the master key if there is none."""

    def unwrap(self, master: int, wrapped: bytes, context: bytes) -> bytes:
        """Return the key.  Raises `SealBroken`, also if the master key is destroyed."""

    def destroy(self, master: int) -> None:
        """Destroy a master key, and verify that it is gone.  Idempotent."""


class LocalEpochMasters:
    """Master keys as files.

    Deleting a file does not overwrite its blocks: the folder belongs on an encrypted disk, and in
    no backup.
    """

    def __init__(self, directory: Path, *, random: Callable[[int], bytes] = os.urandom) -> None:
        """Raise `Refused` if the folder is missing."""
        self._directory = directory
        self._random = random
        self.numbers()

    def numbers(self) -> tuple[int, ...]:
        """Return the master keys in the folder, in order."""
        try:
            names = [path.name for path in self._directory.iterdir()]
        except FileNotFoundError:
            raise Refused("the folder of the epochs' master keys is missing") from None
        except OSError as error:
            raise Unavailable(code=Code.KEYRING_UNAVAILABLE) from error
        stems = (name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX))
        return tuple(sorted(int(stem) for stem in stems if _NUMBER.fullmatch(stem)))

    def wrap(self, master: int, key: bytes, context: bytes) -> bytes:
        """Wrap a key; of replicas that create a master key at once, one does."""
        path = self._path(master)
        if not path.exists():
            try:
                with suppress(FileExistsError):
                    write_master(path)
            except OSError as error:
                raise Unavailable(code=Code.KEYRING_UNAVAILABLE) from error
        return wrap_key(path, key, context, info=WRAP_INFO, random=self._random)

    def unwrap(self, master: int, wrapped: bytes, context: bytes) -> bytes:
        """Return the key that was wrapped for this context."""
        return unwrap_key(self._path(master), wrapped, context, info=WRAP_INFO)

    def destroy(self, master: int) -> None:
        """Delete the file, and flush the folder."""
        try:
            destroy_master(self._path(master))
        except OSError as error:
            raise Unavailable(code=Code.KEYRING_UNAVAILABLE) from error
        if master in self.numbers():
            raise Unavailable(f"master key {master} still exists", Code.KEYRING_UNAVAILABLE)

    def _path(self, master: int) -> Path:
        return self._directory / f"{master}{SUFFIX}"
