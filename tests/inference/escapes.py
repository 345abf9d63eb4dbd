"""Try every escape in real children, as the user that this runs as, and print what came of it.

`python -m tests.inference.escapes MODEL [UID]`.  With UID, root becomes
that user first, in the worker; a right to read is kept for as long as programs are started
(where the interpreter lies in root's home), which the children prove not to have any more.
"""

import asyncio
import ctypes
import json
import os
import sys
from pathlib import Path

import psutil

from erasestream.pipeline.inference.manifest import Installed
from erasestream.pipeline.inference.pool import Pool
from erasestream.schemas.errors import InvalidImage
from erasestream.schemas.options import CutoutOptions
from tests.inference.hostile_zygote import ENDS, ESCAPES, PNG

PROGRAM = "tests.inference.hostile_zygote"
_LIBC = ctypes.CDLL(None, use_errno=True)
_READ_SEARCH = 1 << 2
_PR_SET_KEEPCAPS, _PR_CAP_AMBIENT, _RAISE = 8, 47, 2


def become(uid: int) -> None:
    """Become an ordinary user that may still read every program."""
    _checked(_LIBC.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0))
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    header = (0x20080522).to_bytes(4, "little") + bytes(4)
    one = _READ_SEARCH.to_bytes(4, "little") * 3
    _checked(_LIBC.capset(header, one + bytes(12)))
    _checked(_LIBC.prctl(_PR_CAP_AMBIENT, _RAISE, 2, 0, 0))


def _checked(answer: int) -> None:
    if answer < 0:
        raise OSError(ctypes.get_errno(), "become")


async def attempt(pool: Pool, name: str) -> str:
    """The error's name that the attack met, `succeeded`, or how the image failed."""
    try:
        cutout = await pool.cut_out(name.encode(), CutoutOptions())
    except InvalidImage as error:
        return error.code
    return str(json.loads(cutout.data.removeprefix(PNG)))


def status_of(pid: int) -> dict[str, str]:
    """What the kernel tells of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


async def main(model: str) -> None:
    """Each escape in a child of its own; afterwards the zygote must still be the same."""
    pool = Pool(
        model=Installed.read(Path(model)),
        children=1,
        deadline_s=3.0,
        memory_bytes=1 << 30,
        program=PROGRAM,
    )
    await pool.start()
    zygotes = pool.pids
    outcomes = {name: await attempt(pool, name) for name in (*ESCAPES, *ENDS)}
    children = [await attempt(pool, "who am i") for _ in range(3)]
    (zygote,) = zygotes
    report = {
        "outcomes": outcomes,
        "children": children,
        "same_zygote": zygotes == pool.pids,
        "left": len(psutil.Process(zygote).children()),
        "status": status_of(zygote),
    }
    await pool.close()
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        become(int(sys.argv[2]))
    asyncio.run(main(sys.argv[1]))
