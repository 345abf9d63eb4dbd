"""Search for plaintext: whether pieces of pictures, or names, are in any file of a folder."""

import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from erasestream.pipeline.demo.observations import SearchResult

HEAD_BYTES = 64
PIECE_BYTES = 48
MIN_DIFFERENT = 16
"""Different bytes in a piece that no other file has by chance; compressed pixels have about 44."""


def pieces(image: bytes) -> list[bytes]:
    """Return the first bytes of an image file, and pieces from its middle and near its end.

    An image may have a row of zeros there, as every index of Kafka has: a piece is taken before it.
    """
    starts = (len(image) // 2, len(image) - 3 * PIECE_BYTES)
    later = [piece for at in starts if (piece := _distinctive_piece(image, at))]
    return [image[:HEAD_BYTES], *later]


def _distinctive_piece(image: bytes, start: int) -> bytes | None:
    for at in range(start, HEAD_BYTES - 1, -PIECE_BYTES):
        piece = image[at : at + PIECE_BYTES]
        if len({*piece}) >= MIN_DIFFERENT:
            return piece
    return None


def named_pieces(images: Iterable[tuple[str, bytes]]) -> dict[str, bytes]:
    """Return the pieces of several named images, each under its image's name and a number."""
    return {
        f"{name}, piece {number}": piece
        for name, image in images
        for number, piece in enumerate(pieces(image), start=1)
    }


def search(folder: Path, needles: Mapping[str, bytes], *, pattern: str = "*") -> SearchResult:
    """Search every file and every path below a folder for named byte strings.

    A needle is found at its first occurrence.
    """
    paths = [path for path in sorted(folder.rglob(pattern)) if path.is_file()]
    missing, size = dict(needles), 0
    found: list[str] = []
    for path in paths:
        content = written_bytes(path)
        size += len(content)
        here = _found_in(missing, (content, os.fsencode(path.relative_to(folder))))
        found += here
        for name in here:
            del missing[name]
    return SearchResult(len(paths), size, len(needles), tuple(found))


def written_bytes(path: Path) -> bytes:
    """Return the bytes of a file without its holes, which are zeros that were never written.

    Kafka allocates 10 MB for each index of a segment, and writes a few bytes.
    """
    with path.open("rb") as file:
        return b"".join(_extents(file.fileno()))


def _extents(file: int) -> Iterator[bytes]:
    size, at = os.fstat(file).st_size, 0
    while at < size:
        try:
            start = os.lseek(file, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # only a hole follows
            raise
        at = os.lseek(file, start, os.SEEK_HOLE)
        yield os.pread(file, at - start, start)


def _found_in(needles: Mapping[str, bytes], contents: Sequence[bytes]) -> list[str]:
    return [name for name, needle in needles.items() if any(needle in each for each in contents)]
