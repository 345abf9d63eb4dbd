"""One task: a request and a reply in memory that the parent created.

Runs in a child of the zygote, which ends with its image, or in a long-lived worker process, by
`restrictions.Isolation`.
"""

import mmap
from collections.abc import Callable
from itertools import accumulate
from typing import NamedTuple, Self

from erasestream.pipeline.stages.inference.imaging.cutout_image import CutoutImage
from erasestream.pipeline.stages.inference.isolation import protocol
from erasestream.pipeline.stages.inference.isolation.ciphers import ImageCiphers
from erasestream.pipeline.stages.inference.isolation.protocol import Command, ReplyKind
from erasestream.pipeline.stages.inference.models.segmenter import Segmenter
from erasestream.schemas.errors import InvalidInput, Refused, SealBroken
from erasestream.schemas.options import CutoutOptions
from erasestream.schemas.sealing.body import BodyCipher
from erasestream.schemas.sealing.recipients import TAG_BYTES

CutOut = Callable[[Segmenter, bytes, CutoutOptions], CutoutImage]
Begin = Callable[[bytes, float], None]
"""Called with an image that was sealed, and the deadline of a small one in seconds."""


class Request(NamedTuple):
    """A request as it arrived."""

    options: str
    image: bytes
    deadline_s: float
    ciphers: ImageCiphers | None


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

    def read(self) -> Request:
        """Return the request; a sealed image is opened.  Raises `SealBroken`."""
        at = protocol.REQUEST.size
        *sizes, deadline_s = protocol.REQUEST.unpack_from(self._request)
        options_at, ciphers_at, image_at, end = accumulate(sizes, initial=at)
        options = self._request[options_at:ciphers_at].decode()
        if ciphers_at == image_at:
            return Request(options, self._request[image_at:end], deadline_s, None)
        ciphers = ImageCiphers.parse(self._request[ciphers_at:image_at])
        with memoryview(self._request) as request, request[image_at:end] as body:
            image = ciphers.photo.decrypt(body)
        return Request(options, image, deadline_s, ciphers)

    def write(self, kind: ReplyKind, *pieces: bytes) -> None:
        """Write the reply, its kind last: until then the parent finds no reply.

        The kernel may kill a child during this, for lack of the pages that it fills.
        """
        self._reply.seek(protocol.KIND.size)
        for piece in pieces:
            self._reply.write(piece)
        protocol.KIND.pack_into(self._reply, 0, kind)

    def write_cutout(self, cutout: CutoutImage, cipher: BodyCipher | None) -> None:
        """Write a cut-out; with a cipher, encrypted: it is written nowhere in clear."""
        if cipher is None:
            self.write(ReplyKind.CUTOUT, *protocol.encode_cutout(cutout))
            return
        header, data = protocol.encode_cutout(cutout, added_bytes=TAG_BYTES)
        at = protocol.KIND.size + len(header)
        with memoryview(self._reply) as reply, reply[at : at + len(data) + TAG_BYTES] as body:
            cipher.encrypt_into(data, body)
        self.write(ReplyKind.CUTOUT, header)


def run_job(
    command: Command, buffers: JobBuffers, segmenter: Segmenter, cut_out: CutOut, begin: Begin
) -> None:
    """Run the task and write its reply.  Anything but a refusal ends the process."""
    try:
        if command is Command.WARM_UP:
            segmenter.warm_up()
            buffers.write(ReplyKind.READY)
        else:
            request = buffers.read()
            ciphers = request.ciphers
            if ciphers:
                begin(request.image, request.deadline_s)
            cutout = cut_out(segmenter, request.image, CutoutOptions.from_json(request.options))
            buffers.write_cutout(cutout, ciphers.cutout if ciphers else None)
    except (InvalidInput, Refused, SealBroken) as error:
        buffers.write(ReplyKind.REFUSED, protocol.encode_refusal(error.code))
