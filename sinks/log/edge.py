"""The right edge of the log: all that appending to it needs.  Pure.

For each level the hashes of the last tile that is not full, and the leaves beside those of level 0.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from erasestream.sinks.log.merkle import fold, leaf_hash, root
from erasestream.sinks.log.tiles import (
    BITS,
    ENTRIES,
    WIDTH,
    Read,
    TiledTree,
    pack,
    tile_name,
    widths,
)


class Tile(NamedTuple):
    """A tile or an entry bundle, with its name."""

    name: str
    data: bytes


class Edge:
    """The edge of a log of `size` leaves, empty at first."""

    def __init__(self) -> None:
        self.size: int = 0
        self._leaves: list[bytes] = []
        self._levels: list[list[bytes]] = [[]]

    @classmethod
    def read(cls, read: Read, size: int) -> "Edge":
        """Read the edge of a log of this size from its tiles; compare its root before use."""
        edge, tree, level = cls(), TiledTree(read, size), 0
        edge.size = size
        while size >> BITS * level:
            full, width = widths(size, level)
            first = full * WIDTH
            edge._levels[level:] = [
                [tree.subtree(BITS * level, first + n) for n in range(width)],
                [],
            ]
            level += 1
        edge._leaves = list(tree.leaves(size - size % WIDTH, size))
        return edge

    def append(self, leaves: Iterable[bytes]) -> Iterator[Tile]:
        """Append leaves; yield each tile that became full, then those that are not."""
        before = self.size
        for leaf in leaves:
            self._leaves.append(leaf)
            yield from self._push(0, leaf_hash(leaf))
            self.size += 1
            if self.size % WIDTH == 0:
                yield Tile(tile_name(ENTRIES, self.size // WIDTH - 1), pack(self._leaves))
                self._leaves.clear()
        yield from self._unfinished(before)

    def root(self) -> bytes:
        """Return the root of the log."""
        return root(self.size, self._subtree)

    def _push(self, level: int, digest: bytes) -> Iterator[Tile]:
        if level == len(self._levels):
            self._levels.append([])
        hashes = self._levels[level]
        hashes.append(digest)
        if len(hashes) == WIDTH:
            number = (self.size + 1 >> BITS * (level + 1)) - 1
            yield Tile(tile_name(level, number), b"".join(hashes))
            above = fold(hashes)
            hashes.clear()
            yield from self._push(level + 1, above)

    def _unfinished(self, before: int) -> Iterator[Tile]:
        for level, hashes in enumerate(self._levels):
            has_grown = self.size >> BITS * level > before >> BITS * level
            if hashes and has_grown:
                number = widths(self.size, level)[0]
                yield Tile(tile_name(level, number, len(hashes)), b"".join(hashes))
        if self._leaves and self.size > before:
            name = tile_name(ENTRIES, self.size // WIDTH, len(self._leaves))
            yield Tile(name, pack(self._leaves))

    def _subtree(self, level: int, index: int) -> bytes:
        tile_level, height = divmod(level, BITS)
        first = (index << height) % WIDTH
        return fold(self._levels[tile_level][first : first + (1 << height)])
