"""Mutations of a valid image file.

Each takes the file and the dice, and returns another file.  Pure.
"""

import random
import struct
from collections.abc import Callable, Iterator

from tests.pipeline.stages.inference.pictures import png_chunk

PNG_START = b"\x89PNG\r\n\x1a\n"
ABSURD = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
CHUNKS = (b"IHDR", b"PLTE", b"IDAT", b"iCCP", b"eXIf", b"tRNS", b"gAMA", b"zTXt", b"acTL", b"zzzz")


def flip_bits(data: bytes, dice: random.Random) -> bytes:
    """Flip a few bits, anywhere or among the first hundred bytes, where headers are."""
    if not data:
        return data
    changed = bytearray(data)
    reach = len(data) if dice.random() < 0.5 else min(len(data), 100)
    for _ in range(dice.choice((1, 2, 8, 64))):
        changed[dice.randrange(reach)] ^= 1 << dice.randrange(8)
    return bytes(changed)


def truncate(data: bytes, dice: random.Random) -> bytes:
    """Remove the end."""
    return data[: dice.randint(0, len(data))]


def cut_hole(data: bytes, dice: random.Random) -> bytes:
    """Remove some of the middle."""
    start, end = _range(data, dice)
    return data[:start] + data[end:]


def repeat(data: bytes, dice: random.Random) -> bytes:
    """Repeat some of the middle many times."""
    start, end = _range(data, dice)
    times = min(dice.choice((2, 3, 1000)), 500_000 // max(1, end - start))
    return data[:start] + data[start:end] * times + data[end:]


def overwrite(data: bytes, dice: random.Random) -> bytes:
    """Overwrite a range with random bytes, zeros or ones."""
    start, end = _range(data, dice)
    noise = dice.choice((dice.randbytes(end - start), bytes(end - start), b"\xff" * (end - start)))
    return data[:start] + noise + data[end:]


def insert(data: bytes, dice: random.Random) -> bytes:
    """Insert random bytes in the middle."""
    at = dice.randint(0, len(data))
    return data[:at] + dice.randbytes(dice.choice((1, 4, 300))) + data[at:]


def falsify_length(data: bytes, dice: random.Random) -> bytes:
    """Overwrite a number of two or four bytes, in either byte order, with an absurd value."""
    if len(data) < 16:
        return data
    form = dice.choice((">H", "<H", ">I", "<I"))
    size = struct.calcsize(form)
    reach = min(len(data), dice.choice((64, 600, len(data))))
    at = dice.randrange(reach - size)
    value = dice.choice(ABSURD) & (1 << 8 * size) - 1
    return data[:at] + struct.pack(form, value) + data[at + size :]


def shuffle_chunks(data: bytes, dice: random.Random) -> bytes:
    """Reorder, drop, double or nest the chunks of a PNG."""
    if not data.startswith(PNG_START):
        return shuffle_segments(data, dice)
    chunks = list(_chunks(data))
    for _ in range(dice.randint(1, 4)):
        if not chunks:
            break
        at = dice.randrange(len(chunks))
        match dice.randrange(5):
            case 0:
                del chunks[at]
            case 1:
                chunks.insert(dice.randint(0, len(chunks)), chunks[at])
            case 2:
                chunks.insert(
                    at, png_chunk(dice.choice(CHUNKS), dice.randbytes(dice.randrange(64)))
                )
            case 3:  # a chunk, or a whole file, in a chunk
                chunks.insert(at, png_chunk(dice.choice(CHUNKS), dice.choice((chunks[at], data))))
            case _:
                dice.shuffle(chunks)
    return PNG_START + b"".join(chunks)


def shuffle_segments(data: bytes, dice: random.Random) -> bytes:
    """Reorder, drop or repeat the segments of a JPEG."""
    if not data.startswith(b"\xff\xd8"):
        return repeat(data, dice)
    head, scan = list(_segments(data)), data.find(b"\xff\xda")
    if not head or scan < 0:
        return truncate(data, dice)
    at = dice.randrange(len(head))
    match dice.randrange(4):
        case 0:
            del head[at]
        case 1:
            head.insert(dice.randint(0, len(head)), head[at])
        case 2:
            head[at : at + 1] = [head[at]] * 500
        case _:
            dice.shuffle(head)
    return b"\xff\xd8" + b"".join(head) + data[scan:]


def _range(data: bytes, dice: random.Random) -> tuple[int, int]:
    start = dice.randint(0, len(data))
    return start, min(len(data), start + dice.choice((1, 4, 64, 4096)))


def _chunks(data: bytes) -> Iterator[bytes]:
    """Yield the chunks of a PNG, as far as their lengths lead (PNG 5.3)."""
    at = len(PNG_START)
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        yield data[at:end]
        at = end


def _segments(data: bytes) -> Iterator[bytes]:
    """Yield the segments of a JPEG up to the first scan (ISO/IEC 10918-1 B.1.1.4)."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        yield data[at:end]
        at = max(end, at + 2)


Mutation = Callable[[bytes, random.Random], bytes]
MUTATIONS: tuple[Mutation, ...] = (
    flip_bits,
    truncate,
    cut_hole,
    repeat,
    overwrite,
    insert,
    falsify_length,
    shuffle_chunks,
)
