"""Topics on the brokers: create and grow them, change their settings, delete their records."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewPartitions,
    NewTopic,
)

from erasestream.schemas.errors import Refused, Unavailable
from erasestream.topics.kafka.admin import REQUEST_TIMEOUT_S, Admin
from erasestream.topics.kafka.errors import kafka_error
from erasestream.topics.kafka.partition_broken import Defect, PartitionBroken
from erasestream.topics.kafka.records import Partition


class TopicDeclaration(NamedTuple):
    """A topic to be created."""

    name: str
    partitions: int
    replication: int
    config: Mapping[str, str]


class Setting(NamedTuple):
    """Value of a topic's setting; `is_own` if it is set on the topic, and not inherited."""

    value: str | None
    is_own: bool


class SettingRefused(Refused):
    """The cluster does not let one set this, as managed ones do not with some settings."""


_SETTING_REFUSED = {KafkaError.INVALID_CONFIG, KafkaError.POLICY_VIOLATION}


@contextmanager
def _refusing_settings() -> Iterator[None]:
    """Raise `SettingRefused` where the brokers refuse a setting; retrying would not help."""
    try:
        yield
    except Unavailable as error:
        if _code_of(error) not in _SETTING_REFUSED:
            raise
        raise SettingRefused(error.detail) from error


def create_topics(
    admin: Admin, topics: Sequence[TopicDeclaration], *, validate_only: bool = False
) -> list[TopicDeclaration]:
    """Create topics, in one request; return those of which the brokers refuse a setting."""
    new = [
        NewTopic(
            topic.name,
            num_partitions=topic.partitions,
            replication_factor=topic.replication,
            config=dict(topic.config),
        )
        for topic in topics
    ]
    refused: list[TopicDeclaration] = []
    with admin.use() as client:
        futures = client.create_topics(
            new, operation_timeout=REQUEST_TIMEOUT_S, validate_only=validate_only
        )
        for topic in topics:
            try:
                with _refusing_settings():
                    admin.ask(f"create topic {topic.name}", futures[topic.name])
            except SettingRefused:
                refused.append(topic)
    return refused


def create_without_refused(admin: Admin, topic: TopicDeclaration) -> list[str]:
    """Create a topic with the settings that the brokers accept; return the names of the others.

    Each is tried alone, because the brokers' answer names none in a form to rely on.
    """
    refused = [
        name
        for name, value in topic.config.items()
        if create_topics(admin, [topic._replace(config={name: value})], validate_only=True)
    ]
    accepted = {name: value for name, value in topic.config.items() if name not in refused}
    if create_topics(admin, [topic._replace(config=accepted)]):
        raise SettingRefused(f"the brokers accept no settings of {topic.name} together")
    return refused


def grow_topic(admin: Admin, topic: str, partitions: int, *, context: str) -> None:
    """Add partitions to a topic, up to this count."""
    with admin.use() as client:
        grown = client.create_partitions([NewPartitions(topic, partitions)])
        admin.ask(context, grown[topic])


def topic_settings(admin: Admin, topics: Sequence[str]) -> list[dict[str, Setting]]:
    """Return the settings of each topic, by name."""
    if not topics:
        return []
    resources = [ConfigResource(ConfigResource.Type.TOPIC, topic) for topic in topics]
    with admin.use() as client:
        futures = client.describe_configs(resources, request_timeout=REQUEST_TIMEOUT_S)
        answers = [admin.ask(f"settings of {each.name}", futures[each]) for each in resources]
    return [{name: _setting(entry) for name, entry in answer.items()} for answer in answers]


def set_topic_setting(admin: Admin, topic: str, name: str, value: str) -> None:
    """Set one setting of a topic, and leave the others unchanged.  Raises `SettingRefused`."""
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    with admin.use() as client:
        futures = client.incremental_alter_configs([resource])
        with _refusing_settings():
            admin.ask(f"set {name} of {topic}", futures[resource])


class Deletion(NamedTuple):
    """Where records were deleted, and why not elsewhere."""

    done: list[Partition]
    broken: list[PartitionBroken]
    """The partitions that do not have the offset."""
    unavailable: list[Unavailable]


def delete_records(admin: Admin, offsets: Mapping[Partition, int]) -> Deletion:
    """Delete the records below these offsets, in each partition that allows it.

    Raises `Refused`.
    """
    result = Deletion([], [], [])
    asked = [TopicPartition(*at, offset) for at, offset in offsets.items()]
    with admin.use() as client:
        futures = client.delete_records(asked, request_timeout=REQUEST_TIMEOUT_S)
        for tp, future in futures.items():
            at = Partition(tp.topic, tp.partition)
            try:
                admin.ask(f"deleting records of {at}", future)
            except Unavailable as error:
                if _is_out_of_range(error):
                    result.broken.append(PartitionBroken(at, Defect.NOT_PURGED, offset=offsets[at]))
                else:
                    result.unavailable.append(error)
            else:
                result.done.append(at)
    return result


def _is_out_of_range(error: Unavailable) -> bool:
    return _code_of(error) == KafkaError.OFFSET_OUT_OF_RANGE


def _code_of(error: Unavailable) -> int | None:
    cause = error.__cause__
    return kafka_error(cause).code() if isinstance(cause, KafkaException) else None


def _setting(entry: ConfigEntry) -> Setting:
    return Setting(entry.value, ConfigSource(entry.source) == ConfigSource.DYNAMIC_TOPIC_CONFIG)
