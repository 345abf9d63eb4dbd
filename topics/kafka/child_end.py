"""End of a child process of `multiprocessing`, which runs no functions of `atexit`."""

import sys
from collections.abc import Callable


def at_end_of_child(function: Callable[[], object]) -> None:
    """Call this at the end of this process, if it is such a child; otherwise do nothing."""
    if "multiprocessing" not in sys.modules:
        return
    from multiprocessing import parent_process, util  # noqa: PLC0415 (not loaded by most programs)

    if parent_process() is not None:
        util.Finalize(None, function, exitpriority=-100)
