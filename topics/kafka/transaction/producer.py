"""Writes that become visible together with the offsets they were made from, or not at all."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

from erasestream.schemas.errors import Fenced, Unavailable
from erasestream.topics.catalog.acl import transactional_prefix
from erasestream.topics.catalog.topic_names import MAX_RECORD_BYTES
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.errors import ClientErrorState, kafka_error, translate
from erasestream.topics.kafka.records import Outgoing
from erasestream.topics.kafka.transaction.abandonable_calls import AbandonableExecutor

QUEUE_KBYTES = 160_000
"""Bound of a client's queue, in kilobytes: two of the largest records."""
CALL_TIMEOUT_S = 5.0
"""What librdkafka is asked to wait at most; it goes on where it was when it is called again."""
TRANSACTION_TIMEOUT_S = 30.0
"""A transaction that is open for longer the brokers abort."""
LOST_AFTER_S = TRANSACTION_TIMEOUT_S + CALL_TIMEOUT_S
"""A call that has not come back by then never will (seen with librdkafka 2.16: a commit of
offsets after its broker had died and come back), and its transaction is aborted anyway."""
SLICE_S = 0.5
METADATA_S = 10.0
"""Partitions that were added are seen within this time."""
LINGER_MS = 60
"""Records wait so long for others that go with them, since brokers work per request; nothing
waits once the transaction is being committed.  What has waited for longer and can not be sent yet
librdkafka looks at again without a pause: with 5 ms the router took a sixth more of the processor
(measured at 10 KB)."""
DELIVERY_TIMEOUT_S = 20.0
"""Until then a record is acknowledged, or has failed."""


class AbortRequired(Exception):
    """The open transaction can only be aborted."""

    def __init__(self, error: KafkaError) -> None:
        super().__init__(error.name())
        self.error = error


class TransactionalProducer:
    """One transactional producer; `instance` names it for ever and fences its predecessor.

    Every call waits for the brokers, unless `stopping` is set; then it raises `Unavailable`.
    All raise `Fenced`, also when a transaction can not come to an end any more, and `Refused`.
    """

    def __init__(
        self,
        *,
        connection: Connection,
        instance: str,
        stopping: threading.Event,
        watch: ClientErrorState,
    ) -> None:
        self._stopping = stopping
        self._watch = watch
        self._error: KafkaError | None = None
        self._calls = AbandonableExecutor("transaction")
        self._producer = Producer(
            connection.settings(
                watch,
                transactional_id=f"{transactional_prefix(connection.role)}{instance}",
                transaction_timeout_ms=int(TRANSACTION_TIMEOUT_S * 1000),
                message_timeout_ms=int(DELIVERY_TIMEOUT_S * 1000),
                message_max_bytes=MAX_RECORD_BYTES,
                queue_buffering_max_kbytes=QUEUE_KBYTES,
                linger_ms=LINGER_MS,
                delivery_report_only_error=True,
                topic_metadata_refresh_interval_ms=int(METADATA_S * 1000),
            )
        )

    def start(self) -> None:
        """Fence a predecessor of this name, and end what it left open."""
        self._patiently(lambda: self._producer.init_transactions(CALL_TIMEOUT_S))

    def begin(self) -> None:
        """Open a transaction."""
        self._error = None
        try:
            self._producer.begin_transaction()
        except KafkaException as exception:
            error = kafka_error(exception)
            if error.fatal():
                raise Fenced(error.str()) from exception
            raise translate(error, "transaction") from exception

    def write(self, record: Outgoing) -> None:
        """Add a record.  Raises `AbortRequired` if the client library refuses it."""
        while True:
            try:
                self._producer.produce(
                    record.topic,
                    record.value,
                    record.key,
                    record.partition,
                    self._written,
                    headers=list(record.headers),
                )
            except BufferError:
                self._producer.poll(0.05)
            except KafkaException as exception:
                raise AbortRequired(kafka_error(exception)) from exception
            else:
                return

    def serve(self) -> None:
        """Take acknowledgements that have come."""
        self._producer.poll(0)

    def commit(self, offsets: list[TopicPartition], consumer: Consumer) -> None:
        """Commit what was written, together with these offsets of the consumer's group.

        Raises `AbortRequired` if a record was refused or the group has moved on.
        """
        if offsets:
            self._patiently(
                lambda: self._producer.send_offsets_to_transaction(
                    offsets, consumer.consumer_group_metadata(), CALL_TIMEOUT_S
                ),
                meanwhile=lambda: self._producer.flush(SLICE_S),
            )
        self._producer.flush(DELIVERY_TIMEOUT_S)
        if self._error is not None:
            # The library would commit the transaction without the record.
            raise AbortRequired(self._error)
        self._patiently(lambda: self._producer.commit_transaction(CALL_TIMEOUT_S))

    def abort(self) -> None:
        """Undo what was written since `begin`."""
        self._patiently(lambda: self._producer.abort_transaction(CALL_TIMEOUT_S))

    def _written(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self._error = error

    def _patiently(
        self, call: Callable[[], object], *, meanwhile: Callable[[], object] = lambda: None
    ) -> None:
        while True:
            try:
                answer = self._calls.submit(call)
                meanwhile()
                self._wait(answer)
            except KafkaException as exception:
                error = kafka_error(exception)
                if error.fatal():
                    self._watch(error)  # it is raised once; the call may never come back
                    raise Fenced(error.str()) from exception
                if error.txn_requires_abort():
                    raise AbortRequired(error) from exception
                again = error.retriable() or error.code() == KafkaError._TRANSPORT
                if not again or self._stopping.is_set():
                    raise translate(error, "transaction") from exception
                self._watch(error)
                self.serve()
            else:
                return

    def _wait(self, answer: Future[object]) -> None:
        """Until the call has come back; meanwhile trouble is said, and we can be asked to end."""
        begun = time.monotonic()
        while True:
            try:
                answer.result(SLICE_S)
            except TimeoutError:
                self.serve()
                self._watch.check()  # nobody waits behind a call that a fenced client keeps
                waited_s = time.monotonic() - begun
                if self._stopping.is_set() and waited_s > CALL_TIMEOUT_S:
                    raise Unavailable("transaction: no answer") from None
                if waited_s > LOST_AFTER_S:
                    raise Fenced("a call of the transaction did not come back") from None
            else:
                return
