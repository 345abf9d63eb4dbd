"""A child process of the pool: takes pictures from its standard input, one after the other.

What it gives up before it sees the first picture: core dumps, being read by other processes
of this user, new privileges, memory without bound, and its life after its parent's.  Once it
is ready it has no way to say anything but its answers: a decoder's warning about a stranger's
picture must not get into a log.

Started by `pool.py` with exec, never by a fork of a process that has threads.
"""

import ctypes
import os
import resource
import signal
import struct
import sys
from pathlib import Path
from typing import BinaryIO

from erasestream.pipeline.inference import frames
from erasestream.pipeline.inference.cutout import cut_out_once
from erasestream.pipeline.inference.frames import Kind
from erasestream.pipeline.inference.manifest import Installed
from erasestream.pipeline.inference.model import Segmenter
from erasestream.schemas.errors import InvalidInput, Refused
from erasestream.schemas.options import CutoutOptions

# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38


def restrict(*, parent: int, memory_bytes: int) -> None:
    """Give up what no picture needs.  Raises `OSError` if the kernel does not do it."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        # It ended before the kernel knew that we want to end with it.
        raise ProcessLookupError
    _prctl(_PR_SET_DUMPABLE, 0)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    # The terminal's Ctrl-C is for the worker, which ends its children when it is done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def serve(segmenter: Segmenter, requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the worker closes its end.

    Anything but a refusal of the image ends the process: whatever was left behind in its
    memory is then gone, and the worker starts another.
    """
    while head := requests.read(frames.REQUEST.size):
        options_bytes, image_bytes = frames.REQUEST.unpack(head)
        options = requests.read(options_bytes).decode()
        image = requests.read(image_bytes)
        if len(image) < image_bytes:
            return
        _say(answers, frames.KIND.pack(Kind.RECEIVED))
        try:
            cutout = cut_out_once(segmenter, image, CutoutOptions.from_json(options))
        except InvalidInput as error:
            _say(answers, frames.refusal(error.code))
        else:
            _say(answers, *frames.answer(cutout))
            del cutout
        # Nothing of a picture is held while the next one is waited for.
        del image


def main(arguments: list[str]) -> int:
    """`child.py FOLDER PARENT MEMORY`: the model's folder, the worker's pid, a limit in bytes."""
    folder, parent, memory_bytes = arguments
    restrict(parent=int(parent), memory_bytes=int(memory_bytes))
    requests, answers = _pipes()
    try:
        segmenter = Segmenter(Installed.read(Path(folder)))
        segmenter.warm_up()
    except Refused as error:
        _say(answers, frames.refusal(error.code))
        return 1
    _say(answers, frames.KIND.pack(Kind.READY))
    _fall_silent()
    try:
        serve(segmenter, requests, answers)
    except (BrokenPipeError, struct.error):
        return 0  # the worker is gone, or ended in the middle of a request
    return 0


def _pipes() -> tuple[BinaryIO, BinaryIO]:
    """The ends of the pipes to the worker, out of the way of whatever prints."""
    requests, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    return os.fdopen(requests, "rb", buffering=1 << 16), os.fdopen(answers, "wb", buffering=0)


def _fall_silent() -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    os.close(nothing)


def _say(answers: BinaryIO, *pieces: bytes) -> None:
    for piece in pieces:
        left = memoryview(piece)
        while left:
            left = left[answers.write(left) :]


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
