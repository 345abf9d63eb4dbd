"""Files made to do harm: small ones that expand, and ones that take endless work to decode.

Each maker draws from the dice and returns a file.  Pure.
"""

import random
import struct
import zlib
from collections.abc import Callable
from functools import cache
from math import isqrt

from PIL import Image, ImageCms

from erasestream.schemas.errors import Code
from erasestream.schemas.events.images import MAX_PIXELS
from tests.pipeline.stages.inference.pictures import (
    gradient,
    jpeg_bomb,
    png_bomb,
    png_chunk,
    saved,
    webp_bomb,
)

PNG_START = b"\x89PNG\r\n\x1a\n"
TEXT_BYTES = 50_000_000


def declared_huge(dice: random.Random) -> bytes:
    """Return a few bytes that declare more pixels than are accepted."""
    bomb = dice.choice((png_bomb, jpeg_bomb, webp_bomb))
    most = 65_000 if bomb is jpeg_bomb else 16_000
    least = isqrt(MAX_PIXELS) + 1
    return bomb(dice.randint(least, most), dice.randint(least, most))


def declared_absurd(dice: random.Random) -> bytes:
    """Declare sides of zero, of one, or of all bits."""
    sides = (0, 1, 2**14, 2**16 - 1, 2**31 - 1)
    match dice.randrange(3):
        case 0:
            return png_bomb(dice.choice(sides), dice.choice(sides))
        case 1:
            return jpeg_bomb(*(min(dice.choice(sides), 65_535) for _ in "wh"))
        case _:
            return webp_bomb(*(max(1, min(dice.choice(sides), 2**24)) for _ in "wh"))


def wrong_canvas_size(dice: random.Random) -> bytes:
    """Return an extended WebP whose picture is larger or smaller than its canvas."""
    data = bytearray(saved(_with_alpha(60, 40), "WEBP", quality=50, exif=b"Exif\0\0II*\0"))
    at = data.index(b"VP8X") + 12
    for side in (at, at + 3):
        data[side : side + 3] = dice.choice((0, 1, 39, 500, 2**23)).to_bytes(3, "little")
    return bytes(data)


def within_the_limit(dice: random.Random) -> bytes:
    """Return a few kilobytes that decode to 49 megapixels, just within the limit."""
    return _png(7_000, 7_000, _zeros(7_000 * 7_001), colour=0)


def unpacks_to_more(dice: random.Random) -> bytes:
    """Return a small PNG whose pixel data expands far beyond the picture."""
    many = dice.choice((1, 40)) * 1_000_000
    return _png(32, 32, _zeros(many))


def text_bomb(dice: random.Random) -> bytes:
    """Return a PNG with text, a profile or metadata that expands to 50 MB, up to 20 times."""
    packed = _zeros(TEXT_BYTES)
    chunk = dice.choice(
        (
            png_chunk(b"zTXt", b"Comment\0\0" + packed),
            png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + packed),
            png_chunk(b"iCCP", b"profile\0\0" + packed),
        )
    )
    whole = saved(gradient(dice.randint(8, 64), 48))
    return whole[:33] + chunk * dice.choice((1, 20)) + whole[33:]


def metadata_garbage(dice: random.Random) -> bytes:
    """Add EXIF, XMP and profiles that are noise, or EXIF chains that are circular."""
    circle = b"Exif\0\0II*\0\x08\0\0\0" + b"\1\0\x69\x87\4\0\1\0\0\0\x08\0\0\0" + b"\x08\0\0\0"
    many = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12\0\3\xff\xff\xff\xff\0\0\0\0" * 5_000
    exif = dice.choice((circle, many, b"Exif\0\0" + dice.randbytes(500), dice.randbytes(60_000)))
    size, others = (dice.randint(8, 99), 40), dice.randbytes(dice.choice((10, 5_000)))
    profile = dice.choice((others, _forged_profile(dice)))
    match dice.randrange(3):
        case 0:
            return saved(gradient(*size), "JPEG", exif=exif, icc_profile=profile, xmp=others)
        case 1:
            return saved(gradient(*size), "PNG", exif=exif, icc_profile=profile)
        case _:
            return saved(gradient(*size), "WEBP", exif=exif, icc_profile=profile, xmp=others)


def many_scans(dice: random.Random) -> bytes:
    """Return a progressive JPEG of many megapixels that repeats its last scan."""
    side = dice.choice((500, 2_000, 6_000))
    data = saved(Image.new("L", (side, side), 90), "JPEG", progressive=True, quality=30)
    last = data.rindex(b"\xff\xda")
    scan = data[last:-2]
    return data[:last] + scan * min(dice.choice((50, 2_000)), 1_000_000 // len(scan)) + b"\xff\xd9"


def animated(dice: random.Random) -> bytes:
    """Return several frames, in the two accepted formats that can hold them."""
    frames = [
        gradient(20 + n, 20).resize((20, 20)).rotate(90 * n) for n in range(dice.randint(2, 9))
    ]
    kind = dice.choice(("PNG", "WEBP"))
    return saved(frames[0], kind, save_all=True, append_images=frames[1:])


def wrong_frame_count(dice: random.Random) -> bytes:
    """Return a PNG that declares a wrong number of frames."""
    whole = saved(gradient(30, 30))
    count = dice.choice((0, 1, 2, 2**31 - 1, 2**32 - 1))
    control = png_chunk(b"acTL", struct.pack(">II", count, 0))
    sides = (dice.choice((0, 30, 2**31)),) * 4
    frame = png_chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, *sides, 1, 1, 9, 9))
    return whole[:33] + control + dice.choice((b"", frame, frame * 50)) + whole[33:]


def nothing(dice: random.Random) -> bytes:
    """Return no bytes."""
    return b""


def noise(dice: random.Random) -> bytes:
    """Return random bytes that are not an image."""
    return b"\0" + dice.randbytes(dice.choice((1, 100, 100_000)))


def noise_in_disguise(dice: random.Random) -> bytes:
    """Return random bytes after the first bytes of an image."""
    riff = b"RIFF" + struct.pack("<I", dice.choice((0, 4, 1000, 2**32 - 1))) + b"WEBP"
    heads = (b"\xff\xd8\xff\xe0", b"\xff\xd8\xff\xc0", PNG_START, PNG_START + b"\0\0\0\x0dIHDR")
    parts = (b"VP8 ", b"VP8L", b"VP8X", b"ANIM", b"ALPH")
    head = dice.choice((*heads, *(riff + part for part in parts), b"\0\0\0\x20ftypavif", b"GIF89a"))
    return head + dice.randbytes(dice.choice((0, 3, 50, 5_000)))


@cache
def _zeros(count: int) -> bytes:
    return zlib.compress(bytes(count), 9)


def _png(width: int, height: int, packed: bytes, *, colour: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b""))
    return PNG_START + b"".join(png_chunk(*chunk) for chunk in chunks)


def _with_alpha(width: int, height: int) -> Image.Image:
    picture = gradient(width, height).convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize((width, height)))
    return picture


def _forged_profile(dice: random.Random) -> bytes:
    """Return a real profile with a few bytes changed, mostly lengths and offsets."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    # Clear the creation time, so that the bytes are the same on every run.
    profile[24:36] = bytes(12)
    for _ in range(dice.choice((1, 4, 30))):
        profile[dice.randrange(min(len(profile), 400))] = dice.choice((0, 1, 0x7F, 0xFF))
    return bytes(profile)


Maker = Callable[[random.Random], bytes]
BOMBS: dict[str, tuple[float, Maker]] = {
    "declared huge": (3, declared_huge),
    "declared absurd": (3, declared_absurd),
    "wrong canvas size": (2, wrong_canvas_size),
    "within the limit": (0.2, within_the_limit),
    "unpacks to more": (1, unpacks_to_more),
    "text bomb": (1, text_bomb),
    "metadata garbage": (5, metadata_garbage),
    "many scans": (0.5, many_scans),
    "animated": (2, animated),
    "wrong frame count": (1.3, wrong_frame_count),
    "nothing": (1, nothing),
    "noise": (1, noise),
    "noise in disguise": (3, noise_in_disguise),
}
MUST_BE: dict[str, frozenset[Code]] = {
    "declared huge": frozenset({Code.TOO_MANY_PIXELS}),
    "animated": frozenset({Code.ANIMATED}),
    "nothing": frozenset({Code.EMPTY}),
    "noise": frozenset({Code.UNSUPPORTED_FORMAT}),
}
"""Kinds with one correct answer."""
