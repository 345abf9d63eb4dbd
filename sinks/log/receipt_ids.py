"""Which receipts the log has, and where: about 30 bytes of memory each."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from uuid import UUID

from erasestream.schemas.errors import InvariantBroken
from erasestream.sinks.log.edge import Tile
from erasestream.sinks.log.tiles import WIDTH, Read, TiledTree

PACK = 16 * WIDTH
ID_BYTES = 16
_INDEX_BYTES = 6
_ROW = ID_BYTES + _INDEX_BYTES
_BUCKET = slice(14, 16)
"""Bytes that vary in every kind of UUID."""

ReadAll = Callable[[Iterable[str]], list[bytes]]


def id_of(leaf: bytes) -> str:
    """Return the id of the receipt of a leaf of ours."""
    return str(json.loads(leaf)["id"])


def pack_name(number: int) -> str:
    """Return the name of the object with the ids of 4,096 receipts."""
    return f"ids/{number}"


class ReceiptIds:
    """The ids of all leaves of a log, which grows."""

    def __init__(self) -> None:
        self.size: int = 0
        self._rows: defaultdict[bytes, bytearray] = defaultdict(bytearray)
        self._pack = bytearray()

    @classmethod
    def read(cls, read: Read, read_all: ReadAll, size: int) -> "ReceiptIds":
        """Read the ids of a log of this size: of full packs, and of the leaves after them."""
        ids, packs = cls(), size // PACK
        for pack in read_all(map(pack_name, range(packs))):
            if len(pack) != PACK * ID_BYTES:
                raise InvariantBroken("ids of receipts are cut short")
            for at in range(0, len(pack), ID_BYTES):
                ids._insert(pack[at : at + ID_BYTES])
        list(ids.add(TiledTree(read, size).leaves(packs * PACK, size)))
        return ids

    def add(self, leaves: Iterable[bytes]) -> Iterator[Tile]:
        """Add the ids of leaves; yield each pack that became full."""
        for leaf in leaves:
            raw = UUID(id_of(leaf)).bytes
            self._insert(raw)
            self._pack += raw
            if len(self._pack) == PACK * ID_BYTES:
                yield Tile(pack_name(self.size // PACK - 1), bytes(self._pack))
                self._pack.clear()

    def find(self, receipt_id: str) -> int | None:
        """Return the index of a receipt's leaf."""
        raw = UUID(receipt_id).bytes
        rows = self._rows.get(raw[_BUCKET], b"")
        for at in range(0, len(rows), _ROW):
            if rows[at : at + ID_BYTES] == raw:
                return int.from_bytes(rows[at + ID_BYTES : at + _ROW], "big")
        return None

    def _insert(self, raw: bytes) -> None:
        self._rows[raw[_BUCKET]] += raw + self.size.to_bytes(_INDEX_BYTES, "big")
        self.size += 1
