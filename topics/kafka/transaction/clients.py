"""The clients of one transactional member: open together, or not at all; closed together."""

import threading
from collections.abc import Callable
from contextlib import ExitStack

from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.records import Partition
from erasestream.topics.kafka.transaction.consumer import TransactionalConsumer
from erasestream.topics.kafka.transaction.producer import TransactionalProducer
from erasestream.topics.kafka.transaction.start_offsets import StartOffset, StartOffsets


class TransactionalClients:
    """Producer, consumer and start offsets of a member, which share one error state.

    `instance` is the member's permanent name: its place in the group and its transactional id.
    """

    def __init__(
        self,
        *,
        connection: Connection,
        topics: list[str],
        instance: str,
        initial_offset: Callable[[Partition], StartOffset | None],
        stopping: threading.Event,
        has_follow_ups: bool = False,
    ) -> None:
        self.errors: ClientErrorState = ClientErrorState()
        with ExitStack() as opened:
            self.producer: TransactionalProducer = TransactionalProducer(
                connection=connection,
                instance=instance,
                stopping=stopping,
                errors=self.errors,
                has_follow_ups=has_follow_ups,
            )
            opened.callback(self.producer.close)
            # Closed before the producer: closing revokes partitions, which may abort.
            self.consumer: TransactionalConsumer = TransactionalConsumer(
                connection=connection, topics=topics, instance=instance, errors=self.errors
            )
            opened.callback(self.consumer.close)
            admin = opened.enter_context(Admin(connection))
            self.start_offsets: StartOffsets = StartOffsets(
                consumer=self.consumer.client,
                offsets=OffsetQueries(admin),
                initial_offset=initial_offset,
                stopping=stopping,
                errors=self.errors,
            )
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Leave the group and destroy the clients.  Idempotent."""
        self._opened.close()
