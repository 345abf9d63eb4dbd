"""Records that tell where others of their transaction were appended.

Rules, all of them:

* They are made once all others are acknowledged, and are part of the same transaction: both become
  visible, or neither.
* One that cannot be made, because an offset is not known, aborts the transaction.
* They have none themselves.
* They belong to one transaction: an acknowledgement that comes after its end changes nothing.
"""

from collections.abc import Callable, Iterator

from confluent_kafka import KafkaError, Message

from erasestream.topics.kafka.records import Outgoing, Partition
from erasestream.topics.kafka.transaction.calls import AbortRequired

UNKNOWN_OFFSET = "appended without an answer that tells the offset"

Delivered = Callable[[KafkaError | None, Message], None]


class FollowUps:
    """Follow-ups of one transaction."""

    def __init__(self) -> None:
        self._awaited = 0
        self._made: list[tuple[Partition, Outgoing]] = []

    def expecting(self, record: Outgoing, source: Partition, delivered: Delivered) -> Delivered:
        """Return the callback of a record, which makes its follow-up, in place of `delivered`."""
        follow_up = record.follow_up
        if follow_up is None:
            return delivered
        self._awaited += 1

        def acknowledged(error: KafkaError | None, message: Message) -> None:
            delivered(error, message)
            offset = message.offset()
            if error is None and offset is not None and offset >= 0:
                self._made.append((source, follow_up(offset)))

        return acknowledged

    def take(self) -> Iterator[tuple[Partition, Outgoing]]:
        """Yield all, once, each with the partition whose record it belongs to.

        Raises `AbortRequired` unless all that were expected are made.
        """
        if len(self._made) < self._awaited:
            raise AbortRequired(KafkaError(KafkaError._FAIL, UNKNOWN_OFFSET))
        made, self._made, self._awaited = self._made, [], 0
        yield from made
