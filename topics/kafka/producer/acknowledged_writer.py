"""Write records, and wait until all of them are acknowledged.

For records that must be in the log before the next step: decisions and the ledger.

An idempotent producer that met a fatal error (its sequence numbers are lost, say) refuses every
later record.  It is replaced, and the caller gets `Unavailable` once.
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from erasestream.schemas.clocks import Deadline
from erasestream.schemas.codec.cloudevents import Wire
from erasestream.schemas.errors import ErasestreamError, Fenced, Unavailable
from erasestream.schemas.events.base import utc
from erasestream.topics.kafka.broker_loss_detector import BrokerLossDetector
from erasestream.topics.kafka.certificate_watcher import CertificateWatcher
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.errors import ClientErrorState, is_fatal, kafka_error, translate
from erasestream.topics.kafka.producer.closing import close_producer
from erasestream.topics.kafka.queueing import queue
from erasestream.topics.kafka.records import Outgoing, Partition
from erasestream.topics.kafka.replaceable_client import ReplaceableClient

POLL_S = 0.05
BATCH_BYTES = 32_000
"""Largest batch of records; a single record may be larger."""


class Written(NamedTuple):
    """The time of an append, by the broker's clock, and the record's offset.

    `offset` is -1 if a retry found the record appended and got no offset.
    """

    at: datetime
    offset: int


class AcknowledgedWriter:
    """An idempotent producer that waits for every acknowledgement.  Thread-safe."""

    def __init__(self, *, connection: Connection, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._errors = ClientErrorState()
        self._broker_loss = BrokerLossDetector(connection, self._errors)
        self._certificate = CertificateWatcher(connection.identity)
        self._connection = connection
        self._producers = ReplaceableClient(self._open, close_producer)

    def _open(self) -> Producer:
        settings = self._connection.settings(
            self._errors,
            enable_idempotence=True,
            acks="all",
            message_timeout_ms=int(self._timeout_s * 1000),
            linger_ms=0,
            # A topic's limit applies to a whole batch, and librdkafka does not split one.
            batch_size=BATCH_BYTES,
            # With more requests in flight librdkafka checks the queue without a pause until all
            # are answered (issue 2565): a hung broker took a whole core of every writer.
            max_in_flight=1,
        )
        return Producer(settings)

    def write(self, at: Partition, key: bytes, wire: Wire) -> Written:
        """Write the record, and wait until it is acknowledged.

        Raises `Unavailable` or `Refused`; the record may then have been written or not.
        """
        (answer,) = self.write_all([(at, key, wire)])
        return answer.result()

    def write_all(self, records: Sequence[tuple[Partition, bytes, Wire]]) -> list[Future[Written]]:
        """Write these, and wait until the outcome of each is known: all futures are done.

        Raises `Unavailable` or `Refused` if an outcome remains unknown; each record may then have
        been written or not.
        """
        with self._current() as producer, self._translated(producer, _context(records)):
            answers = [_produce(producer, *record) for record in records]
            if not _wait(producer, answers, timeout_s=2 * self._timeout_s):
                raise self._errors.explain(f"{_context(records)}: no answer")
        return answers

    def begin(self, records: Sequence[tuple[Partition, bytes, Wire]]) -> list[Future[Written]]:
        """Hand these over without waiting; the futures are done during later calls of `wait`.

        Each is done within the writer's timeout, with `Unavailable` if nothing was acknowledged.
        Raises `Unavailable` or `Refused` if a record cannot be handed over; those before it may
        be written.
        """
        with self._current() as producer, self._translated(producer, _context(records)):
            return [_produce(producer, *record) for record in records]

    def wait(self, answers: Sequence[Future[Written]], *, timeout_s: float) -> None:
        """Wait until these are done, or the timeout."""
        # A producer that fails is replaced, which ends the records that wait.
        with (
            self._producers.use() as producer,
            suppress(Unavailable),
            self._translated(producer, "writing"),
        ):
            _wait(producer, answers, timeout_s=timeout_s)

    def close(self) -> None:
        """Close the producer; what other threads still write is answered first."""
        self._producers.close()

    def _current(self) -> AbstractContextManager[Producer]:
        with self._producers.use() as producer:
            if self._certificate.is_due() or self._broker_loss.is_lost(producer):
                self._producers.replace(producer)
        return self._producers.use()

    @contextmanager
    def _translated(self, producer: Producer, context: str) -> Iterator[None]:
        """Translate the library's errors, and replace the producer after a fatal one."""
        try:
            yield
        except KafkaException as exception:
            error = kafka_error(exception)
            if is_fatal(error):
                self._producers.replace(producer)
            raise _failure(error, context) from exception
        except BufferError as exception:
            raise Unavailable(f"{context}: too many records wait") from exception


def _context(records: Sequence[tuple[Partition, bytes, Wire]]) -> str:
    return f"writing {', '.join(sorted({at.topic for at, _, _ in records}))}"


def _wait(producer: Producer, answers: Sequence[Future[Written]], *, timeout_s: float) -> bool:
    """Return whether all are done within the timeout."""
    deadline = Deadline(timeout_s, time.monotonic)
    producer.poll(0)
    while not all(answer.done() for answer in answers):
        if deadline.has_passed:
            return False
        producer.poll(POLL_S)
    return True


def _produce(producer: Producer, at: Partition, key: bytes, wire: Wire) -> Future[Written]:
    answer: Future[Written] = Future()

    def delivered(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            answer.set_exception(_failure(error, f"writing {at.topic}"))
        else:
            offset = message.offset()
            where = -1 if offset is None else max(offset, -1)
            answer.set_result(Written(utc(message.timestamp()[1]), where))

    queue(producer, Outgoing(at.topic, at.number, key, wire.headers, wire.value), delivered)
    return answer


def _failure(error: KafkaError, context: str) -> ErasestreamError:
    """Return the error as one of ours; never `Fenced`, since no other process fences a writer."""
    failure = translate(error, context)
    return Unavailable(failure.detail) if isinstance(failure, Fenced) else failure
