"""The real zygote, on a system that sometimes has no process for a child.

The second and the third fork fail, as `fork` does with too many processes.
"""

import errno
import os
import sys
from itertools import count

from erasestream.pipeline.stages.inference.isolation import zygote

FAILS = {2, 3}

_fork, _calls = os.fork, count(1)


def fork() -> int:
    """Fork, or fail as the kernel does."""
    if next(_calls) in FAILS:
        raise BlockingIOError(errno.EAGAIN, "too many processes")
    return _fork()


if __name__ == "__main__":
    os.fork = fork
    sys.exit(zygote.main(sys.argv[1]))
