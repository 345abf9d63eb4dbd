"""A consumer of partitions that it is assigned explicitly, as a member of no group.

Rules, all of them:

* It reads uncommitted by default, from the offsets that it is given.
* An error that may pass is waited out; any other is raised.
* A client is replaced once it has lost its brokers (`broker_loss_detector.py`), or its certificate
  was renewed.
* The fetched messages are bounded in bytes and in number.

One thread.
"""

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet

from confluent_kafka import Consumer, KafkaError, TopicPartition

from erasestream.schemas.errors import ErasestreamError, MissingTopic, Unavailable
from erasestream.topics.kafka.broker_loss_detector import BrokerLossDetector
from erasestream.topics.kafka.certificate_watcher import CertificateWatcher
from erasestream.topics.kafka.connection import Connection, Settings
from erasestream.topics.kafka.consumer.reassign import reassign
from erasestream.topics.kafka.consumer.reported_end import ReportedEnds
from erasestream.topics.kafka.errors import ClientErrorState, translate
from erasestream.topics.kafka.records import Partition, Record

UNCOMMITTED, COMMITTED = "read_uncommitted", "read_committed"
"""Records of transactions: all, or those of committed ones."""
MAX_READ = 100
"""Records that are returned at once: a flood in one lane delays what waits for other lanes' by so
many."""

_IGNORED = {
    KafkaError._PARTITION_EOF,
    # librdkafka looks for the group's coordinator although the group is never joined; a role
    # that reads only through views needs no right to any group.
    KafkaError.GROUP_AUTHORIZATION_FAILED,
}


class AssignedConsumer:
    """Reads the partitions of its last assignment."""

    def __init__(
        self, connection: Connection, fetch_wait_ms: int, isolation: str = UNCOMMITTED
    ) -> None:
        """`fetch_wait_ms`: how long a request waits at a broker that has no new record."""
        self._errors = ClientErrorState()
        self._broker_loss = BrokerLossDetector(connection, self._errors)
        self._certificate = CertificateWatcher(connection.identity)
        self._settings = _settings(connection, self._errors, fetch_wait_ms, isolation)
        self._ends = ReportedEnds()
        self._client = Consumer(self._settings)

    @property
    def forged(self) -> AbstractSet[Partition]:
        """Partitions in which a record claimed an offset that cannot be true."""
        return self._ends.forged

    def assign(self, offsets: Mapping[Partition, int]) -> None:
        """Read exactly these partitions, from these offsets on, as a new consumer would."""
        self._ends = ReportedEnds()
        self.resume(offsets)

    def resume(self, offsets: Mapping[Partition, int]) -> None:
        """Read the assigned partitions from these offsets on."""
        reassign(self._client, offsets)

    def unassign(self) -> None:
        """Read nothing until the next `assign`."""
        self._client.unassign()

    def records(self, timeout_s: float) -> Iterator[Record]:
        """Yield what has arrived, waiting up to the timeout for the first record."""
        first = self._client.poll(timeout_s)
        if first is None:
            return
        # Not `consume` alone, which waits for as many as it was asked for.
        messages = [first, *self._client.consume(MAX_READ - 1, 0)]
        messages.reverse()
        while messages:
            # Released one by one: tracking the headers of a thousand takes the garbage collector
            # as long as half of all the rest (measured).
            message = messages.pop()
            error = message.error()
            if error is None:
                yield Record.of(message)
            else:
                self._wait_out(error)

    def positions(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """Return the offsets that are read next; also past offsets without records."""
        asked = [TopicPartition(*at) for at in partitions]
        found = self._client.position(asked)
        return {Partition(tp.topic, tp.partition): tp.offset for tp in found}

    def reaches(self, at: Partition, end: int) -> bool:
        """Return whether the log is known to reach this end (`reported_end.py`)."""
        return self._ends.covers(self._client, at, end)

    def suspect(self, at: Partition, offset: int) -> None:
        """Note a record whose offset is beyond the reported end (`reported_end.py`)."""
        self._ends.suspect(at, offset)

    def explain(self, otherwise: str) -> ErasestreamError:
        """Return why nothing arrives, as far as the client knows."""
        return self._errors.explain(otherwise)

    def replace_if_lost(self, offsets: Mapping[Partition, int]) -> None:
        """Replace a client that has lost its brokers; the new one reads from these offsets on."""
        if self._broker_loss.is_lost(self._client):
            self._replace(offsets)

    def replace_if_renewed(self, offsets: Mapping[Partition, int]) -> None:
        """Replace a client whose certificate was renewed, likewise."""
        if self._certificate.is_due():
            self._replace(offsets)

    def _replace(self, offsets: Mapping[Partition, int]) -> None:
        before, self._client = self._client, Consumer(self._settings)
        before.close()
        self.resume(offsets)

    def close(self) -> None:
        """Close the client."""
        self._client.close()

    def _wait_out(self, error: KafkaError) -> None:
        """Note an error that may pass; raise any other."""
        if error.code() not in _IGNORED:
            if not isinstance(translate(error), Unavailable | MissingTopic):
                raise translate(error, "reading the view")
            self._errors(error)


def _settings(
    connection: Connection, errors: ClientErrorState, fetch_wait_ms: int, isolation: str
) -> Settings:
    return connection.settings(
        errors,
        group_id=connection.role,  # never joined: partitions are assigned
        enable_auto_commit=False,
        enable_auto_offset_store=False,
        auto_offset_reset="earliest",
        isolation_level=isolation,
        fetch_wait_max_ms=fetch_wait_ms,
        fetch_error_backoff_ms=50,
        # The bound on bytes counts keys and values; besides, each queued record costs librdkafka
        # some 300 bytes of its own, so their number is bounded, too.
        queued_max_messages_kbytes=16_384,
        queued_min_messages=5_000,
        # Pause before fetching resumes after the queue was full; the default is a second.
        fetch_queue_backoff_ms=5,
    )
