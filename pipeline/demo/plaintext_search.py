"""Looking for bytes in files: does anything of a picture lie there in clear?"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from erasestream.pipeline.demo.observations import Search

HEAD_BYTES = 64
PIECE_BYTES = 48


def pieces(image: bytes) -> list[bytes]:
    """The first bytes of an image file, and pieces from its middle and near its end."""
    starts = (len(image) // 2, len(image) - 3 * PIECE_BYTES)
    later = [image[at : at + PIECE_BYTES] for at in starts if at >= HEAD_BYTES]
    return [image[:HEAD_BYTES], *later]


def search(folder: Path, wanted: Mapping[str, bytes], *, pattern: str = "*") -> Search:
    """Look for all of these, by what they are called, in every file and in every path below.

    A thing counts as found wherever it stands first.
    """
    paths = [path for path in sorted(folder.rglob(pattern)) if path.is_file()]
    missing, size = dict(wanted), 0
    found: list[str] = []
    for path in paths:
        content = path.read_bytes()
        size += len(content)
        here = _found_in(missing, (content, os.fsencode(path.relative_to(folder))))
        found += here
        for name in here:
            del missing[name]
    return Search(len(paths), size, len(wanted), tuple(found))


def _found_in(wanted: Mapping[str, bytes], contents: Sequence[bytes]) -> list[str]:
    return [name for name, needle in wanted.items() if any(needle in each for each in contents)]


def named(images: Iterable[tuple[str, bytes]]) -> dict[str, bytes]:
    """The pieces of several images, each called by its image and its place."""
    return {
        f"{name}, piece {number}": piece
        for name, image in images
        for number, piece in enumerate(pieces(image), start=1)
    }
