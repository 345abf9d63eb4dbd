"""The loop without decisions: a plain transactional copy, as a process.

    python -m tests.bench.join_copy BOOTSTRAP IDENTITIES

It is the product's own loop and runner, with a handler that forwards every record.  The router
is slower than this by the cost of deciding.
"""

import sys
import threading
from collections.abc import Collection, Iterable, Mapping
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from erasestream.pipeline.devstack.child_process import ChildProcess
from erasestream.pipeline.runtime.quarantine import QuarantineRegistry
from erasestream.pipeline.runtime.runner import run
from erasestream.topics.catalog.roles import Role
from erasestream.topics.kafka.connection import Cluster, Connection
from erasestream.topics.kafka.records import Outgoing, Partition, Record
from erasestream.topics.kafka.transaction.loop import TransactionalLoop
from erasestream.topics.kafka.transaction.start_offsets import StartOffset
from tests.bench.join_harness import Contender, JoinHarness

NAME = "copy"


class Copy:
    """Handler that forwards every record to the partition of the same number."""

    def __init__(self, target: str) -> None:
        self._target = target

    def on_assigned(self, starts: Mapping[Partition, StartOffset]) -> None:
        """Keep nothing."""

    def on_read(self, partitions: Collection[Partition]) -> None:
        """Do nothing: there is nothing to wait for."""

    def is_ready(self, at: Partition) -> bool:
        """Return True: there is nothing to wait for."""
        del at
        return True

    def handle(self, record: Record) -> Iterable[Outgoing]:
        """Forward the record."""
        return [Outgoing(self._target, record.at.number, None, record.headers, record.value)]

    def initial_offset(self, at: Partition) -> StartOffset:
        """Start at the first offset."""
        del at
        return StartOffset(0, "")

    def offset_metadata(self, at: Partition) -> str:
        """Return no metadata."""
        del at
        return ""


class CopyStage:
    """The copy as a stage that `run` can run."""

    def __init__(self, cluster: Cluster, stopping: threading.Event) -> None:
        self._loop = TransactionalLoop(
            connection=Connection(cluster=cluster, role=Role(NAME)),
            topics=[f"{NAME}.in"],
            instance="1",
            handler=Copy(f"{NAME}.out"),
            stopping=stopping,
            listener=QuarantineRegistry(),
        )
        self._loop.start()

    def run_once(self, timeout_s: float) -> None:
        """Read once and forward what was read."""
        self._loop.run_once(timeout_s)

    def is_ready(self) -> bool:
        """Return whether its partitions are assigned."""
        return self._loop.is_assigned

    def close(self) -> None:
        """Leave the group."""
        self._loop.close()


def start_copy(harness: JoinHarness, peer: Contender) -> ChildProcess:
    """Start the copy as a process, and wait until it is ready."""
    cluster = harness.stack.cluster
    arguments = [cluster.bootstrap_servers[0], str(cluster.identities)]
    command = [sys.executable, "-m", "tests.bench.join_copy", *arguments]
    return harness.start(peer.group, command, ready='"ready"')


def main(bootstrap: str, identities: str) -> int:
    """Copy until SIGTERM."""
    cluster = Cluster(bootstrap_servers=(bootstrap,), identities=Path(identities))
    deadline = timedelta(seconds=60)
    return run(
        NAME, lambda s: closing(CopyStage(cluster, s)), health_port=0, ready_deadline=deadline
    )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
