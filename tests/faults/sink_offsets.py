"""Offsets that a killed sink had committed, from the brokers: its partitions are still its own."""

from confluent_kafka import ConsumerGroupTopicPartitions

from erasestream.pipeline.devstack.stack import Stack
from erasestream.topics.catalog.roles import SINK
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.records import Partition

TIMEOUT_S = 30.0


class SinkOffsets:
    """Offsets of the sinks' group."""

    def __init__(self, stack: Stack) -> None:
        self._admin = Admin(stack.admin())

    def of(self, instance: str) -> dict[Partition, int]:
        """Return the committed offsets of a member's partitions; none if it is no member."""
        with self._admin.use() as client:
            group = client.describe_consumer_groups([SINK])[SINK].result(TIMEOUT_S)
            assigned = [
                at
                for member in group.members
                if (member.group_instance_id or "").partition(".")[0] == instance
                for at in member.assignment.topic_partitions
            ]
            if not assigned:
                return {}
            asked = ConsumerGroupTopicPartitions(SINK, assigned)
            (future,) = client.list_consumer_group_offsets([asked]).values()
            found = future.result(TIMEOUT_S).topic_partitions
        return {Partition(at.topic, at.partition): max(at.offset, 0) for at in found}

    def close(self) -> None:
        """Disconnect."""
        self._admin.close()
