"""How far partitions reach, of those whose leaders answer."""

import time
from collections.abc import Sequence
from contextlib import suppress

from confluent_kafka import TopicPartition
from confluent_kafka.admin import OffsetSpec

from erasestream.schemas.errors import MissingTopic, Unavailable
from erasestream.topics.kafka.connection import Admin
from erasestream.topics.kafka.records import Partition


def known_ends(
    admin: Admin, partitions: Sequence[TopicPartition], *, timeout_s: float
) -> dict[Partition, int]:
    """The offset behind the last record of each partition whose leader answers in time.

    One that the cluster does not know, or not yet, is as one without a leader.
    Raises `Refused` for other reasons.
    """
    admin.renew()
    client, end = admin.client, time.monotonic() + timeout_s
    spec: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    # Each in a question of its own: one answers only once all that it asks are answered.
    answers = [(tp, client.list_offsets({tp: spec})[tp]) for tp in partitions]
    known = {}
    for tp, answer in answers:
        left_s = max(0.0, end - time.monotonic())
        with suppress(Unavailable):
            try:
                offset = admin.ask(f"offsets of {tp.topic}", answer, timeout_s=left_s).offset
            except MissingTopic:
                continue
            else:
                known[Partition(tp.topic, tp.partition)] = int(offset)
    if len(known) < len(answers) or min(known.values(), default=0) < 0:
        admin.reconnect(client)  # see `Admin.offsets`
    return {at: offset for at, offset in known.items() if offset >= 0}
