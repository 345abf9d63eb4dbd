"""Records that are processed at least once: read, process, commit.

For stages whose work can be repeated without harm.  A static member: a restart within the session
timeout moves no partitions.  Uncommitted records are redelivered, possibly to another member.

The queue also tells which partitions it has read to their ends (`reported_end.py`): a member that
has done all records commits the end, so that its group has no lag.
"""

from collections.abc import Collection, Iterable, Mapping

from confluent_kafka import Consumer, KafkaError, Message

from erasestream.schemas.errors import Fenced, Unavailable
from erasestream.topics.kafka.broker_loss_detector import BrokerLossDetector
from erasestream.topics.kafka.connection import QUEUE_KBYTES, Connection
from erasestream.topics.kafka.consumer.leaving import StaticMember
from erasestream.topics.kafka.consumer.offset_commits import OffsetCommits
from erasestream.topics.kafka.consumer.queue_assignment import QueueAssignment
from erasestream.topics.kafka.consumer.reported_end import ReportedEnds
from erasestream.topics.kafka.consumer.static_membership import member_settings
from erasestream.topics.kafka.errors import ClientErrorState, translate
from erasestream.topics.kafka.records import Partition, Record

METADATA_S = 10.0
"""Added partitions are seen within this time."""


class WorkQueue:
    """One member of a group that shares the records of some topics."""

    def __init__(
        self,
        *,
        connection: Connection,
        topics: list[str],
        instance: str,
        queue_kbytes: int = QUEUE_KBYTES,
    ) -> None:
        self._topics = topics
        self._errors = ClientErrorState()
        self._broker_loss = BrokerLossDetector(connection, self._errors)
        self._ends = ReportedEnds()
        self._commits = OffsetCommits(self._errors)
        self._assignment = QueueAssignment(self._commits)
        settings = member_settings(
            connection,
            self._errors,
            instance=instance,
            topics=topics,
            auto_offset_reset="earliest",
            enable_partition_eof=True,
            topic_metadata_refresh_interval_ms=int(METADATA_S * 1000),
            queued_max_messages_kbytes=queue_kbytes,
        )
        self._consumer = Consumer(settings | {"on_commit": self._commits.on_commit})
        self._member = StaticMember(
            self._consumer,
            on_assign=self._assignment.on_assign,
            on_revoke=self._assignment.on_revoke,
        )
        try:
            self._member.subscribe(topics)
        except BaseException:
            self._consumer.close()
            raise

    @property
    def assignments(self) -> int:
        """How often the group has assigned partitions; read again from what is committed."""
        return self._assignment.count

    @property
    def has_joined(self) -> bool:
        """Whether the group has assigned partitions; there may be none."""
        return self._assignment.count > 0

    def read(self, *, timeout_s: float, most: int, max_bytes: int | None = None) -> list[Record]:
        """Return up to so many records; the last one is the first that reaches `max_bytes`."""
        self._commits.send(self._consumer)
        first = self._consumer.poll(timeout_s)
        self._errors.raise_if_fatal()
        self._broker_loss.check(self._consumer)
        if first is None:
            return []
        rest = _more(self._consumer, most - 1, max_bytes and max_bytes - len(first))
        return [Record.of(message) for message in (first, *rest) if self._is_record(message)]

    def take_ends(self) -> dict[Partition, int]:
        """Return the partitions that were read to their ends since the last call, and these ends.

        An end is behind the markers of transactions, too, which are no records.
        """
        return self._assignment.take_ends()

    def pause(self, topics: Collection[str]) -> None:
        """Read no records of these topics, and go on with those of all others.

        The client drops the records of these topics that it has fetched, and fetches them again.
        """
        self._assignment.pause(self._consumer, topics)

    def commit(self, records: Iterable[Record]) -> None:
        """Commit these records and all that were read before them.  See `commit_below`."""
        below: dict[Partition, int] = {}
        for record in records:
            if self._is_true(record.at, record.offset + 1):
                below[record.at] = max(below.get(record.at, 0), record.offset + 1)
        self.commit_below(below)

    def commit_below(self, offsets: Mapping[Partition, int]) -> None:
        """Commit all records before these offsets, of the partitions that are still assigned.

        Does not wait for the answer; a failed commit is retried with the next read.
        An offset beyond the end that the leader reported is not committed: a record claimed an
        offset that cannot be true, and those behind it would never be read.
        """
        assigned = self._assignment.partitions
        for at, offset in offsets.items():
            if at in assigned and self._is_true(at, offset):
                self._commits.add(at, offset)
        self._commits.send(self._consumer)

    def close(self) -> None:
        """Leave the group; uncommitted records are redelivered to the next member."""
        self._member.close()

    def _is_true(self, at: Partition, end: int) -> bool:
        """Return whether the log reaches this end; note a record that claims more."""
        if self._ends.covers(self._consumer, at, end):
            return True
        self._ends.suspect(at, end - 1)
        return False

    def _is_record(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return True
        if error.fatal():
            raise Fenced(error.str())
        if error.code() == KafkaError._PARTITION_EOF:
            if found := self._ends.read_to_end(self._consumer, message):
                self._assignment.read_to_end(found)
            return False
        if not isinstance(translate(error), Unavailable):
            raise translate(error, f"reading {', '.join(self._topics)}")
        self._errors(error)
        return False


def _more(consumer: Consumer, most: int, max_bytes: int | None) -> list[Message]:
    """Return what has been fetched, up to so many messages and bytes."""
    if max_bytes is None:
        return consumer.consume(most, 0) if most else []
    messages = list[Message]()
    while len(messages) < most and max_bytes > 0 and (message := consumer.poll(0)) is not None:
        max_bytes -= len(message)
        messages.append(message)
    return messages
