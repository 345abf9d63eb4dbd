"""Try every escape in real children, as the current user, and print the outcomes.

Every image is sealed, so that the children have the ciphers of one.  Run as a module with the
arguments MODEL ISOLATION [UID].  With UID, root becomes that user first,
in the parent; it keeps the right to read every file while it starts programs (the interpreter may
be in root's home), which the children prove not to have.
"""

import asyncio
import ctypes
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil

from erasestream.pipeline.runtime.sandbox.restrictions import Isolation
from erasestream.pipeline.stages.inference.isolation.process_pool import ProcessPool
from erasestream.pipeline.stages.inference.models.store import Installed
from erasestream.schemas.errors import InvalidImage
from erasestream.schemas.options import CutoutOptions
from tests.paths import ROOT
from tests.pipeline.stages.inference.isolation.hostile_zygote import ENDS, ESCAPES, PNG
from tests.pipeline.stages.inference.isolation.pool_harness import CIPHERS

PROGRAM = "tests.pipeline.stages.inference.isolation.hostile_zygote"
OVERFLOW_UID = 65534
USERS = ("root", "user") if os.getuid() == 0 else ("user",)
_LIBC = ctypes.CDLL(None, use_errno=True)
_READ_SEARCH = 1 << 2
_PR_SET_KEEPCAPS, _PR_CAP_AMBIENT, _RAISE = 8, 47, 2


def become(uid: int) -> None:
    """Become an ordinary user that may still read every file."""
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


async def attempt(pool: ProcessPool, name: str) -> str:
    """Return the name of the attack's error, `succeeded`, or the code of the failed image."""
    try:
        sealed = CIPHERS.photo.encrypt(name.encode())
        cutout = await pool.cut_out(sealed, CutoutOptions(), CIPHERS)
    except InvalidImage as error:
        return error.code
    return str(json.loads(CIPHERS.cutout.decrypt(cutout.data).removeprefix(PNG)))


def status_of(pid: int) -> dict[str, str]:
    """Return the kernel's status of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


async def main(model: str, isolation: Isolation) -> None:
    """Try each escape, then each way to end; compare the pool's processes before and after."""
    pool = ProcessPool(
        model=Installed.read(Path(model)),
        children=1,
        # A long-lived process does not limit itself to the time of a small image.
        deadline_s=5.0 if isolation is Isolation.PER_IMAGE else 5.0 / 3,
        memory_bytes=1 << 30,
        program=PROGRAM,
        isolation=isolation,
    )
    await pool.start()
    first = pool.pids
    outcomes = {name: await attempt(pool, name) for name in ESCAPES}
    children = [await attempt(pool, "who am i") for _ in range(3)]
    memory = [await attempt(pool, name) for name in ("remember", "recall")]
    outlives_escapes = pool.pids == first
    (pid,) = pool.pids
    status = status_of(pid)
    outcomes |= {name: await attempt(pool, name) for name in ENDS}
    await attempt(pool, "who am i")  # processes that ended are replaced by then
    report = {
        "outcomes": outcomes,
        "children": children,
        "memory": memory,
        "outlives_escapes": outlives_escapes,
        "outlives_ends": pool.pids == first,
        "left": sum(len(psutil.Process(pid).children()) for pid in pool.pids),
        "status": status,
    }
    await pool.close()
    sys.stdout.write(json.dumps(report))


def report_of(model: Installed, *, user: str, isolation: Isolation) -> dict[str, Any]:
    """Return the outcome of every attack, as root or as an ordinary user."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "model"
        shutil.copytree(model.folder, copy)
        for path in (Path(folder), copy):
            path.chmod(0o755)
        become = [str(OVERFLOW_UID)] if user == "user" and os.getuid() == 0 else []
        command = [
            sys.executable,
            "-m",
            "tests.pipeline.stages.inference.isolation.escapes",
            str(copy),
            isolation,
            *become,
        ]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) | {"uid": OVERFLOW_UID if become else os.getuid()}


if __name__ == "__main__":
    if len(sys.argv) > 3:
        become(int(sys.argv[3]))
    asyncio.run(main(sys.argv[1], Isolation(sys.argv[2])))
