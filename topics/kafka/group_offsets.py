"""What a group has committed, asked by a consumer that never joins it.

Not by the admin client.  Two faults of librdkafka (2.16) end the process there when brokers come
and go; both can be read in its source, and the first was seen again and again:

* Its question for the offsets of a group ends in a segfault once the coordinator has moved:
  it is then looked for by the part of a consumer that an admin client does not have.
* Any of its questions to a coordinator may abort, if the connection breaks just before it is
  sent: the question is let go of twice.
"""

import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaException, TopicPartition

from erasestream.schemas.errors import Unavailable
from erasestream.topics.kafka.errors import ClientErrorState, kafka_error, translate
from erasestream.topics.kafka.records import Partition

SLICE_S = 1.0
"""How often somebody who waits for an answer looks whether there is trouble."""


class Committed(NamedTuple):
    """What a group has committed for one partition."""

    offset: int
    metadata: str = ""


def committed(
    group: str,
    partitions: Iterable[Partition],
    *,
    settings: Mapping[str, object],
    watch: ClientErrorState,
    context: str,
    timeout_s: float,
) -> dict[Partition, Committed]:
    """What is committed for these; those without are left out.

    What a transaction that is still open would commit does not count yet.
    Raises `Unavailable`, or `Refused` if we may not even look at the group.
    """
    asked = [TopicPartition(*at) for at in partitions]
    if not asked:
        return {}
    # Not read-committed: else a transaction that is open on one partition hides all of them.
    more = {
        "group.id": group,
        "enable.auto.commit": False,
        "isolation.level": "read_uncommitted",
    }
    consumer = Consumer({**settings, **more})
    try:
        answers = _answers(consumer, asked, time.monotonic() + timeout_s, context, watch)
    finally:
        consumer.close()
    result = {}
    for tp in answers:
        if tp.error is not None:
            raise translate(tp.error, context)
        if tp.offset >= 0:
            result[Partition(tp.topic, tp.partition)] = Committed(tp.offset, tp.metadata or "")
    return result


def _answers(
    consumer: Consumer,
    asked: list[TopicPartition],
    end: float,
    context: str,
    watch: ClientErrorState,
) -> list[TopicPartition]:
    while True:
        try:
            return consumer.committed(asked, SLICE_S)
        except KafkaException as exception:
            # That a right is missing is only told to who reads.
            told = consumer.poll(0)
            reason = told.error() if told is not None else None
            error = translate(reason or kafka_error(exception), context)
            if not isinstance(error, Unavailable):
                raise error from exception
            if time.monotonic() > end:
                raise watch.explain(f"{context}: no answer") from exception
