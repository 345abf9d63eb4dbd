"""What passes between the worker and the processes that work on images: nothing that is code.

Pixels lie in memory that the worker made: one piece with the request, one for the answer.
Short messages over a socket tell what to do and what became of it; they carry no word of a
stranger's, so the zygote reads none.  The worker believes no answer: lengths are bounded before
anything is copied, the copy is made once, and every field of it is checked (`untrusted_` until
then), since a child that decodes a stranger's bytes may say anything.

    task      what (u8), number (u32), deadline in seconds (f64); the two pieces of memory with it
    report    how (u8), number (u32); a code, if it is REFUSED
    request   options bytes (u32), image bytes (u32), options (JSON), image
    answer    kind (u8), written last: 0 until all the rest is there
                         READY:   nothing more (to a warm-up)
                         REFUSED: code bytes (u8), code
                         CUTOUT:  width, height, data bytes (u32 each), milliseconds per step
                                  (f32 each), what was adjusted (u8; 0: nothing), data
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType

from erasestream.pipeline.stages.inference.imaging.cutout_image import CutoutImage, Step
from erasestream.schemas.errors import Code
from erasestream.schemas.events.images import MAX_CUTOUT_BYTES, Adjusted
from erasestream.schemas.image_formats import sniff_content_type
from erasestream.schemas.options import CutoutOptions

REQUEST = struct.Struct("<II")
KIND = struct.Struct("<B")
CODE = struct.Struct("<B")
TASK = struct.Struct("<BId")
REPORT = struct.Struct("<BI")

MAX_SIDE = 50_000_000
"""No picture that is taken is wider or higher: it would have more pixels than allowed."""


class Command(IntEnum):
    """What the worker wants."""

    CUT_OUT = 1
    WARM_UP = 2
    CANCEL = 3


class Outcome(IntEnum):
    """What became of it."""

    LOADED = 1
    """No task: the model is loaded, and the process restricted."""
    REFUSED = 2
    """No task: the model or the kernel is not what it should be."""
    ENDED = 3
    """The child has ended as it should, and left an answer."""
    EXPIRED = 4
    """The child was killed at its deadline."""
    CRASHED = 5
    """The child ended in another way: what it left is not looked at."""
    NOT_BEGUN = 6
    """The system had no process for a child: the worker may ask again."""


NO_TASK = frozenset({Outcome.LOADED, Outcome.REFUSED})


class ReplyKind(IntEnum):
    """What an answer is."""

    READY = 1
    REFUSED = 3
    CUTOUT = 4


ADJUSTMENTS = (None, *Adjusted)
CUTOUT = struct.Struct(f"<III{len(Step)}fB")
ANSWER_BYTES = KIND.size + CUTOUT.size + MAX_CUTOUT_BYTES

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
    }
)
"""What a child may say about an image."""

MODEL_CODES = frozenset({Code.MISSING_MODEL, Code.MODEL_REFUSED, Code.ISOLATION_MISSING})
"""What a child may say instead of being ready."""


class ProtocolViolation(Exception):
    """The child said what no child of ours would say: it is not to be used again."""


def request(image: bytes, options: CutoutOptions) -> tuple[bytes, bytes]:
    """A request, in two pieces so that the image is not copied."""
    text = options.to_json().encode()
    return REQUEST.pack(len(text), len(image)) + text, image


def refusal(code: Code) -> bytes:
    """What follows the kind of an answer that carries a code."""
    return CODE.pack(len(code)) + code.encode()


def answer(cutout: CutoutImage) -> tuple[bytes, bytes]:
    """What follows the kind of an answer that carries a cut-out, in two pieces."""
    times = (cutout.steps_ms.get(step, 0.0) for step in Step)
    adjusted = ADJUSTMENTS.index(cutout.adjusted)
    head = CUTOUT.pack(cutout.width, cutout.height, len(cutout.data), *times, adjusted)
    return head, cutout.data


def kind_of(untrusted_kind: bytes) -> ReplyKind:
    """Raises `ProtocolViolation`."""
    try:
        return ReplyKind(KIND.unpack(untrusted_kind)[0])
    except ValueError as error:
        raise ProtocolViolation("kind") from error


def allowed_content_types(options: CutoutOptions) -> frozenset[str]:
    """What a cut-out may be, of what was asked for."""
    return frozenset({options.format.content_type})


def parse_report(untrusted_report: bytes) -> tuple[Outcome, int, bytes]:
    """How, the task's number, and the rest.  Raises `ProtocolViolation`.

    Only a process that has no task yet may refuse: one that works itself, on a stranger's bytes,
    must not end the worker.
    """
    try:
        untrusted_how, number = REPORT.unpack_from(untrusted_report)
        how = Outcome(untrusted_how)
    except (struct.error, ValueError) as error:
        raise ProtocolViolation("report") from error
    if (how in NO_TASK) != (number == 0):
        raise ProtocolViolation("number")
    return how, number, untrusted_report[REPORT.size :]


def code_of(untrusted_code: bytes, allowed: frozenset[Code]) -> Code:
    """The code, if it is one that may be said here.  Raises `ProtocolViolation`."""
    for code in allowed:
        if code.encode() == untrusted_code:
            return code
    raise ProtocolViolation("code")


@dataclass(frozen=True, kw_only=True)
class Announced:
    """The head of a cut-out: how many bytes follow, and what they are said to be."""

    width: int
    height: int
    data_bytes: int
    steps_ms: Mapping[str, float]
    adjusted: Adjusted | None

    @classmethod
    def parse(cls, untrusted_head: bytes) -> "Announced":
        """Bounded and finite, or `ProtocolViolation`."""
        width, height, data_bytes, *times, adjusted = CUTOUT.unpack(untrusted_head)
        if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
            raise ProtocolViolation("size")
        if not 0 < data_bytes <= MAX_CUTOUT_BYTES:
            raise ProtocolViolation("length")
        if not all(math.isfinite(time) and time >= 0 for time in times):
            raise ProtocolViolation("times")
        if adjusted >= len(ADJUSTMENTS):
            raise ProtocolViolation("adjustment")
        steps = {str(step): round(time, 3) for step, time in zip(Step, times, strict=True)}
        return cls(
            width=width,
            height=height,
            data_bytes=data_bytes,
            steps_ms=MappingProxyType(steps),
            adjusted=ADJUSTMENTS[adjusted],
        )

    def cutout(self, untrusted_data: bytes, options: CutoutOptions) -> CutoutImage:
        """The cut-out, if it looks like the format that was asked for; or `ProtocolViolation`."""
        content_type = sniff_content_type(untrusted_data)
        if content_type is None or content_type not in allowed_content_types(options):
            raise ProtocolViolation("format")
        return CutoutImage(
            data=untrusted_data,
            content_type=content_type,
            steps_ms=self.steps_ms,
            width=self.width,
            height=self.height,
            adjusted=self.adjusted,
        )
