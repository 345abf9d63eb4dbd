"""Close a member of a group without a race that freezes its process.

`Consumer.close` must not meet a rebalance that the application has not handled.  It would handle it
while the client's main thread ends the group, and ask that thread for the rebalance protocol,
without a time limit.  A request that arrives just before the group has ended is dropped unanswered
(https://github.com/confluentinc/librdkafka/issues/4041, seen with 2.15.1).  confluent-kafka holds
the interpreter's lock meanwhile: no other thread of the process runs again, and only SIGKILL ends
it.  One in five to ten members that closed while they joined their group did so.  Rules:

* A dynamic member ends its subscription first.  Once that has taken effect, no rebalance begins,
  and polling handles those before it.
* A static member that ended its subscription would leave its group, and a restart would move
  partitions.  One that has its assignment only handles what has come, and closes.  One that has
  none, because it joins or the group rebalances, has nothing to keep: it leaves.

Left: a rebalance that another member begins in the microseconds between the last poll of a static
member and its close; and an unsubscription that librdkafka postpones, as a cooperative rebalance
is under way.
"""

from collections.abc import Callable
from contextlib import suppress

from confluent_kafka import Consumer, KafkaException, TopicPartition

Callback = Callable[[Consumer, list[TopicPartition]], None]


def leave_and_close(consumer: Consumer) -> None:
    """Leave the group and close the client; callbacks for revoked partitions run in this call.

    Fetched records are dropped.  Exceptions of callbacks are raised once the client is closed.
    """
    try:
        _leave(consumer)
    finally:
        consumer.close()


class StaticMember:
    """Subscribes a static member of a group, and closes it.  One thread."""

    def __init__(self, consumer: Consumer, *, on_assign: Callback, on_revoke: Callback) -> None:
        """Create one; `on_revoke` may also run in `close`, `on_assign` never does."""
        self._consumer = consumer
        self._on_assign = on_assign
        self._on_revoke = on_revoke
        self._is_assigned = self._is_closing = False

    def subscribe(self, topics: list[str]) -> None:
        """Join the group."""
        self._consumer.subscribe(
            topics, on_assign=self._assign, on_revoke=self._revoke, on_lost=self._revoke
        )

    def close(self) -> None:
        """Close the client; the group keeps its partitions for it until the session ends.

        Fetched records are dropped.  Exceptions of callbacks are raised once the client is closed.
        """
        self._is_closing = True
        try:
            with suppress(KafkaException):
                self._consumer.pause(self._consumer.assignment())  # so that polling comes to an end
            _handle_rebalances(self._consumer)
            if not self._is_assigned:
                _leave(self._consumer)
        finally:
            self._consumer.close()

    def _assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._is_assigned = True
        if not self._is_closing:
            self._on_assign(consumer, partitions)

    def _revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._is_assigned = False
        self._on_revoke(consumer, partitions)


def _leave(consumer: Consumer) -> None:
    with suppress(KafkaException):  # a member that is fenced cannot leave, and closes all the same
        consumer.unsubscribe()
    _handle_rebalances(consumer)


def _handle_rebalances(consumer: Consumer) -> None:
    with suppress(KafkaException):
        while consumer.poll(0) is not None:
            pass
