"""Replies of children are checked before they are believed."""

import dataclasses
import os

import pytest
from PIL import Image

from erasestream.pipeline.stages.inference.imaging.cutout_image import CutoutImage, Step
from erasestream.pipeline.stages.inference.imaging.limits import LIMITS, Limits
from erasestream.pipeline.stages.inference.isolation import protocol, shared_memory
from erasestream.pipeline.stages.inference.isolation.job import JobBuffers
from erasestream.pipeline.stages.inference.isolation.protocol import (
    ImageJob,
    ProtocolViolation,
    ReplyKind,
)
from erasestream.pipeline.stages.inference.isolation.replies import read_cutout
from erasestream.schemas.events.foreground import Foreground
from tests.pipeline.stages.inference.isolation.pool_harness import CIPHERS, OPTIONS
from tests.pipeline.stages.inference.pictures import saved

HONEST = CutoutImage(
    data=saved(Image.new("RGBA", (4, 3))),
    content_type="image/png",
    steps_ms=dict.fromkeys(Step, 1.0),
    width=4,
    height=3,
    foreground=Foreground(1, 0, 3, 2),
)
JOB = ImageJob(b"", OPTIONS)
SEALED_JOB = ImageJob(b"", OPTIONS, CIPHERS)
WHOLE = b"".join((protocol.KIND.pack(ReplyKind.CUTOUT), *protocol.encode_cutout(HONEST)))
HEADER_AT = protocol.KIND.size
BOX_AT = protocol.CUTOUT.size - 16
"""In the header: left, top, width and height of the foreground."""


def changed(at: int, piece: bytes) -> bytes:
    """Return the honest reply with some bytes of its header changed."""
    reply = bytearray(WHOLE)
    reply[HEADER_AT + at : HEADER_AT + at + len(piece)] = piece
    return bytes(reply)


def parse(reply: bytes, job: ImageJob = JOB, limits: Limits = LIMITS) -> CutoutImage:
    """Parse memory in which a child left this reply."""
    with shared_memory.allocated(protocol.REPLY_BYTES) as descriptor:
        os.pwrite(descriptor, reply, 0)
        return read_cutout(descriptor, job, limits)


def test_an_incomplete_reply_is_not_read() -> None:
    """Whatever stops a child while it writes, its reply has no kind."""
    header, data = protocol.encode_cutout(HONEST)
    with (
        shared_memory.holding(b"\0") as request,
        shared_memory.allocated(protocol.REPLY_BYTES) as reply,
    ):
        with JobBuffers(request, reply) as buffers, pytest.raises(TypeError):
            buffers.write(ReplyKind.CUTOUT, header, None)  # type: ignore[arg-type]
        with pytest.raises(ProtocolViolation, match="kind"):
            read_cutout(reply, JOB)
        with JobBuffers(request, reply) as buffers:
            buffers.write(ReplyKind.CUTOUT, header, data)
        assert read_cutout(reply, JOB) == HONEST


def test_an_honest_reply_is_read() -> None:
    """The false replies below are changes of this one."""
    assert parse(WHOLE) == HONEST


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"\xff",
        bytes([ReplyKind.READY]),
        bytes([ReplyKind.REFUSED, 5]) + b"wrong",
        bytes([ReplyKind.REFUSED, 7]) + b"expired",
        changed(0, b"\0\0\0\0"),
        changed(4, b"\xff\xff\xff\xff"),
        changed(8, b"\0\0\0\0"),
        changed(8, (64_000_001).to_bytes(4, "little")),
        changed(12, b"\0\0\xc0\x7f"),
        changed(12, b"\0\0\x80\xbf"),
        changed(BOX_AT - 1, bytes([len(protocol.ADJUSTMENTS)])),
        changed(BOX_AT, b"\2"),
        changed(BOX_AT + 4, b"\2"),
        changed(BOX_AT + 8, b"\4"),
        changed(BOX_AT + 8, b"\0"),
        changed(BOX_AT + 12, b"\4"),
        changed(BOX_AT, b"\xff\xff\xff\xff" + b"\0" * 4 + b"\xff\xff\xff\xff"),
        changed(protocol.CUTOUT.size, b"GIF89a"),
        changed(protocol.CUTOUT.size, b"\xff\xd8\xff"),
    ],
)
def test_a_false_reply_violates_the_protocol(reply: bytes) -> None:
    """Kind, order, code, size, length, times, foreground and format are checked."""
    with pytest.raises(ProtocolViolation):
        parse(reply)


def test_a_reply_may_have_no_foreground() -> None:
    assert parse(changed(BOX_AT, bytes(16))) == dataclasses.replace(HONEST, foreground=None)


def test_the_data_of_a_sealed_reply_are_not_looked_at() -> None:
    """The parent cannot: they are of any bytes, at least a tag and one."""
    data = b"any bytes of a child"
    header, _ = protocol.encode_cutout(dataclasses.replace(HONEST, data=data))
    head = protocol.KIND.pack(ReplyKind.CUTOUT) + header
    assert parse(head + data, SEALED_JOB) == dataclasses.replace(HONEST, data=data)
    with pytest.raises(ProtocolViolation, match="format"):
        parse(head + data)


@pytest.mark.parametrize("size", [0, 16, 64_000_017])
def test_a_sealed_reply_of_a_false_length_violates_the_protocol(size: int) -> None:
    with pytest.raises(ProtocolViolation, match="length"):
        parse(changed(8, size.to_bytes(4, "little")), SEALED_JOB)


def test_the_longest_cutout_fits_with_its_tag_and_no_longer() -> None:
    """Only a sealed one has a tag."""
    longest = changed(8, (64_000_016).to_bytes(4, "little"))
    assert len(parse(longest, SEALED_JOB).data) == 64_000_016
    with pytest.raises(ProtocolViolation, match="length"):
        parse(longest)


@pytest.mark.parametrize(("job", "added"), [(JOB, 0), (SEALED_JOB, 16)])
def test_a_reply_that_the_brokers_would_refuse_violates_the_protocol(
    job: ImageJob, added: int
) -> None:
    """They may accept less than an event can carry; a worker would end at it again and again."""
    size = len(HONEST.data)
    limits = Limits(max_bytes=1, max_result_bytes=size)
    longest = changed(8, (size + added).to_bytes(4, "little"))
    assert len(parse(longest, job, limits).data) == size + added
    with pytest.raises(ProtocolViolation, match="length"):
        parse(changed(8, (size + added + 1).to_bytes(4, "little")), job, limits)
