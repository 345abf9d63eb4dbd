"""Messages between the gateway and a fetcher.  Pure.

    request   host, line feed, target; then the gateway writes no more
    answer    kind (u8), length of the data (u32), data: an image, or the `Location` of a redirect;
              then the fetcher ends

The gateway believes no answer: it bounds what it reads, and checks what it has read.
"""

import struct
from enum import IntEnum
from typing import NamedTuple

from erasestream.pipeline.gateway.egress.image_url import MAX_URL, ImageUrl

HEADER = struct.Struct("<BI")
MAX_IMAGE_BYTES = 30_000_000
"""As `schemas.events.images` has it, which a fetcher does not import: it takes 0.1 s."""
MAX_ANSWER_BYTES = HEADER.size + MAX_IMAGE_BYTES


class Kind(IntEnum):
    """Outcome of a request."""

    IMAGE = 1
    REDIRECT = 2
    FAILED = 3
    TOO_LARGE = 4


class Answer(NamedTuple):
    """Outcome, with the image or the `Location`."""

    kind: Kind
    data: bytes = b""


FAILED = Answer(Kind.FAILED)
_MOST = {Kind.IMAGE: MAX_IMAGE_BYTES, Kind.REDIRECT: MAX_URL}


class BrokenAnswer(Exception):
    """Not an answer of a fetcher that works."""


def encode_request(url: ImageUrl) -> bytes:
    """Encode a request."""
    return f"{url.host}\n{url.target}".encode()


def parse_request(raw: bytes) -> ImageUrl:
    """Parse the gateway's request."""
    host, _, target = raw.decode().partition("\n")
    return ImageUrl(host, target)


def encode_answer(answer: Answer) -> bytes:
    """Encode an answer."""
    return HEADER.pack(answer.kind, len(answer.data)) + answer.data


def parse_answer(untrusted_answer: bytes | bytearray) -> Answer:
    """Return the answer.  Raises `BrokenAnswer`."""
    try:
        untrusted_kind, length = HEADER.unpack_from(untrusted_answer)
        kind = Kind(untrusted_kind)
    except (struct.error, ValueError):
        raise BrokenAnswer from None
    data = bytes(memoryview(untrusted_answer)[HEADER.size :])
    if not length == len(data) <= _MOST.get(kind, 0):
        raise BrokenAnswer
    return Answer(kind, data)
