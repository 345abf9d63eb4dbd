"""Hostile image files, each named by a seed and an index.

`case(seed, index)` returns the same bytes on every run (with the same Pillow, which writes the
files that are then damaged), so a harmful case can be replayed alone:

    python -m tests.faults.hostile_images SEED INDEX > case.bin

One in five is a valid picture of a known size, because a decoder that refuses everything would
be safe too.  The others are damaged (`hostile_mutations.py`) or made to do harm
(`hostile_bombs.py`).  Pure: no clock, no I/O, and no randomness but the seed's.
"""

import io
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from erasestream.schemas.errors import Code
from tests.faults import hostile_bombs, hostile_mutations
from tests.pipeline.stages.inference.pictures import gradient

ORIENTATION = 0x0112


@dataclass(frozen=True, kw_only=True)
class Case:
    """A file, and its required answer: a cut-out of this size, one of these codes, or any."""

    name: str
    data: bytes = field(repr=False)
    size: tuple[int, int] | None = None
    codes: frozenset[Code] = frozenset()


def case(seed: int, index: int) -> Case:
    """Return the case of this seed and index."""
    dice = _dice(seed, index)
    kind = _draw_kind(dice)
    name = f"{seed}/{index} {kind}"
    if kind == "valid":
        data, size = valid(dice)
        return Case(name=name, data=data, size=size)
    data = KINDS[kind][1](dice)
    codes = hostile_bombs.MUST_BE.get(kind, frozenset())
    return Case(name=name, data=data, codes=codes)


def kind_of(seed: int, index: int) -> str:
    """Return the kind of a case without making its file."""
    return _draw_kind(_dice(seed, index))


def _dice(seed: int, index: int) -> random.Random:
    return random.Random(f"{seed}/{index}")


def _draw_kind(dice: random.Random) -> str:
    return dice.choices(list(KINDS), weights=[weight for weight, _ in KINDS.values()])[0]


def valid(dice: random.Random) -> tuple[bytes, tuple[int, int]]:
    """Return a valid file and the size that its cut-out must have."""
    width, height = dice.randint(1, 320), dice.randint(1, 320)
    kind, mode, options = dice.choice(WRITTEN)
    picture = _in_mode(gradient(width, height), mode)
    if mode == "RGBA":
        picture.putalpha(Image.linear_gradient("L").resize((width, height)))
    orientation = dice.randint(1, 8) if kind in {"JPEG", "WEBP"} and mode == "RGB" else 1
    exif = Image.Exif()
    if orientation > 1:
        exif[ORIENTATION] = orientation
        options = {**options, "exif": exif}
    return _encode(picture, kind, **options), (height, width) if orientation > 4 else (
        width,
        height,
    )


def damaged(dice: random.Random) -> bytes:
    """Return a valid file of any format after one to three mutations."""
    data = _any_file(dice)
    for _ in range(dice.randint(1, 3)):
        data = dice.choice(hostile_mutations.MUTATIONS)(data, dice)
    return data


def spliced(dice: random.Random) -> bytes:
    """Return the head of one valid file and the tail of another."""
    one, other = _any_file(dice), _any_file(dice)
    return one[: dice.randint(0, len(one))] + other[dice.randint(0, len(other)) :]


def polyglot(dice: random.Random) -> bytes:
    """Return a valid file followed by a second file, an archive or a web page."""
    appended = dice.choice(
        [_any_file(dice), b"PK\3\4" + dice.randbytes(200), b"<script>x</script>"]
    )
    return _any_file(dice) + appended


def foreign(dice: random.Random) -> bytes:
    """Return a valid file of a rare format, whole or mutated."""
    picture = gradient(dice.randint(1, 64), dice.randint(1, 64))
    kind = dice.choice(FOREIGN)
    data = _encode(picture, kind, **({"append_images": [picture]} if kind == "MPO" else {}))
    return dice.choice(hostile_mutations.MUTATIONS)(data, dice) if dice.random() < 0.5 else data


def _any_file(dice: random.Random) -> bytes:
    return valid(dice)[0] if dice.random() < 0.9 else foreign(dice)


def _in_mode(picture: Image.Image, mode: str) -> Image.Image:
    if mode == "LA":
        return picture.convert("RGBA").convert("LA")
    if mode == "I;16":
        return picture.convert("L").convert("I").point(lambda level: level * 257).convert("I;16")
    return picture.convert(mode)


def _encode(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


WRITTEN: list[tuple[str, str, dict[str, Any]]] = [
    ("JPEG", "RGB", {"quality": 90}),
    ("JPEG", "RGB", {"quality": 60, "progressive": True}),
    ("JPEG", "RGB", {"icc_profile": b"no profile"}),
    ("JPEG", "L", {"quality": 80}),
    ("JPEG", "CMYK", {"quality": 80}),
    *(("PNG", mode, {}) for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")),
    ("PNG", "RGB", {"icc_profile": b"no profile either"}),
    ("WEBP", "RGB", {"quality": 70}),
    ("WEBP", "RGB", {"lossless": True}),
    ("WEBP", "RGBA", {"quality": 70}),
]
FOREIGN = (
    *("GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "ICO", "ICNS", "TGA", "PCX", "PPM", "SGI", "DDS"),
    *("EPS", "MPO", "QOI"),
)
KINDS: dict[str, tuple[float, Callable[[random.Random], bytes]]] = {
    "valid": (20, lambda dice: valid(dice)[0]),
    "damaged": (40, damaged),
    "spliced": (6, spliced),
    "polyglot": (4, polyglot),
    "foreign": (6, foreign),
    **hostile_bombs.BOMBS,
}
"""Weight and maker of each kind; the weights are per cent."""


if __name__ == "__main__":
    found = case(int(sys.argv[1]), int(sys.argv[2]))
    sys.stderr.write(f"{found.name}: {len(found.data)} bytes\n")
    sys.stdout.buffer.write(found.data)
