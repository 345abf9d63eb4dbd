"""The entries of the key service in the ledger: which keys died, and when.

Opened when it is first needed, and again until it succeeds: keys are given out before the brokers
have the topic, and while they are unavailable.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.errors import MissingTopic, NotAuthorized, Unavailable
from erasestream.schemas.events.ledger import KeyDestroyed
from erasestream.topics.catalog.acl import Operation
from erasestream.topics.catalog.epochs import EpochTimes
from erasestream.topics.catalog.topic_names import LEDGER
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.partitioner import partition_of
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from erasestream.topics.kafka.records import Partition

MAX_TIMEOUT_S = 10.0


class KeyLedger:
    """Writes entries, and waits for their acknowledgement.  Not thread-safe."""

    def __init__(self, connection: Connection, times: EpochTimes) -> None:
        self._connection = connection
        # Brokers that do not answer must not delay the destruction of keys.
        self._timeout_s = min(MAX_TIMEOUT_S, times.destruction_s / 4)
        self._writer: AcknowledgedWriter | None = None
        self._partitions = 0

    def open(self) -> AcknowledgedWriter:
        """Check the right to write, once.  Raises `Unavailable`, also without topic or right."""
        if self._writer is None:
            with _to_be_granted(), Admin(self._connection, timeout_s=self._timeout_s) as admin:
                needed = {LEDGER: (Operation.WRITE,)}
                self._partitions = admin.check_rights(needed)[LEDGER]
            self._writer = AcknowledgedWriter(
                connection=self._connection, timeout_s=self._timeout_s
            )
        return self._writer

    def record(self, entry: KeyDestroyed) -> None:
        """Write an entry.  Raises `Unavailable`; it may then have been written or not."""
        writer, key = self.open(), entry.purpose.encode()
        at = Partition(LEDGER, partition_of(key, self._partitions))
        with _to_be_granted():
            writer.write(at, key, to_wire(entry, source="/keys"))

    def close(self) -> None:
        """Close the client, if one was opened."""
        if self._writer is not None:
            self._writer.close()


@contextmanager
def _to_be_granted() -> Iterator[None]:
    """Wait for the topic and the right, as before the first provisioning."""
    try:
        yield
    except (MissingTopic, NotAuthorized) as error:
        raise Unavailable(error.detail, error.code) from error
