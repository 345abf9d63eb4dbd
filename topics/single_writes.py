"""Write one record at a time, each acknowledged before the caller goes on.

For what must stand before the next step may be taken: decisions and the ledger.

An idempotent producer that met a fatal error (its sequence numbers are lost, say) refuses
everything from then on.  It is made anew, and the caller hears `Unavailable` once.
"""

import time
from concurrent.futures import Future
from datetime import datetime
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from erasestream.schemas.cloudevents import Wire
from erasestream.schemas.errors import ErasestreamError, Fenced, Unavailable
from erasestream.schemas.events import utc
from erasestream.topics.connection import (
    Connection,
    ErrorWatch,
    is_fatal,
    kafka_error,
    translate,
)
from erasestream.topics.record import Partition
from erasestream.topics.renewal import Renewal


class Written(NamedTuple):
    """Where a record was appended, and when, by the broker's clock.

    `offset` is -1 if a retry found it appended already and was not told where.
    """

    at: datetime
    offset: int


class SingleWrites:
    """An idempotent producer that waits for every acknowledgement.  Thread-safe."""

    def __init__(self, *, connection: Connection, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._watch = ErrorWatch()
        self._renewal = Renewal(connection.identity)
        self._settings = connection.settings(
            self._watch,
            enable_idempotence=True,
            acks="all",
            message_timeout_ms=int(timeout_s * 1000),
            linger_ms=0,
        )
        self._producer = Producer(self._settings)

    def write(self, at: Partition, key: bytes, wire: Wire) -> Written:
        """Write the record, and wait until it is acknowledged.

        Raises `Unavailable` or `Refused`; the record may then have been written or not.
        """
        if self._renewal.is_due():
            self._producer = Producer(self._settings)
        producer = self._producer  # the same to the end, whatever other threads renew
        answer: Future[Written] = Future()
        context = f"writing {at.topic}"

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                answer.set_exception(_failure(error, context))
            else:
                offset = message.offset()
                where = -1 if offset is None else max(offset, -1)
                answer.set_result(Written(utc(message.timestamp()[1]), where))

        try:
            producer.produce(
                at.topic, wire.value, key, at.number, delivered, headers=list(wire.headers)
            )
            deadline = time.monotonic() + 2 * self._timeout_s
            while not answer.done():
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
        return answer.result()


def _failure(error: KafkaError, context: str) -> ErasestreamError:
    """Nobody can fence these producers: what sounds like it ends a client and no process."""
    failure = translate(error, context)
    return Unavailable(failure.detail) if isinstance(failure, Fenced) else failure
