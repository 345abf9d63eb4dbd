"""Place of an entry in a lane's history: topic, partition and key, for writers and readers alike.

`ledger.L` and `erasures.L` are kept without limit, and the order of an account's entries is their
order in one partition.  An entry is believed only where it belongs: in a topic of its lane, in the
partition of its account, under the account's key.  A copy anywhere else is ignored, so that the
order in which a reader reads the partitions changes nothing.
"""

from collections.abc import Mapping
from typing import NamedTuple

from erasestream.schemas.ids import AccountId, Lane
from erasestream.topics.catalog.topic_names import lane_of, ledger_of
from erasestream.topics.kafka.partitioner import partition_of
from erasestream.topics.kafka.records import Partition, Record


class Place(NamedTuple):
    """Partition and key of entries."""

    at: Partition
    key: bytes


def place(topic: str, account: AccountId, partitions: Mapping[str, int]) -> Place:
    """Return the place of the account's entries in a topic of its lane.

    `partitions`: the partition counts by topic.
    """
    key = ledger_key(lane_of(topic), account)
    return Place(Partition(topic, partition_of(key, partitions[topic])), key)


def place_of_findings(lane: Lane, partitions: Mapping[str, int]) -> Place:
    """Return the place of the findings about a lane, in its ledger."""
    topic, key = ledger_of(lane), str(lane).encode()
    return Place(Partition(topic, partition_of(key, partitions[topic])), key)


def belongs(record: Record, topic: str, account: AccountId, partitions: Mapping[str, int]) -> bool:
    """Return whether the record is at the place of the account's entries in this topic."""
    if record.at.topic != topic:
        return False
    return place(topic, account, partitions) == (record.at, record.key)


def ledger_key(lane: Lane, account: AccountId) -> bytes:
    """Return the key of all entries about an account."""
    return f"{lane}/{account}".encode()
