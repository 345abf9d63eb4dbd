"""Reads whose position is nothing but what was committed with the writes made from them."""

from confluent_kafka import Consumer

from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.consumer.static_membership import member_settings
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.transaction.producer import METADATA_S

PREFETCH_KBYTES = 64_000
"""Bound of what is read ahead, in kilobytes: about one of the largest records."""


def transactional_consumer(
    connection: Connection, watch: ClientErrorState, *, topics: list[str], instance: str
) -> Consumer:
    """A member of the role's group that commits nothing by itself and resets no position.

    `instance` names it for ever.  Raises `Unavailable`, `Refused`.
    """
    return Consumer(
        member_settings(
            connection,
            watch,
            instance=instance,
            topics=topics,
            max_poll_interval_ms=300_000,
            auto_offset_reset="error",
            topic_metadata_refresh_interval_ms=int(METADATA_S * 1000),
            partition_assignment_strategy="range",
            fetch_error_backoff_ms=50,
            fetch_queue_backoff_ms=20,
            queued_max_messages_kbytes=PREFETCH_KBYTES,
        )
    )
