"""Results of a lane: written as by the router, taken from a subscription."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import UUID

from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition

from erasestream.schemas.codec.cloudevents import Wire, to_wire
from erasestream.schemas.errors import Code
from erasestream.schemas.events.base import Position
from erasestream.schemas.events.images import Cutout, Failure
from erasestream.schemas.ids import AccountId, Lane, UploadId
from erasestream.topics.catalog.roles import ROUTER
from erasestream.topics.catalog.topic_names import MAX_RECORD_BYTES, ephemeral_of
from erasestream.topics.client.delivery import Delivery
from erasestream.topics.client.result_reader import ReceivingLimits
from erasestream.topics.client.result_subscription import ResultSubscription
from erasestream.topics.kafka.connection import ClientErrorState
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture

TIMEOUT_S = 90.0
NOW = datetime(2026, 3, 1, tzinfo=UTC)
OFTEN = ReceivingLimits(commit_every_s=0.0)


def upload_id(number: int) -> UploadId:
    return UploadId(str(UUID(int=number)))


def cutout(number: int, *, account: str = "acct-17", data: bytes = b"cut") -> Cutout:
    """Return the result of upload `number`."""
    return Cutout(
        id=upload_id(number),
        time=NOW,
        account=AccountId(account),
        reference=f"listing-{number}",
        position=Position(topic_id="A" * 22, partition=0, offset=number),
        uploaded_at=NOW,
        content_type="image/png",
        model="tiny",
        model_sha256="0" * 64,
        model_version="1",
        data=data,
    )


def failure(number: int) -> Failure:
    """Return the failed result of upload `number`."""
    return Failure(
        id=upload_id(number),
        time=NOW,
        account=AccountId("acct-17"),
        position=Position(topic_id="A" * 22, partition=0, offset=number),
        uploaded_at=NOW,
        code=Code.TRUNCATED,
        sentence="cut off",
    )


class ResultWriter:
    """Writes results as the router does, or records that it never would."""

    def __init__(self, kafka: KafkaFixture, lane: Lane) -> None:
        self._topic = ephemeral_of(lane)
        connection = kafka.connection(ROUTER)
        self._settings = connection.settings(ClientErrorState(), message_max_bytes=MAX_RECORD_BYTES)
        self._client = Producer(self._settings)

    def write(self, *results: Cutout | Failure, partition: int = 0) -> None:
        """Append results."""
        for result in results:
            self.write_wire(to_wire(result, source="/router"), partition=partition)

    def write_many(self, results: Iterable[Cutout | Failure]) -> None:
        """Append results to partition 0 and wait for all acknowledgements at once."""
        errors: list[object] = []
        for result in results:
            headers, value = to_wire(result, source="/router")
            self._client.produce(
                self._topic,
                value,
                partition=0,
                headers=list(headers),
                on_delivery=lambda error, _: errors.append(error),
            )
        assert self._client.flush(TIMEOUT_S) == 0
        assert set(errors) == {None}

    def write_wire(self, wire: Wire, *, partition: int = 0) -> None:
        """Append a record and wait for its acknowledgement."""
        errors: list[object] = []
        self._client.produce(
            self._topic,
            wire.value,
            partition=partition,
            headers=list(wire.headers),
            on_delivery=lambda error, _: errors.append(error),
        )
        assert self._client.flush(TIMEOUT_S) == 0
        assert errors == [None]

    def transact(self, *results: Cutout | Failure, partition: int = 0) -> None:
        """Append results in a transaction, which ends with a marker in the partition."""
        with self._transaction(results, partition) as client:
            client.commit_transaction(TIMEOUT_S)

    def abort(self, *results: Cutout | Failure, partition: int = 0) -> None:
        """Append results in a transaction and abort it."""
        with self._transaction(results, partition) as client:
            client.abort_transaction(TIMEOUT_S)

    @contextmanager
    def _transaction(
        self, results: Iterable[Cutout | Failure], partition: int
    ) -> Iterator[Producer]:
        client = Producer(self._settings | {"transactional.id": f"{ROUTER}.test"})
        client.init_transactions(TIMEOUT_S)
        client.begin_transaction()
        for result in results:
            wire = to_wire(result, source="/router")
            client.produce(self._topic, wire.value, partition=partition, headers=list(wire.headers))
        client.flush(TIMEOUT_S)
        yield client


def take(results: ResultSubscription, count: int) -> list[Delivery]:
    """Return the next deliveries; fail if fewer come in time."""
    deliveries = [results.poll(TIMEOUT_S) for _ in range(count)]
    assert None not in deliveries, f"{deliveries.count(None)} of {count} missing"
    return [delivery for delivery in deliveries if delivery is not None]


def committed(kafka: KafkaFixture, lane: Lane, partition: int = 0, group: str = "test") -> int:
    """Return the committed offset of the group; negative if none."""
    asked = ConsumerGroupTopicPartitions(
        f"{lane}.consumer.{group}", [TopicPartition(ephemeral_of(lane), partition)]
    )
    with kafka.admin_client() as client:
        futures = client.list_consumer_group_offsets([asked])
        (answer,) = [future.result(TIMEOUT_S) for future in futures.values()]
    offset: int = answer.topic_partitions[0].offset
    return offset


def poll_until(results: ResultSubscription, condition: Callable[[], bool]) -> None:
    """Poll, as a reader without new results, until the condition holds."""

    def holds_or_polled() -> bool:
        if condition():
            return True
        assert results.poll(0.1) is None
        return False

    eventually("the condition holds", holds_or_polled, poll_s=0)
