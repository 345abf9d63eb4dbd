"""One task: a request and a reply in memory that the parent created.

Runs in a child of the zygote, which ends with its image, or in a long-lived worker process, by
`restrictions.Isolation`.
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

CutOut = Callable[[Segmenter, bytes, CutoutOptions], CutoutImage]


class JobBuffers:
    """Request and reply of a task, mapped; the descriptors may be closed once it exists."""

    def __init__(self, request: int, reply: int) -> None:
        self._request = mmap.mmap(request, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
        self._reply = mmap.mmap(reply, protocol.REPLY_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._request.close()
        self._reply.close()

    def read(self) -> tuple[str, bytes]:
        """Return the options and the image."""
        options_bytes, image_bytes = protocol.REQUEST.unpack_from(self._request)
        image_at = protocol.REQUEST.size + options_bytes
        options = self._request[protocol.REQUEST.size : image_at].decode()
        return options, self._request[image_at : image_at + image_bytes]

    def write(self, kind: ReplyKind, *pieces: bytes) -> None:
        """Write the reply, its kind last: until then the parent finds no reply.

        The kernel may kill a child during this, for lack of the pages that it fills.
        """
        self._reply.seek(protocol.KIND.size)
        for piece in pieces:
            self._reply.write(piece)
        protocol.KIND.pack_into(self._reply, 0, kind)


def run_job(command: Command, buffers: JobBuffers, segmenter: Segmenter, cut_out: CutOut) -> None:
    """Run the task and write its reply.  Anything but a refusal ends the process."""
    try:
        if command is Command.WARM_UP:
            segmenter.warm_up()
            buffers.write(ReplyKind.READY)
        else:
            options, image = buffers.read()
            cutout = cut_out(segmenter, image, CutoutOptions.from_json(options))
            buffers.write(ReplyKind.CUTOUT, *protocol.encode_cutout(cutout))
    except (InvalidInput, Refused) as error:
        buffers.write(ReplyKind.REFUSED, protocol.encode_refusal(error.code))
