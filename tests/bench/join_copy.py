"""The loop that decides nothing: a plain transactional copy, as a process.

    python -m tests.bench.join_copy BOOTSTRAP IDENTITIES

It is the product's own loop, run in the product's own way, with a handler that hands every
record on.  What the router is slower than this is the price of deciding.
"""

import sys
import threading
from collections.abc import Iterable, Mapping
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from erasestream.pipeline.devstack.child_process import ChildProcess
from erasestream.pipeline.runtime.runner import run
from erasestream.topics.catalog.roles import Role
from erasestream.topics.kafka.connection import Cluster, Connection
from erasestream.topics.kafka.records import Outgoing, Partition, Record
from erasestream.topics.kafka.transaction.loop import TransactionalLoop
from erasestream.topics.kafka.transaction.start_offsets import StartOffset
from tests.bench.join_harness import Contender, JoinHarness

NAME = "copy"


class Copy:
    """Hands every record on, to the partition of the same number."""

    def __init__(self, target: str) -> None:
        self._target = target

    def on_assigned(self, starts: Mapping[Partition, StartOffset]) -> None:
        """There is nothing to remember."""

    def is_ready(self) -> bool:
        """There is nothing to wait for."""
        return True

    def wait_until_ready(self) -> None:
        """There is nothing to wait for."""

    def handle(self, record: Record) -> Iterable[Outgoing]:
        """The same record."""
        return [Outgoing(self._target, record.at.number, None, record.headers, record.value)]

    def initial_offset(self, at: Partition) -> StartOffset:
        """At the beginning."""
        del at
        return StartOffset(0, "")

    def offset_metadata(self, at: Partition) -> str:
        """None."""
        del at
        return ""


class CopyStage:
    """What `run` needs of a stage."""

    def __init__(self, cluster: Cluster, stopping: threading.Event) -> None:
        self._loop = TransactionalLoop(
            connection=Connection(cluster=cluster, role=Role(NAME)),
            topics=[f"{NAME}.in"],
            instance="1",
            handler=Copy(f"{NAME}.out"),
            stopping=stopping,
        )
        self._loop.start()

    def run_once(self, timeout_s: float) -> None:
        """One small read and what follows from it."""
        self._loop.run_once(timeout_s)

    def is_ready(self) -> bool:
        """Whether its partitions are its own."""
        return self._loop.is_assigned

    def close(self) -> None:
        """Leave."""
        self._loop.close()


def start_copy(bed: JoinHarness, peer: Contender) -> ChildProcess:
    """The copy as a process, ready."""
    cluster = bed.stack.cluster
    arguments = [cluster.bootstrap_servers[0], str(cluster.identities)]
    command = [sys.executable, "-m", "tests.bench.join_copy", *arguments]
    return bed.start(peer.group, command, ready='"ready"')


def main(bootstrap: str, identities: str) -> int:
    """Copy until SIGTERM."""
    cluster = Cluster(bootstrap_servers=(bootstrap,), identities=Path(identities))
    deadline = timedelta(seconds=60)
    return run(
        NAME, lambda s: closing(CopyStage(cluster, s)), health_port=0, ready_deadline=deadline
    )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
