"""The real zygote, with an attack in place of cutting out: the image names the attack.

Everything else is production code: start, restrictions, fork, limits, filters, reply.
"""

import ctypes
import errno
import fcntl
import gc
import json
import mmap
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from erasestream.pipeline.stages.inference.imaging.cutout_image import CutoutImage, Step
from erasestream.pipeline.stages.inference.isolation import protocol, zygote
from erasestream.pipeline.stages.inference.isolation.job import JobBuffers
from erasestream.pipeline.stages.inference.isolation.protocol import Outcome, ReplyKind
from erasestream.pipeline.stages.inference.models.segmenter import Segmenter
from erasestream.schemas.errors import Code
from erasestream.schemas.options import CutoutOptions

LIBC = ctypes.CDLL(None, use_errno=True)
PNG = b"\x89PNG\r\n\x1a\n"


def syscall(x86_64: int, arm64: int, *arguments: object) -> None:
    """Make a call that Python does not offer.  Raises `OSError` with the kernel's error."""
    number = x86_64 if os.uname().machine == "x86_64" else arm64
    if LIBC.syscall(ctypes.c_long(number), *arguments) < 0:
        raise OSError(ctypes.get_errno(), "syscall")


def _every_descriptor(call: Callable[[int], object]) -> None:
    """Try each descriptor; the first open one decides."""
    for descriptor in range(256):
        try:
            call(descriptor)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
        else:
            return
    raise OSError(errno.EBADF, "no descriptor is open")


def _fork_bomb() -> None:
    for _ in range(5):  # 32 processes if it succeeds
        os.fork()


def _memory_bomb() -> None:
    kept = []
    while True:  # the address space is limited: touching the memory would only take longer
        kept.append(mmap.mmap(-1, 64 << 20))


def _forever() -> None:
    while True:
        pass


def _executable_memory() -> None:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)


def _send_udp() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.sendto(b"pixels", ("127.0.0.1", 9))


ESCAPES: dict[str, Callable[[], object]] = {
    "tcp": lambda: socket.create_connection(("127.0.0.1", 9)),
    "udp": _send_udp,
    "unix socket": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
    "socketpair": socket.socketpair,
    "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "open to read": lambda: os.open("/etc/passwd", os.O_RDONLY),
    "open to write": lambda: os.open("/tmp/escaped", os.O_WRONLY | os.O_CREAT, 0o600),  # noqa: S108
    "open the model": lambda: os.open(sys.executable, os.O_RDONLY),
    "list a folder": lambda: list(Path("/proc").iterdir()),
    "look at a file": lambda: Path("/etc/passwd").stat(),
    "unlink": lambda: Path("/tmp/escaped").unlink(),  # noqa: S108
    "exec": lambda: os.execv("/bin/true", ["true"]),  # noqa: S606
    "fork": os.fork,
    "vfork": lambda: syscall(58, 220, ctypes.c_long(17), None, None, None, None),
    "fork bomb": _fork_bomb,
    "thread": lambda: syscall(56, 220, ctypes.c_long(0x10F00), None, None, None, None),
    "clone3": lambda: syscall(435, 435, bytes(88), ctypes.c_long(88)),
    "kill the parent": lambda: os.kill(os.getppid(), signal.SIGKILL),
    # Signal 0 needs the same right, and does no harm if it is granted.
    "kill everything": lambda: os.kill(-1, 0),
    "kill the group": lambda: os.kill(0, 0),
    "kill a thread": lambda: syscall(
        234, 131, ctypes.c_long(PARENT), ctypes.c_long(PARENT), ctypes.c_long(9)
    ),
    "queue a signal": lambda: syscall(
        129, 138, ctypes.c_long(PARENT), ctypes.c_long(9), bytes(128)
    ),
    # The owner of a socket or pipe gets a signal of our choice when there is something to read.
    "own a signal": lambda: _every_descriptor(lambda fd: fcntl.fcntl(fd, 8, PARENT)),
    "choose the signal": lambda: _every_descriptor(lambda fd: fcntl.fcntl(fd, 10, 9)),
    "leave the group": os.setsid,
    "ptrace": lambda: syscall(101, 117, ctypes.c_long(16), ctypes.c_long(PARENT), None, None),
    "process_vm_readv": lambda: syscall(
        310, 270, ctypes.c_long(PARENT), None, ctypes.c_long(0), None, ctypes.c_long(0), None
    ),
    "process_vm_writev": lambda: syscall(
        311, 271, ctypes.c_long(PARENT), None, ctypes.c_long(0), None, ctypes.c_long(0), None
    ),
    "pidfd_open": lambda: syscall(434, 434, ctypes.c_long(PARENT), ctypes.c_long(0)),
    "pidfd_getfd": lambda: syscall(438, 438, ctypes.c_long(3), ctypes.c_long(0), ctypes.c_long(0)),
    "memory of the parent": lambda: os.open(f"/proc/{PARENT}/mem", os.O_RDONLY),
    "io_uring": lambda: syscall(425, 425, ctypes.c_long(8), bytes(120)),
    "userfaultfd": lambda: syscall(323, 282, ctypes.c_long(0)),
    "bpf": lambda: syscall(321, 280, ctypes.c_long(0), bytes(128), ctypes.c_long(128)),
    "perf": lambda: syscall(298, 241, bytes(128), ctypes.c_long(0), ctypes.c_long(0)),
    "keyctl": lambda: syscall(250, 219, ctypes.c_long(0), ctypes.c_long(0)),
    "shared memory": lambda: syscall(
        29, 194, ctypes.c_long(0), ctypes.c_long(4096), ctypes.c_long(0o1600)
    ),
    "memfd": lambda: os.memfd_create("x"),
    "pipe": os.pipe,
    "mount": lambda: syscall(165, 40, b"none", b"/", b"tmpfs", ctypes.c_long(0), None),
    "unshare": lambda: syscall(272, 97, ctypes.c_long(0x10000000)),
    "dumpable": lambda: syscall(157, 167, ctypes.c_long(4), ctypes.c_long(1), None, None, None),
    "prlimit": lambda: syscall(302, 261, ctypes.c_long(0), ctypes.c_long(9), bytes(16), None),
    "limits of the parent": lambda: syscall(
        302, 261, ctypes.c_long(PARENT), ctypes.c_long(7), bytes(16), None
    ),
    "another filter": lambda: syscall(317, 277, ctypes.c_long(1), ctypes.c_long(0), None),
    "affinity of the parent": lambda: syscall(
        203, 122, ctypes.c_long(PARENT), ctypes.c_long(8), b"\1" + bytes(7)
    ),
    "become root": lambda: os.setuid(0),
    "executable memory": _executable_memory,
    "executable later": lambda: syscall(
        10, 226, ctypes.c_void_p(0x1000), ctypes.c_long(4096), ctypes.c_long(5)
    ),
    "shrink the memory": lambda: _every_descriptor(lambda fd: os.ftruncate(fd, 0)),
    "read what is open": lambda: _every_descriptor(lambda fd: os.read(fd, 1)),
    "send over what is open": lambda: _every_descriptor(lambda fd: os.write(fd, b"x")),
}
"""Each raises `OSError` where it is refused."""


def _answer_and_crash() -> None:
    (buffers,) = (each for each in gc.get_objects() if isinstance(each, JobBuffers))
    buffers.write(ReplyKind.CUTOUT, *protocol.encode_cutout(_cutout(PNG + b'"crashed"')))
    os.abort()


def _cutout(data: bytes) -> CutoutImage:
    return CutoutImage(
        data=data,
        content_type="image/png",
        steps_ms=dict.fromkeys(Step, 0.0),
        width=1,
        height=1,
    )


def _report(outcome: Outcome) -> None:
    """Report an outcome of the task, as a long-lived process can: it has the socket."""
    frame: FrameType | None = sys._getframe()
    while frame and "task" not in frame.f_locals:
        frame = frame.f_back
    assert frame is not None
    channel, task = frame.f_locals["channel"], frame.f_locals["task"]
    channel.report(outcome, task.number, Code.MODEL_REFUSED if outcome is Outcome.REFUSED else None)


ENDS: dict[str, Callable[[], object]] = {
    "memory bomb": _memory_bomb,
    "endless loop": _forever,
    "segmentation fault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "exit in silence": lambda: os._exit(0),
    "sleep": lambda: time.sleep(3600),
    "an answer and a crash": _answer_and_crash,
}
"""Each ends the child, or never returns."""

PARENT = 0
REMEMBERED: list[str] = []
"""Names that an image leaves in the process for the next one."""


def hostile(_: Segmenter, image: bytes, _options: CutoutOptions) -> CutoutImage:
    """Try the attack that the image names, and return its outcome in the cut-out."""
    global PARENT  # noqa: PLW0603 (the escapes are lambdas that read it late)
    PARENT = os.getppid() if image != b"who am i" else os.getpid()
    name = image.decode()
    if name in Outcome.__members__:
        _report(Outcome[name])
    if name in ENDS:
        ENDS[name]()
    outcome = "succeeded"
    if name == "who am i" or name in Outcome.__members__:
        outcome = f"{os.getpid()}"
    elif name in {"remember", "recall"}:
        outcome = ",".join(REMEMBERED)
        REMEMBERED.append(name)
    else:
        try:
            ESCAPES[name]()
        except OSError as error:
            outcome = errno.errorcode.get(error.errno or 0, "unknown")
    return _cutout(PNG + json.dumps(outcome).encode())


if __name__ == "__main__":
    sys.exit(zygote.main(sys.argv[1], cut_out=hostile))
