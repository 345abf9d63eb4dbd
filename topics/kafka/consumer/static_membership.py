"""Settings of a static member of a group, and the name by which the group knows it.

A static member that returns within its session keeps its partitions without a rebalance.  That
makes restarts cheap; but a restart with another list of topics, or after partitions were added,
would get only the old ones, permanently (seen with Kafka 4.4 and librdkafka 2.16).  So the name
contains a digest of the subscription.
"""

import hashlib
from collections.abc import Iterable

from erasestream.topics.catalog.topic_names import MAX_RECORD_BYTES
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Connection, Settings
from erasestream.topics.kafka.errors import ClientErrorState


def member_settings(
    connection: Connection,
    errors: ClientErrorState,
    *,
    instance: str,
    topics: Iterable[str],
    **more: object,
) -> Settings:
    """Return the settings of a consumer in its role's group that sees committed records only.

    It commits nothing by itself.  Raises `Unavailable`, `Refused`.
    """
    return connection.settings(
        errors,
        group_id=connection.role,
        group_instance_id=member_name(connection, instance=instance, topics=topics),
        # Spread over all topics; `range` while the group has members that know no other.
        partition_assignment_strategy="roundrobin,range",
        session_timeout_ms=10_000,
        heartbeat_interval_ms=2_000,
        enable_auto_commit=False,
        enable_auto_offset_store=False,
        isolation_level="read_committed",
        fetch_message_max_bytes=4_000_000,
        fetch_wait_max_ms=100,
        fetch_queue_backoff_ms=20,
        message_max_bytes=MAX_RECORD_BYTES,
        receive_message_max_bytes=2 * MAX_RECORD_BYTES,
        **more,
    )


def member_name(connection: Connection, *, instance: str, topics: Iterable[str]) -> str:
    """Return the member's name: `<instance>.<digest of the topics and their partition counts>`.

    Raises `Unavailable`, `Refused`.
    """
    with Admin(connection) as admin:
        counts = admin.check_rights(dict.fromkeys(topics, ()))
    text = ",".join(f"{topic}={count}" for topic, count in sorted(counts.items()))
    return f"{instance}.{hashlib.sha256(text.encode()).hexdigest()[:8]}"
