"""Tiles of the log (C2SP tlog-tiles): their names, their forms, and subtrees read from them.

    tile/<level>/<index>[.p/<width>]      hashes of up to 256 subtrees of 256**level leaves each
    tile/entries/<index>[.p/<width>]      up to 256 leaves, each after its length in two bytes

A tile that is not full has its width in its name, so that no tile is ever overwritten.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator

from erasestream.schemas.errors import InvariantBroken, NotFound, ProofRefused
from erasestream.sinks.log.merkle import HASH_BYTES, fold, leaf_hash, root

WIDTH = 256
BITS = 8
ENTRIES = "entries"
MAX_LEAF_BYTES = 0xFFFF
MAX_TILE_BYTES = WIDTH * (2 + MAX_LEAF_BYTES)
CACHED_TILES = 64

Read = Callable[[str], bytes]
"""Returns a tile by its name; raises `NotFound`."""


def tile_name(level: int | str, index: int, width: int = WIDTH) -> str:
    """Return the name of a tile, or of an entry bundle (level `entries`)."""
    digits = f"{index % 1000:03d}"
    while index := index // 1000:
        digits = f"x{index % 1000:03d}/{digits}"
    partial = f".p/{width}" if width < WIDTH else ""
    return f"tile/{level}/{digits}{partial}"


def widths(size: int, level: int) -> tuple[int, int]:
    """Return how many full tiles a level has in a log of this size, and the last one's width."""
    return divmod(size >> BITS * level, WIDTH)


def width_of(size: int, level: int, index: int) -> int:
    """Return the width of a tile in a log of this size."""
    full, last = widths(size, level)
    return WIDTH if index < full else last


def pack(leaves: Iterable[bytes]) -> bytes:
    """Return an entry bundle.  Raises `InvariantBroken` for a leaf that is too large."""
    packed = bytearray()
    for leaf in leaves:
        if len(leaf) > MAX_LEAF_BYTES:
            raise InvariantBroken("a leaf exceeds 65,535 bytes")
        packed += len(leaf).to_bytes(2, "big") + leaf
    return bytes(packed)


def unpack(bundle: bytes) -> list[bytes]:
    """Return the leaves of an entry bundle.  Raises `ProofRefused`."""
    leaves, at = [], 0
    while at < len(bundle):
        end = at + 2 + int.from_bytes(bundle[at : at + 2], "big")
        if at + 2 > len(bundle) or end > len(bundle):
            raise ProofRefused("an entry bundle is cut short")
        leaves.append(bundle[at + 2 : end])
        at = end
    return leaves


class TiledTree:
    """A log of a given size, read from its tiles; nothing is believed that the root disproves.

    Not thread-safe.
    """

    def __init__(self, read: Read, size: int) -> None:
        self._read = read
        self.size: int = size
        self._cache: OrderedDict[tuple[int, int], list[bytes]] = OrderedDict()

    def root(self) -> bytes:
        """Return the root, as the tiles have it."""
        return root(self.size, self.subtree)

    def subtree(self, level: int, index: int) -> bytes:
        """Return the hash of a subtree, from the tile that has its hash or those of its parts."""
        tile_level, height = divmod(level, BITS)
        number, first = divmod(index << height, WIDTH)
        return fold(self._tile(tile_level, number)[first : first + (1 << height)])

    def leaves(self, start: int, end: int) -> Iterator[bytes]:
        """Yield leaves, each verified against the tree's hash of it."""
        for number in range(start // WIDTH, -(-end // WIDTH)):
            base = number * WIDTH
            bundle = self._bundle(number)
            for index in range(max(start, base), min(end, base + WIDTH)):
                leaf = bundle[index - base]
                if leaf_hash(leaf) != self.subtree(0, index):
                    raise ProofRefused(f"leaf {index} is not that of the tree")
                yield leaf

    def _bundle(self, number: int) -> list[bytes]:
        width = width_of(self.size, 0, number)
        leaves = unpack(self._read_tile(ENTRIES, number, width))[:width]
        if len(leaves) < width:
            raise ProofRefused(f"entry bundle {number} is cut short")
        return leaves

    def _tile(self, level: int, number: int) -> list[bytes]:
        key = level, number
        if key not in self._cache:
            width = width_of(self.size, level, number)
            raw = self._read_tile(level, number, width)[: width * HASH_BYTES]
            if len(raw) != width * HASH_BYTES:
                raise ProofRefused(f"tile {level}/{number} is cut short")
            self._cache[key] = [raw[n : n + HASH_BYTES] for n in range(0, len(raw), HASH_BYTES)]
            if len(self._cache) > CACHED_TILES:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return self._cache[key]

    def _read_tile(self, level: int | str, number: int, width: int) -> bytes:
        """Read a tile, or the full one that has replaced it."""
        try:
            return self._read(tile_name(level, number, width))
        except NotFound:
            if width == WIDTH:
                raise
            return self._read(tile_name(level, number))
