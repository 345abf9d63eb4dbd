"""Write records that are acknowledged, one and all, before the caller goes on.

For what must stand before the next step may be taken: decisions and the ledger.

An idempotent producer that met a fatal error (its sequence numbers are lost, say) refuses
everything from then on.  It is made anew, and the caller hears `Unavailable` once.
"""

import time
from collections.abc import Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from erasestream.schemas.codec.cloudevents import Wire
from erasestream.schemas.errors import ErasestreamError, Fenced, Unavailable
from erasestream.schemas.events.base import utc
from erasestream.topics.kafka.broker_loss_detector import BrokerLossDetector
from erasestream.topics.kafka.certificate_watcher import CertificateWatcher
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.errors import ClientErrorState, is_fatal, kafka_error, translate
from erasestream.topics.kafka.records import Partition


class Written(NamedTuple):
    """Where a record was appended, and when, by the broker's clock.

    `offset` is -1 if a retry found it appended already and was not told where.
    """

    at: datetime
    offset: int


class AcknowledgedWriter:
    """An idempotent producer that waits for every acknowledgement.  Thread-safe."""

    def __init__(self, *, connection: Connection, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._watch = ClientErrorState()
        self._lifeline = BrokerLossDetector(connection, self._watch)
        self._renewal = CertificateWatcher(connection.identity)
        self._settings = connection.settings(
            self._watch,
            enable_idempotence=True,
            acks="all",
            message_timeout_ms=int(timeout_s * 1000),
            linger_ms=0,
            # What waits behind a request that is not answered waits in peace: with more than one in
            # flight librdkafka looks at the queue without a pause until all have come back (issue
            # 2565), and a broker that stood still took a whole core of everybody who wrote.
            max_in_flight=1,
        )
        self._producer = Producer(self._settings)

    def write(self, at: Partition, key: bytes, wire: Wire) -> Written:
        """Write the record, and wait until it is acknowledged.

        Raises `Unavailable` or `Refused`; the record may then have been written or not.
        """
        (answer,) = self.write_all([(at, key, wire)])
        return answer.result()

    def write_all(self, records: Sequence[tuple[Partition, bytes, Wire]]) -> list[Future[Written]]:
        """Write these, and wait until what became of each is known: all futures are done.

        Raises `Unavailable` or `Refused` if it can not be known; each may then have been written
        or not.
        """
        if self._renewal.is_due() or self._lifeline.is_lost(self._producer):
            self._producer = Producer(self._settings)
        producer = self._producer  # the same to the end, whatever other threads renew
        context = f"writing {', '.join(sorted({at.topic for at, _, _ in records}))}"
        try:
            answers = [_hand_over(producer, *record) for record in records]
            deadline = time.monotonic() + 2 * self._timeout_s
            while not all(answer.done() for answer in answers):
                producer.poll(0.05)
                if time.monotonic() > deadline:
                    raise self._watch.explain(f"{context}: no answer")
        except KafkaException as exception:
            error = kafka_error(exception)
            if is_fatal(error) and self._producer is producer:
                self._producer = Producer(self._settings)
            raise _failure(error, context) from exception
        except BufferError as exception:
            raise Unavailable(f"{context}: too many records wait") from exception
        return answers


def _hand_over(producer: Producer, at: Partition, key: bytes, wire: Wire) -> Future[Written]:
    answer: Future[Written] = Future()

    def delivered(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            answer.set_exception(_failure(error, f"writing {at.topic}"))
        else:
            offset = message.offset()
            where = -1 if offset is None else max(offset, -1)
            answer.set_result(Written(utc(message.timestamp()[1]), where))

    producer.produce(at.topic, wire.value, key, at.number, delivered, headers=list(wire.headers))
    return answer


def _failure(error: KafkaError, context: str) -> ErasestreamError:
    """Nobody can fence these producers: what sounds like it ends a client and no process."""
    failure = translate(error, context)
    return Unavailable(failure.detail) if isinstance(failure, Fenced) else failure
