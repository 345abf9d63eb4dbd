"""Keep this process's memory out of core dumps, and away from other processes of its user.

Pixels, keys and tokens are in memory in clear.  A dump of it would be on disk for as long as the
machine keeps dumps.  prctl(2): a process that is not dumpable leaves no core dump, whatever its
limit and wherever the kernel sends dumps, and other processes of its user can neither attach to it
nor read its memory.  A debugger needs root.
"""

import ctypes
import os
import resource

PR_SET_DUMPABLE = 4
_LIBC = ctypes.CDLL(None, use_errno=True)


def forbid_core_dumps() -> None:
    """Leave no core dump, and refuse debuggers.  Raises `OSError` if the kernel does not do so.

    Inherited by forked processes; a program that is executed keeps the limit only.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    nothing = ctypes.c_ulong(0)
    if _LIBC.prctl(ctypes.c_int(PR_SET_DUMPABLE), nothing, nothing, nothing, nothing) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "prctl")
