"""The name by which a group knows a static member.

A static member that comes back within its session keeps its partitions, and nothing is
assigned anew.  That is what makes restarts cheap, and what would make a restart with another
list of topics, or with partitions that were added meanwhile, get only the old ones, for good
(seen with Kafka 4.4 and librdkafka 2.16).  So the name says what is asked for.
"""

import hashlib
from collections.abc import Iterable

from erasestream.topics.connection import Connection


def member_name(connection: Connection, *, instance: str, topics: Iterable[str]) -> str:
    """The member's name: `<instance>.<digest of the topics and their partition counts>`.

    Raises `Unavailable`, `Refused`.
    """
    counts = connection.admin().check_rights(dict.fromkeys(topics, ()))
    text = ",".join(f"{topic}={count}" for topic, count in sorted(counts.items()))
    return f"{instance}.{hashlib.sha256(text.encode()).hexdigest()[:8]}"
