"""Rights that a fetcher gives up: before it resolves a name, and before it reads an answer."""

import os
import resource
from collections.abc import Iterable
from pathlib import Path

from erasestream.pipeline.runtime.sandbox import landlock
from erasestream.pipeline.runtime.sandbox.fetcher_filter import FetcherFilter, program
from erasestream.pipeline.runtime.sandbox.restrictions import give_up_privileges
from erasestream.pipeline.runtime.sandbox.seccomp import ARCHITECTURES, install_program

MEMORY_BYTES = 512_000_000
"""Address space: Python with its libraries, the certificates, and an image twice."""
CPU_S = 10
MAX_DESCRIPTORS = 32
DNS = 53
RESOLVER_FILES = tuple(
    Path("/etc") / name
    for name in ("gai.conf", "host.conf", "hosts", "nsswitch.conf", "resolv.conf")
)


def confine(ports: Iterable[int]) -> None:
    """Leave the resolver's files, name servers and connections to these ports.

    Raises `OSError` if the kernel does not do so.
    """
    give_up_privileges(memory_bytes=MEMORY_BYTES)
    limits = {
        resource.RLIMIT_CPU: CPU_S,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: MAX_DESCRIPTORS,
        resource.RLIMIT_NPROC: 0,
    }
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value))
    landlock.forbid_all_but(files=RESOLVER_FILES, ports=(DNS, *ports))
    _filter(FetcherFilter.CONNECTING)


def confine_to_connection() -> None:
    """Leave what is open.  Raises `OSError`."""
    _filter(FetcherFilter.CONNECTED)


def _filter(which: FetcherFilter) -> None:
    install_program(program(ARCHITECTURES[os.uname().machine], which))
