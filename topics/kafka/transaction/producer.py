"""Write records that become visible together with the offsets they come from, or not at all."""

import threading
from collections.abc import Callable
from functools import partial

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

from erasestream.schemas.errors import Fenced
from erasestream.topics.catalog.acl import transactional_prefix
from erasestream.topics.catalog.topic_names import MAX_RECORD_BYTES
from erasestream.topics.kafka.connection import QUEUE_KBYTES, Connection
from erasestream.topics.kafka.errors import ClientErrorState, kafka_error, translate
from erasestream.topics.kafka.producer.closing import close_producer
from erasestream.topics.kafka.queueing import queue
from erasestream.topics.kafka.records import Outgoing, Partition
from erasestream.topics.kafka.transaction.calls import (
    CALL_TIMEOUT_S,
    SLICE_S,
    TRANSACTION_TIMEOUT_S,
    AbortRequired,
    TransactionCalls,
)
from erasestream.topics.kafka.transaction.follow_ups import FollowUps

METADATA_S = 10.0
"""Added partitions are seen within this time."""
LINGER_MS = 60
"""How long a record waits for others to be sent with it, since brokers work per request; nothing
waits once the transaction is being committed.  librdkafka checks a record that has waited longer
and cannot be sent yet without a pause: with 5 ms the router took a sixth more of the processor
(measured at 10 KB)."""
DELIVERY_TIMEOUT_S = 20.0
"""By then a record is acknowledged, or has failed."""


class TransactionalProducer:
    """One transactional producer; `instance`, its permanent name, fences its predecessor.

    Every call retries while the brokers are unavailable, until `stopping` is set; then it raises
    `Unavailable`.  All raise `Refused`, and `Fenced`, also when a transaction can no longer end.
    """

    def __init__(
        self,
        *,
        connection: Connection,
        instance: str,
        stopping: threading.Event,
        errors: ClientErrorState,
        has_follow_ups: bool = False,
    ) -> None:
        """With `has_follow_ups`, records may have one: each acknowledgement then takes time."""
        self._write_error: AbortRequired | None = None
        self._follow_ups = FollowUps()
        self._callbacks: dict[Partition, Callable[[KafkaError | None, Message], None]] = {}
        self._producer = Producer(
            connection.settings(
                errors,
                transactional_id=f"{transactional_prefix(connection.role)}{instance}",
                transaction_timeout_ms=int(TRANSACTION_TIMEOUT_S * 1000),
                message_timeout_ms=int(DELIVERY_TIMEOUT_S * 1000),
                message_max_bytes=MAX_RECORD_BYTES,
                queue_buffering_max_kbytes=QUEUE_KBYTES,
                linger_ms=LINGER_MS,
                delivery_report_only_error=not has_follow_ups,
                topic_metadata_refresh_interval_ms=int(METADATA_S * 1000),
            )
        )
        self._calls = TransactionCalls(stopping=stopping, errors=errors, serve=self.serve)

    def start(self) -> None:
        """Fence the predecessor of this name, and abort what it left open."""
        self._calls.make(lambda: self._producer.init_transactions(CALL_TIMEOUT_S))

    def begin(self) -> None:
        """Open a transaction."""
        self._write_error = None
        self._follow_ups = FollowUps()
        try:
            self._producer.begin_transaction()
        except KafkaException as exception:
            error = kafka_error(exception)
            if error.fatal():
                raise Fenced(error.str()) from exception
            raise translate(error, "transaction") from exception

    def write(self, record: Outgoing, *, source: Partition) -> None:
        """Add a record, which a record of `source` became.

        Raises `AbortRequired` if the client library refuses it.
        """
        callback = self._callbacks.get(source)
        if callback is None:
            callback = self._callbacks[source] = partial(self._on_delivery, source)
        if record.follow_up is not None:
            callback = self._follow_ups.expecting(record, source, callback)
        while True:
            try:
                queue(self._producer, record, callback)
            except BufferError:
                self._producer.poll(0.05)
            except KafkaException as exception:
                raise AbortRequired(kafka_error(exception), source) from exception
            else:
                return

    def serve(self) -> None:
        """Handle the acknowledgements that have arrived."""
        self._producer.poll(0)

    def commit(self, offsets: list[TopicPartition], consumer: Consumer) -> None:
        """Commit what was written, together with these offsets of the consumer's group.

        Raises `AbortRequired` if a record was refused or the group has rebalanced.
        """
        if offsets:
            self._calls.make(
                lambda: self._producer.send_offsets_to_transaction(
                    offsets, consumer.consumer_group_metadata(), CALL_TIMEOUT_S
                ),
                meanwhile=lambda: self._producer.flush(SLICE_S),
            )
        self._flush()
        follow_ups = list(self._follow_ups.take())
        for source, record in follow_ups:
            self.write(record, source=source)
        if follow_ups:
            self._flush()
        self._calls.make(lambda: self._producer.commit_transaction(CALL_TIMEOUT_S))

    def _flush(self) -> None:
        """Wait until all is acknowledged.  Raises `AbortRequired` if a record was refused."""
        self._producer.flush(DELIVERY_TIMEOUT_S)
        if self._write_error is not None:
            # The library would commit the transaction without the record.
            raise self._write_error

    def abort(self) -> None:
        """Undo what was written since `begin`."""
        self._calls.make(lambda: self._producer.abort_transaction(CALL_TIMEOUT_S))

    def close(self) -> None:
        """Destroy the client and end its thread; abandon both if a call does not return."""
        if self._calls.close():
            close_producer(self._producer)

    def _on_delivery(self, source: Partition, error: KafkaError | None, _message: Message) -> None:
        if error is not None and self._write_error is None:
            self._write_error = AbortRequired(error, source)
