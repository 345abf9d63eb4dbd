"""Assign partitions to a consumer that may have had some of them before."""

from collections.abc import Mapping

from confluent_kafka import Consumer, TopicPartition

from erasestream.topics.kafka.records import Partition


def reassign(consumer: Consumer, offsets: Mapping[Partition, int]) -> None:
    """Read exactly these partitions, from these offsets on.

    Seen with librdkafka 2.16: if a partition is assigned again while its fetching is being
    stopped for the assignment before, an assertion ends the process (`rktp_started`).  The
    question after the group's metadata is answered behind that stop, by the same thread.
    """
    consumer.consumer_group_metadata()
    consumer.assign([TopicPartition(*at, offset) for at, offset in offsets.items()])
