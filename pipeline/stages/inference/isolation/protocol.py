"""Messages between the parent and its worker processes: data only, never code.

Pixels are in memory that the parent created: one piece for the request, one for the reply.
Short messages over a socket carry tasks and reports; they contain none of a customer's bytes, so
the zygote reads none.  The parent trusts no reply, because a child that decodes a stranger's
bytes may write anything: lengths are bounded before anything is copied, the copy is made once,
and every field of the copy is checked (its name begins with `untrusted_` until then).

    task      command (u8), number (u32), deadline in seconds (f64); with both memory descriptors
    report    outcome (u8), number (u32); a code if the outcome is REFUSED
    request   options bytes, ciphers bytes, image bytes (u32 each), deadline of a small image in
              seconds (f64), options (JSON), ciphers, image; with ciphers, the body of a sealed one
    reply     kind (u8), written last: 0 until the rest is complete
                         READY:   nothing more (to a warm-up)
                         REFUSED: code bytes (u8), code
                         CUTOUT:  width, height, data bytes (u32 each), milliseconds per step
                                  (f32 each), adjustment (u8; 0: none), left, top, width and
                                  height of the foreground (u32 each; 0: none), data; for a sealed
                                  image, the body of the sealed cut-out
"""

import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import NamedTuple

from erasestream.pipeline.stages.inference.imaging.cutout_image import CutoutImage, Step
from erasestream.pipeline.stages.inference.isolation.ciphers import ImageCiphers
from erasestream.schemas.errors import (
    Code,
    IsolationMissing,
    MissingModel,
    ModelRefused,
    Refused,
)
from erasestream.schemas.events.foreground import Foreground
from erasestream.schemas.events.images import MAX_CUTOUT_BYTES, Adjusted
from erasestream.schemas.image_formats import begins_as
from erasestream.schemas.options import CutoutOptions
from erasestream.schemas.sealing.recipients import TAG_BYTES

REQUEST = struct.Struct("<IIId")
KIND = struct.Struct("<B")
CODE = struct.Struct("<B")
TASK = struct.Struct("<BId")
REPORT = struct.Struct("<BI")

MAX_SIDE = 50_000_000
"""Pixels.  A picture that is wider or higher would exceed the limit of pixels."""


class Command(IntEnum):
    """Task for a worker process."""

    CUT_OUT = 1
    WARM_UP = 2
    CANCEL = 3


class Outcome(IntEnum):
    """Result of a task, or of starting the process."""

    LOADED = 1
    """Not about a task: the model is loaded, and the process restricted."""
    REFUSED = 2
    """Not about a task: the model or the kernel is not as required."""
    COMPLETED = 3
    """The child exited with status 0 and left a reply."""
    TIMED_OUT = 4
    """The child was killed at its deadline."""
    CRASHED = 5
    """The child ended in another way; its reply is not read."""
    FORK_FAILED = 6
    """The system had no process for a child; the parent may retry."""


NO_TASK = frozenset({Outcome.LOADED, Outcome.REFUSED})


class ReplyKind(IntEnum):
    """Content of a reply."""

    READY = 1
    REFUSED = 3
    CUTOUT = 4


NO_FOREGROUND = Foreground(0, 0, 0, 0)
ADJUSTMENTS = (None, *Adjusted)
CUTOUT = struct.Struct(f"<III{len(Step)}fB4I")
REPLY_BYTES = KIND.size + CUTOUT.size + MAX_CUTOUT_BYTES + TAG_BYTES

IMAGE_CODES = frozenset(
    {
        Code.EMPTY,
        Code.UNSUPPORTED_FORMAT,
        Code.TRUNCATED,
        Code.CORRUPT,
        Code.TOO_LARGE,
        Code.TOO_MANY_PIXELS,
        Code.ANIMATED,
        Code.INVALID_OPTIONS,
        Code.ENCODING_FAILED,
        Code.RESULT_TOO_LARGE,
        Code.SEAL_BROKEN,
    }
)
"""Codes that a child may give for an image."""

START_ERRORS: Mapping[Code, type[Refused]] = MappingProxyType(
    {each.default: each for each in (MissingModel, ModelRefused, IsolationMissing)}
)
"""Errors that a worker process may report, by their codes, instead of becoming ready."""


class ProtocolViolation(Exception):
    """A message that none of our processes would send: its sender is not used again."""


class ImageJob(NamedTuple):
    """An image, and what is to be done with it.  With ciphers, it is the body of a sealed one."""

    image: bytes | memoryview
    options: CutoutOptions
    ciphers: ImageCiphers | None = None


def encode_request(job: ImageJob, deadline_s: float) -> tuple[bytes, bytes | memoryview]:
    """Encode a request, in two pieces so that the image is not copied."""
    text = job.options.to_json().encode()
    ciphers = job.ciphers.encode() if job.ciphers else b""
    head = REQUEST.pack(len(text), len(ciphers), len(job.image), deadline_s)
    return head + text + ciphers, job.image


def encode_refusal(code: Code) -> bytes:
    """Encode the rest of a reply of kind REFUSED."""
    return CODE.pack(len(code)) + code.encode()


def encode_cutout(cutout: CutoutImage, *, added_bytes: int = 0) -> tuple[bytes, bytes]:
    """Encode the rest of a reply of kind CUTOUT, in two pieces; sealing adds to the second."""
    times = (cutout.steps_ms.get(step, 0.0) for step in Step)
    adjusted = ADJUSTMENTS.index(cutout.adjusted)
    size = len(cutout.data) + added_bytes
    box = cutout.foreground or NO_FOREGROUND
    header = CUTOUT.pack(cutout.width, cutout.height, size, *times, adjusted, *box)
    return header, cutout.data


def parse_kind(untrusted_kind: bytes) -> ReplyKind:
    """Return the kind of a reply.  Raises `ProtocolViolation`."""
    try:
        return ReplyKind(KIND.unpack(untrusted_kind)[0])
    except ValueError as error:
        raise ProtocolViolation("kind") from error


def parse_report(untrusted_report: bytes) -> tuple[Outcome, int, bytes]:
    """Return the outcome, the task's number and the rest.  Raises `ProtocolViolation`.

    Only a process that has no task yet may refuse: one that works on a stranger's bytes itself
    must not be able to end the parent.
    """
    try:
        untrusted_outcome, number = REPORT.unpack_from(untrusted_report)
        outcome = Outcome(untrusted_outcome)
    except (struct.error, ValueError) as error:
        raise ProtocolViolation("report") from error
    if (outcome in NO_TASK) != (number == 0):
        raise ProtocolViolation("number")
    return outcome, number, untrusted_report[REPORT.size :]


def parse_code(untrusted_code: bytes, allowed: Iterable[Code]) -> Code:
    """Return the code if it is one of `allowed`.  Raises `ProtocolViolation`."""
    for code in allowed:
        if code.encode() == untrusted_code:
            return code
    raise ProtocolViolation("code")


def parse_start_error(untrusted_code: bytes) -> Refused:
    """Return the error with which a process did not become ready.  Raises `ProtocolViolation`."""
    return START_ERRORS[parse_code(untrusted_code, START_ERRORS)]()


@dataclass(frozen=True, kw_only=True)
class CutoutHeader:
    """Header of a cut-out: its claimed size in pixels and bytes, its steps, and its foreground."""

    width: int
    height: int
    data_bytes: int
    steps_ms: Mapping[str, float]
    adjusted: Adjusted | None
    foreground: Foreground | None

    @classmethod
    def parse(cls, untrusted_header: bytes) -> "CutoutHeader":
        """Return a header whose fields are bounded and finite.  Raises `ProtocolViolation`."""
        width, height, data_bytes, *times, adjusted = CUTOUT.unpack(untrusted_header)[:-4]
        box = Foreground(*CUTOUT.unpack(untrusted_header)[-4:])
        if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
            raise ProtocolViolation("size")
        if not 0 < data_bytes <= MAX_CUTOUT_BYTES + TAG_BYTES:
            raise ProtocolViolation("length")
        if not all(math.isfinite(time) and time >= 0 for time in times):
            raise ProtocolViolation("times")
        if adjusted >= len(ADJUSTMENTS):
            raise ProtocolViolation("adjustment")
        if box != NO_FOREGROUND and not box.is_within(width, height):
            raise ProtocolViolation("foreground")
        steps = {str(step): round(time, 3) for step, time in zip(Step, times, strict=True)}
        return cls(
            width=width,
            height=height,
            data_bytes=data_bytes,
            steps_ms=MappingProxyType(steps),
            adjusted=ADJUSTMENTS[adjusted],
            foreground=None if box == NO_FOREGROUND else box,
        )

    def with_data(self, untrusted_data: bytes, job: ImageJob) -> CutoutImage:
        """Return the cut-out if its data begin as the requested format does.

        Those of a sealed one show nothing but their size.  Raises `ProtocolViolation`.
        """
        if job.ciphers:
            if len(untrusted_data) <= TAG_BYTES:
                raise ProtocolViolation("length")
        elif not begins_as(job.options.format.content_type, untrusted_data):
            raise ProtocolViolation("format")
        return CutoutImage(
            data=untrusted_data,
            content_type=job.options.format.content_type,
            steps_ms=self.steps_ms,
            width=self.width,
            height=self.height,
            adjusted=self.adjusted,
            foreground=self.foreground,
        )
