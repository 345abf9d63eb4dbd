"""Real attempts to read, write and delete: whether the broker lets a role."""

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
    """What the broker said."""

    ALLOWED = "allowed"
    REFUSED = "refused"


def access_of(error: KafkaError | None) -> Access:
    """An error that is not about rights is none that is expected."""
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
    """Somebody with the certificate of a role, and a client library that is not ours."""

    def __init__(self, cluster: Cluster, role: Role) -> None:
        self._connection = Connection(cluster=cluster, role=role)

    def _settings(self, **more: object) -> dict[str, Any]:
        return self._connection.settings(ClientErrorState(), **more)

    def write(self, topics: Iterable[str]) -> Mapping[str, Access]:
        """Write a record into each."""
        producer = Producer(self._settings(linger_ms=0, message_timeout_ms=20_000))
        answers: dict[str, Access] = {}

        def answered(error: KafkaError | None, message: Message) -> None:
            answers[str(message.topic())] = access_of(error)

        for topic in topics:
            producer.produce(topic, b"x", b"key", 0, on_delivery=answered)
        producer.flush(30)
        return answers

    def read(self, topics: Iterable[str]) -> Mapping[str, Access]:
        """Read from each, up to its first record, its end or a refusal.

        librdkafka is silent about an assigned topic that it may not even see, so each is
        looked up before.
        """
        settings = self._settings(group_id="never-joined", enable_auto_commit=False)
        consumer = Consumer(settings | {"enable.partition.eof": True})
        seen = {
            topic: access_of(consumer.list_topics(topic, 20).topics[topic].error)
            for topic in topics
        }
        visible = [topic for topic, answer in seen.items() if answer is Access.ALLOWED]
        answers: dict[str, Access] = {}

        def answered() -> bool:
            for message in consumer.consume(100, 0.1):
                if message.topic() in visible:  # another is the group, which is not joined
                    answers.setdefault(str(message.topic()), access_of(message.error()))
            return len(answers) == len(visible)

        try:
            consumer.assign([TopicPartition(topic, 0, 0) for topic in visible])
            eventually("an answer for every topic", answered, deadline_s=20)
        finally:
            consumer.close()
        return seen | answers

    def delete(self, topics: Iterable[str]) -> Mapping[str, Access]:
        """Delete the records before the first of each: none, if it is allowed."""
        client = AdminClient(self._settings())
        asked = [TopicPartition(topic, 0, 0) for topic in topics]
        futures = client.delete_records(asked, request_timeout=20)
        return {tp.topic: _answered(future) for tp, future in futures.items()}

    def join(self, group: str, topic: str) -> Access:
        """Join a group to read a topic that this role may read."""
        consumer = Consumer(self._settings(group_id=group, enable_auto_commit=False))
        assigned: list[Access] = []

        def answered() -> bool:
            message = consumer.poll(0.1)
            if message is not None:
                assigned.append(access_of(message.error()))
            return bool(assigned)

        try:
            consumer.subscribe([topic], on_assign=lambda *_: assigned.append(Access.ALLOWED))
            eventually("an answer of the group", answered, deadline_s=20)
        finally:
            consumer.close()
        return assigned[0]

    def begin_transactions(self, transactional_id: str) -> Access:
        """Become the one producer of this transactional id."""
        producer = Producer(self._settings(transactional_id=transactional_id))
        try:
            producer.init_transactions(20)
        except KafkaException as exception:
            return access_of(exception.args[0])
        return Access.ALLOWED


def _answered(future: Future[Any]) -> Access:
    try:
        future.result(20)
    except KafkaException as exception:
        return access_of(exception.args[0])
    return Access.ALLOWED
