"""Master keys of the epochs' keys: one for each epoch, destroyed with its keys.

    <epoch>.key    a master key in a private folder, which all replicas of the key service share
    folder.id      32 random bytes, which the vault has as well: this folder is its own

None outlives its epoch's keys: who copied the vault in time, and the folder after their death,
opens nothing.

An empty folder where the disk is not mounted looks as if all master keys were destroyed.  So a
folder that is required to have its vault's id answers and creates nothing without it.
"""

import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from erasestream.schemas.errors import Code, Refused, SealBroken, Unavailable
from erasestream.sinks.keys.master_file import (
    SUFFIX,
    destroy_master,
    read_master,
    unwrap_key,
    wrap_key,
    write_master,
)

IDENTITY = "folder.id"
WRAP_INFO = b"erasestream/v1/epoch-master"
_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")


class EpochMasters(Protocol):
    """Holder of the master keys of epochs."""

    def epochs(self) -> tuple[int, ...]:
        """Return the epochs whose master keys exist, in order."""

    def wrap(self, epoch: int, key: bytes, context: bytes) -> bytes:
        """Wrap a key of 32 bytes, creating the master key if there is none."""

    def unwrap(self, epoch: int, wrapped: bytes, context: bytes) -> bytes:
        """Return the key.  Raises `SealBroken`, also if the master key is destroyed."""

    def destroy(self, epoch: int) -> None:
        """Destroy a master key, and verify that it is gone.  Idempotent."""

    def check(self, epoch: int) -> None:
        """Raise `Refused` if a master key cannot be used."""

    def identity(self) -> bytes:
        """Return the random id of this holder, creating it if there is none."""

    def require(self, identity: bytes) -> None:
        """From now on, raise `Refused` unless this is the holder's id."""


class LocalEpochMasters:
    """Master keys as files.

    Deleting a file does not overwrite its blocks: the folder belongs on an encrypted disk, and in
    no backup.
    """

    def __init__(self, directory: Path, *, random: Callable[[int], bytes] = os.urandom) -> None:
        """Raise `Refused` if the folder is missing."""
        self._directory = directory
        self._random = random
        self._required: bytes | None = None
        self.epochs()

    def epochs(self) -> tuple[int, ...]:
        """Return the epochs whose master keys are in the folder, in order."""
        try:
            names = [path.name for path in self._directory.iterdir()]
        except FileNotFoundError:
            raise Refused(
                "the folder of the epochs' master keys is missing: mount its disk"
            ) from None
        except OSError as error:
            raise Unavailable(code=Code.KEYRING_UNAVAILABLE) from error
        self._check_identity()
        stems = (name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX))
        return tuple(sorted(int(stem) for stem in stems if _NUMBER.fullmatch(stem)))

    def wrap(self, epoch: int, key: bytes, context: bytes) -> bytes:
        """Wrap a key; of replicas that create a master key at once, one does."""
        path = self._path(epoch)
        if not path.exists():
            self._check_identity()
            _write_once(path)
        return wrap_key(path, key, context, info=WRAP_INFO, random=self._random)

    def unwrap(self, epoch: int, wrapped: bytes, context: bytes) -> bytes:
        """Return the key that was wrapped for this context."""
        return unwrap_key(self._path(epoch), wrapped, context, info=WRAP_INFO)

    def destroy(self, epoch: int) -> None:
        """Delete the file, and flush the folder."""
        try:
            destroy_master(self._path(epoch))
        except OSError as error:
            raise Unavailable(code=Code.KEYRING_UNAVAILABLE) from error
        if epoch in self.epochs():
            raise Unavailable(f"master key {epoch} still exists", Code.KEYRING_UNAVAILABLE)

    def check(self, epoch: int) -> None:
        """Read the file; one that is gone is destroyed, which is no error."""
        with suppress(SealBroken):
            read_master(self._path(epoch))

    def identity(self) -> bytes:
        """Return the random id of this folder, creating it if there is none."""
        path = self._directory / IDENTITY
        if not path.exists():
            _write_once(path)
        return self._read_identity()

    def require(self, identity: bytes) -> None:
        """From now on, raise `Refused` unless this is the folder's id."""
        self._required = identity
        self._check_identity()

    def _check_identity(self) -> None:
        if self._required is not None and self._read_identity() != self._required:
            raise Refused("the folder of master keys is not this vault's: is its disk mounted?")

    def _read_identity(self) -> bytes:
        try:
            return (self._directory / IDENTITY).read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise Unavailable(code=Code.KEYRING_UNAVAILABLE) from error

    def _path(self, epoch: int) -> Path:
        return self._directory / f"{epoch}{SUFFIX}"


def _write_once(path: Path) -> None:
    """Write random bytes into a new file; of replicas that do so at once, one does."""
    try:
        with suppress(FileExistsError):
            write_master(path)
    except OSError as error:
        raise Unavailable(code=Code.KEYRING_UNAVAILABLE) from error
