"""What becomes of one task: the work in memory that the worker gave, and an answer.

Runs in the child of the zygote that ends with its image, or in a process that lives longer,
by `sandbox.Isolation`.
"""

import mmap
from collections.abc import Callable
from typing import Self

from erasestream.pipeline.stages.inference.imaging.cutout_image import CutoutImage
from erasestream.pipeline.stages.inference.isolation import protocol
from erasestream.pipeline.stages.inference.isolation.protocol import Command, ReplyKind
from erasestream.pipeline.stages.inference.models.segmenter import Segmenter
from erasestream.schemas.errors import InvalidInput, Refused
from erasestream.schemas.options import CutoutOptions

Work = Callable[[Segmenter, bytes, CutoutOptions], CutoutImage]


class JobBuffers:
    """The two pieces of memory of a task, mapped; their descriptors may then be closed."""

    def __init__(self, request: int, answer: int) -> None:
        self._request = mmap.mmap(request, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
        self._answer = mmap.mmap(answer, protocol.ANSWER_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._request.close()
        self._answer.close()

    def read(self) -> tuple[str, bytes]:
        """The options and the image."""
        options_bytes, image_bytes = protocol.REQUEST.unpack_from(self._request)
        image_at = protocol.REQUEST.size + options_bytes
        options = self._request[protocol.REQUEST.size : image_at].decode()
        return options, self._request[image_at : image_at + image_bytes]

    def write(self, kind: ReplyKind, *pieces: bytes) -> None:
        """Leave the answer.  It is none until its kind is there, which comes last.

        The kernel may end a child in the midst of it, for want of the pages that it fills.
        """
        self._answer.seek(protocol.KIND.size)
        for piece in pieces:
            self._answer.write(piece)
        protocol.KIND.pack_into(self._answer, 0, kind)


def do(what: Command, desk: JobBuffers, segmenter: Segmenter, work: Work) -> None:
    """Do the task.  Anything but a refusal is left to end the process."""
    try:
        if what is Command.WARM_UP:
            segmenter.warm_up()
            desk.write(ReplyKind.READY)
        else:
            options, image = desk.read()
            cutout = work(segmenter, image, CutoutOptions.from_json(options))
            desk.write(ReplyKind.CUTOUT, *protocol.answer(cutout))
    except (InvalidInput, Refused) as error:
        desk.write(ReplyKind.REFUSED, protocol.refusal(error.code))
