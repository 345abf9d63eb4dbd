"""Objects of the log in a bucket or a folder, below one prefix; none is ever overwritten.

    tile/...                                  tiles and entry bundles (`tiles.py`)
    ids/<n>                                   ids of 4,096 receipts each, in the order of leaves
    batches/<size>                            the leaves that follow the first `size`
    checkpoints/<order>-<size>-<before>       signed checkpoint; `before` names its batch
    cosignatures/<order>-<size>-<before>      the same, signed by the auditor as well

`order` falls as the size grows, so that the newest is listed first.
"""

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

from erasestream.schemas.errors import AlreadyExists, InvariantBroken
from erasestream.sinks.buckets.access_policy import LOG
from erasestream.sinks.buckets.object_store import ObjectReader, ObjectStore
from erasestream.sinks.log.edge import Tile
from erasestream.sinks.log.signed_note import MAX_NOTE_BYTES
from erasestream.sinks.log.tiles import MAX_TILE_BYTES

CHECKPOINTS = "checkpoints/"
COSIGNATURES = "cosignatures/"
MAX_BATCH_BYTES = 4 * MAX_TILE_BYTES
MAX_PARALLEL = 8
OCTETS = "application/octet-stream"
_LARGEST = 10**15 - 1
_NAME = re.compile(r"[0-9]{15}-(0|[1-9][0-9]{0,14})-(0|[1-9][0-9]{0,14})")


class SignedSize(NamedTuple):
    """A checkpoint's name: its size, and the size before its batch."""

    size: int
    before: int

    @classmethod
    def parse(cls, name: str) -> "SignedSize | None":
        """Parse the last part of an object's name; None if it is another object's."""
        match = _NAME.fullmatch(name)
        found = cls(int(match[1]), int(match[2])) if match else None
        return found if found and str(found) == name else None

    def __str__(self) -> str:
        return f"{_LARGEST - self.size:015d}-{self.size}-{self.before}"


class LogObjectReader:
    """Read access."""

    def __init__(self, store: ObjectReader) -> None:
        self._reader = store

    def read(self, name: str) -> bytes:
        """Return an object.  Raises `NotFound`."""
        return self._reader.read(f"{LOG}{name}", MAX_BATCH_BYTES)

    def read_all(self, names: Iterable[str]) -> list[bytes]:
        """Return several objects."""
        with ThreadPoolExecutor(MAX_PARALLEL, thread_name_prefix="log") as pool:
            return list(pool.map(self.read, names))

    def newest(self, folder: str) -> SignedSize | None:
        """Return the name of the newest checkpoint in a folder."""
        prefix = f"{LOG}{folder}"
        for found in self._reader.list(prefix):
            if name := SignedSize.parse(found.name.removeprefix(prefix)):
                return name
        return None

    def signed(self, folder: str, name: SignedSize) -> bytes:
        """Return a checkpoint."""
        return self._reader.read(f"{LOG}{folder}{name}", MAX_NOTE_BYTES)


class LogObjects(LogObjectReader):
    """Read access, and creating."""

    def __init__(self, store: ObjectStore) -> None:
        super().__init__(store)
        self._store = store

    def create(self, name: str, data: bytes) -> None:
        """Create an object.  Raises `AlreadyExists`."""
        self._store.create(f"{LOG}{name}", data, OCTETS)

    def ensure(self, tile: Tile) -> None:
        """Create an object, unless it is there.  Raises `InvariantBroken` if it is another."""
        with suppress(AlreadyExists):
            self.create(tile.name, tile.data)
            return
        if self.read(tile.name) != tile.data:
            raise InvariantBroken(f"the log has another {tile.name}")

    def ensure_all(self, tiles: Iterable[Tile]) -> None:
        """Create several objects."""
        with ThreadPoolExecutor(MAX_PARALLEL, thread_name_prefix="log") as pool:
            list(pool.map(self.ensure, tiles))
