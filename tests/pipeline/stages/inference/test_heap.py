"""Free memory of the C library, before and after it is occupied."""

import subprocess
import sys

import pytest

from tests.paths import ROOT

HOLES = """
import ctypes, sys
from erasestream.pipeline.stages.inference import heap

libc = ctypes.CDLL(None)
libc.sbrk.restype = ctypes.c_void_p
pieces = [bytearray(200_000) for _ in range(100)]
del pieces[::2]
if sys.argv[1] == "occupied":
    heap.occupy_heap()
end = libc.sbrk(0)
more = [bytearray(150_000) for _ in range(20)]
print(libc.sbrk(0) - end)
"""
"""Frees fifty holes, and prints by how much the heap grows for blocks that would fit into them."""


@pytest.mark.parametrize(("how", "grows"), [("occupied", True), ("free", False)])
def test_an_occupied_heap_takes_new_memory_from_the_kernel(how: str, grows: bool) -> None:
    environment = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}
    ran = subprocess.run(
        [sys.executable, "-c", HOLES, how],
        capture_output=True,
        env=environment,
        check=True,
        cwd=ROOT,
    )
    assert (int(ran.stdout) >= 3_000_000 - 200_000) is grows


def test_occupying_ends_where_large_blocks_are_not_in_the_heap() -> None:
    """It does not allocate all memory."""
    limited = f"import resource\nresource.setrlimit(resource.RLIMIT_AS, ({1 << 31}, {1 << 31}))"
    command = [sys.executable, "-c", f"{limited}\n{HOLES}\nbytearray(1 << 30)", "occupied"]
    subprocess.run(command, env={}, check=True, cwd=ROOT)
