"""Read the last committed record of a partition, without a group."""

import time

from confluent_kafka import Consumer, TopicPartition

from erasestream.schemas.clocks import Deadline
from erasestream.topics.catalog.topic_names import MAX_RECORD_BYTES
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.records import Partition, Record


def last_committed_record(
    connection: Connection, at: Partition, lower: int, upper: int, *, timeout_s: float
) -> Record | None:
    """Return the last committed record of a partition between two offsets, if there is one."""
    errors = ClientErrorState()
    consumer = Consumer(
        connection.settings(
            errors,
            group_id=connection.role,
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="error",
            receive_message_max_bytes=2 * MAX_RECORD_BYTES,
        )
    )
    last: Record | None = None
    deadline = Deadline(timeout_s, time.monotonic)
    try:
        consumer.assign([TopicPartition(*at, lower)])
        while True:
            message = consumer.poll(0.1)
            if message is not None and message.error() is None:
                record = Record.of(message)
                if record.offset >= upper:
                    return last
                last = record
            (position,) = consumer.position([TopicPartition(*at)])
            if position.offset >= upper:
                return last
            if deadline.has_passed:
                raise errors.explain(f"{at} is not committed up to {upper}")
    finally:
        consumer.close()
