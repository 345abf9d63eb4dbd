"""Write one record at a time, each acknowledged before the caller goes on.

For what must stand before the next step may be taken: decisions and the ledger.
"""

import time
from concurrent.futures import Future
from datetime import datetime

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from erasestream.schemas.cloudevents import Wire
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.events import utc
from erasestream.topics.connection import Connection, ErrorWatch, kafka_error, translate
from erasestream.topics.record import Partition
from erasestream.topics.renewal import Renewal


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

    def write(self, at: Partition, key: bytes, wire: Wire) -> datetime:
        """Write the record; when the broker appended it.

        Raises `Unavailable` or `Refused`; the record may then have been written or not.
        """
        if self._renewal.is_due():
            self._producer = Producer(self._settings)
        producer = self._producer  # the same to the end, whatever other threads renew
        answer: Future[datetime] = Future()
        context = f"writing {at.topic}"

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                answer.set_exception(translate(error, context))
            else:
                answer.set_result(utc(message.timestamp()[1]))

        try:
            producer.produce(
                at.topic, wire.value, key, at.number, delivered, headers=list(wire.headers)
            )
        except KafkaException as exception:
            raise translate(kafka_error(exception), context) from exception
        except BufferError as exception:
            raise Unavailable(f"{context}: too many records wait") from exception
        deadline = time.monotonic() + 2 * self._timeout_s
        while not answer.done():
            producer.poll(0.05)
            if time.monotonic() > deadline:
                raise self._watch.explain(f"{context}: no answer")
        return answer.result()
