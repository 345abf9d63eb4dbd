"""Attempt reads, writes and deletes against the real broker to see what a role may do."""

from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from enum import StrEnum
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from erasestream.topics.catalog.roles import Role
from erasestream.topics.kafka.connection import Cluster, Connection
from erasestream.topics.kafka.errors import ClientErrorState
from tests.flow.waiting import eventually


class Access(StrEnum):
    """The broker's decision about an attempt."""

    ALLOWED = "allowed"
    REFUSED = "refused"


def access_of(error: KafkaError | None) -> Access:
    """Translate a client error; fail on any error that is not about authorization."""
    if error is None or error.code() == KafkaError._PARTITION_EOF:
        return Access.ALLOWED
    assert error.code() in {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError._NOENT,  # a role that may see no topic at all: "no leaders found"
    }, error
    return Access.REFUSED


class AclProbe:
    """Bare Kafka clients, without our libraries, that hold the certificate of one role."""

    def __init__(self, cluster: Cluster, role: Role) -> None:
        self._connection = Connection(cluster=cluster, role=role)

    def _settings(self, **more: object) -> dict[str, Any]:
        return self._connection.settings(ClientErrorState(), **more)

    def write(self, topics: Iterable[str]) -> Mapping[str, Access]:
        """Write one record to each topic."""
        producer = Producer(self._settings(linger_ms=0, message_timeout_ms=20_000))
        found: dict[str, Access] = {}

        def on_delivery(error: KafkaError | None, message: Message) -> None:
            found[str(message.topic())] = access_of(error)

        for topic in topics:
            producer.produce(topic, b"x", b"key", 0, on_delivery=on_delivery)
        producer.flush(30)
        return found

    def read(self, topics: Iterable[str]) -> Mapping[str, Access]:
        """Read each topic up to its first record, its end or a refusal.

        librdkafka reports nothing about an assigned topic that the role may not even
        describe, so the metadata of each topic is requested first.
        """
        settings = self._settings(group_id="never-joined", enable_auto_commit=False)
        consumer = Consumer(settings | {"enable.partition.eof": True})
        described = {
            topic: access_of(consumer.list_topics(topic, 20).topics[topic].error)
            for topic in topics
        }
        visible = [topic for topic, access in described.items() if access is Access.ALLOWED]
        found: dict[str, Access] = {}

        def all_found() -> bool:
            for message in consumer.consume(100, 0.1):
                if message.topic() in visible:  # any other error is about the group, never joined
                    found.setdefault(str(message.topic()), access_of(message.error()))
            return len(found) == len(visible)

        try:
            consumer.assign([TopicPartition(topic, 0, 0) for topic in visible])
            eventually("an answer for every topic", all_found)
        finally:
            consumer.close()
        return described | found

    def delete(self, topics: Iterable[str]) -> Mapping[str, Access]:
        """Delete the records before the first offset of each topic: none, if it is allowed."""
        client = AdminClient(self._settings())
        before_first = [TopicPartition(topic, 0, 0) for topic in topics]
        futures = client.delete_records(before_first, request_timeout=20)
        return {tp.topic: _access_from(future) for tp, future in futures.items()}

    def join(self, group: str, topic: str) -> Access:
        """Join a group, subscribed to a topic that this role may read."""
        consumer = Consumer(self._settings(group_id=group, enable_auto_commit=False))
        found: list[Access] = []

        def is_found() -> bool:
            message = consumer.poll(0.1)
            if message is not None:
                found.append(access_of(message.error()))
            return bool(found)

        try:
            consumer.subscribe([topic], on_assign=lambda *_: found.append(Access.ALLOWED))
            eventually("the group's answer", is_found)
        finally:
            consumer.close()
        return found[0]

    def begin_transactions(self, transactional_id: str) -> Access:
        """Initialize a producer with this transactional id, which fences any other."""
        producer = Producer(self._settings(transactional_id=transactional_id))
        try:
            producer.init_transactions(20)
        except KafkaException as exception:
            return access_of(exception.args[0])
        return Access.ALLOWED


def _access_from(future: Future[Any]) -> Access:
    try:
        future.result(20)
    except KafkaException as exception:
        return access_of(exception.args[0])
    return Access.ALLOWED
