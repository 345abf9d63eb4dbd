"""Outcomes of the records that a `ProducerPool` sends: where each was appended, or why not."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message

from erasestream.schemas.errors import Code, ErasestreamError, InvalidImage, Unavailable
from erasestream.schemas.events.base import utc
from erasestream.topics.catalog.roles import Role
from erasestream.topics.kafka.errors import ClientErrorState, is_fatal, kafka_error, translate
from erasestream.topics.kafka.producer.producer_pool import Delivered


class Appended(NamedTuple):
    """Position of an appended record, and the broker's time.

    `partition` and `offset` are -1 if the broker did not report them.
    """

    partition: int
    offset: int
    at: datetime


class DeliveryOutcomes:
    """Outcomes of one topic's records, with errors translated in their context."""

    def __init__(self, role: Role, topic: str, *, delivery_s: float) -> None:
        self.errors: ClientErrorState = ClientErrorState()
        self._context = f"role {role}, topic {topic}"
        self._delivery_s = delivery_s

    def callback(self, done: Callable[[Appended | ErasestreamError], None]) -> Delivered:
        """Return a callback for the pool, which passes the outcome on to `done`."""

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                done(self._translate(error))
                return
            self.errors.recovered()
            done(_appended(message))

        return delivered

    @contextmanager
    def translating(self) -> Iterator[None]:
        """Translate the error of a record that could not be queued."""
        try:
            yield
        except KafkaException as error:
            raise self._translate(kafka_error(error)) from error

    def _translate(self, error: KafkaError) -> ErasestreamError:
        code, context = error.code(), self._context
        if is_fatal(error):
            return Unavailable(f"{context}: {error.str()}")  # the next record gets a new client
        if code == KafkaError.MSG_SIZE_TOO_LARGE:
            return InvalidImage(context, code=Code.TOO_LARGE)
        if code in (KafkaError._PURGE_INFLIGHT, KafkaError._PURGE_QUEUE):
            detail = f"{context}: given up unacknowledged, after at most {self._delivery_s:g} s"
            return self.errors.explain(detail)
        return translate(error, context)


def _appended(message: Message) -> Appended:
    partition, offset = message.partition(), message.offset()
    return Appended(
        partition=-1 if partition is None else partition,
        offset=-1 if offset is None else max(offset, -1),
        at=utc(message.timestamp()[1]),
    )
