"""No core dump of a protected process, and no access to its memory."""

import subprocess
import sys

PROGRAM = """
import ctypes, resource, sys
from erasestream.pipeline.runtime.memory_protection import forbid_core_dumps
if "protected" in sys.argv:
    forbid_core_dumps()
PR_GET_DUMPABLE = 3
is_dumpable = ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)
print(is_dumpable, *resource.getrlimit(resource.RLIMIT_CORE))
"""


def state(*arguments: str) -> list[str]:
    """Return whether a process is dumpable, and its limits of a core dump."""
    command = [sys.executable, "-c", PROGRAM, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_a_protected_process_is_not_dumpable() -> None:
    assert state()[0] == "1"
    assert state("protected") == ["0", "0", "0"]
