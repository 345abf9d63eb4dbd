"""Read what a child left in its reply, trusting none of it."""

from erasestream.pipeline.stages.inference.imaging.cutout_image import CutoutImage
from erasestream.pipeline.stages.inference.imaging.limits import LIMITS, Limits
from erasestream.pipeline.stages.inference.isolation import protocol
from erasestream.pipeline.stages.inference.isolation.protocol import (
    CutoutHeader,
    ImageJob,
    ProtocolViolation,
    ReplyKind,
)
from erasestream.pipeline.stages.inference.isolation.shared_memory import copy_from
from erasestream.schemas.errors import InvalidImage
from erasestream.schemas.sealing.recipients import TAG_BYTES


def read_cutout(reply: int, job: ImageJob, limits: Limits = LIMITS) -> CutoutImage:
    """Return the parent's own copy of the cut-out.

    Raises `InvalidImage` with the child's code, `ProtocolViolation`.
    """
    match _kind(reply):
        case ReplyKind.CUTOUT:
            header_at = protocol.KIND.size
            header = CutoutHeader.parse(copy_from(reply, protocol.CUTOUT.size, header_at))
            # The brokers would refuse a longer one, whenever its upload is read again.
            if header.data_bytes > limits.max_result_bytes + (TAG_BYTES if job.ciphers else 0):
                raise ProtocolViolation("length")
            data = copy_from(reply, header.data_bytes, header_at + protocol.CUTOUT.size)
            return header.with_data(data, job)
        case ReplyKind.REFUSED:
            code = protocol.parse_code(_code(reply), protocol.IMAGE_CODES)
            raise InvalidImage(limits.detail_for(code), code=code)
        case _:
            raise ProtocolViolation("order")


def check_ready(reply: int) -> None:
    """Check that the model has run.  Raises `Refused` as the child, or `ProtocolViolation`."""
    match _kind(reply):
        case ReplyKind.READY:
            return
        case ReplyKind.REFUSED:
            raise protocol.parse_start_error(_code(reply))
        case _:
            raise ProtocolViolation("order")


def _kind(reply: int) -> ReplyKind:
    return protocol.parse_kind(copy_from(reply, protocol.KIND.size, 0))


def _code(reply: int) -> bytes:
    at = protocol.KIND.size
    (length,) = protocol.CODE.unpack(copy_from(reply, protocol.CODE.size, at))
    return copy_from(reply, length, at + protocol.CODE.size)
