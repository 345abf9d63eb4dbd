"""Offsets as the brokers know them: where logs begin and end, and in which topic.

An offset means something only beside the id of its topic: a topic that was deleted and created
again numbers its records from 0.
"""

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress

from confluent_kafka import TopicCollection, TopicPartition, Uuid
from confluent_kafka.admin import AdminClient, OffsetSpec

from erasestream.schemas.clocks import Deadline
from erasestream.schemas.errors import MissingTopic, Unavailable
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.records import Partition

_EARLIEST: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_NONE = -1
"""The brokers' answer if no record is as young as asked for."""
ANSWER_S = 2.0
"""A client that has not answered for so long is replaced.  Longer than it takes to connect, also on
a busy machine: one that is replaced before it has connected never answers."""


class OffsetQueries:
    """Offsets and topic ids.  Thread-safe.

    Seen with librdkafka 2.16: a leader that is lost during a request gives -1001 and no error,
    and once it is back the client keeps asking with the epoch of before, without end.  So after
    a failure the next request is made by a new client.
    """

    def __init__(self, admin: Admin) -> None:
        self._admin = admin
        self._silence = _Silence()

    def topic_ids(self, names: Iterable[str]) -> dict[str, str]:
        """Return the current id of each topic, in the form that Kafka prints."""
        with self._admin.use() as client:
            futures = client.describe_topics(
                TopicCollection(list(names)), request_timeout=self._admin.timeout_s
            )
            try:
                return {
                    name: _printed(self._admin.ask(f"topic {name}", future).topic_id)
                    for name, future in futures.items()
                }
            except Unavailable:
                self._admin.reconnect(client)
                raise

    def log_start(self, at: Partition) -> int:
        """Return the first offset of a partition that is not deleted."""
        return self.log_starts([at])[at]

    def log_starts(
        self, partitions: Iterable[Partition], *, timeout_s: float | None = None
    ) -> dict[Partition, int]:
        """Return the first offset of each that is not deleted, in one request."""
        return self._offsets(partitions, _EARLIEST, timeout_s=timeout_s)

    def log_end(self, at: Partition) -> int:
        """Return the offset after the last record of a partition, committed or not."""
        return self.log_ends([at])[at]

    def log_ends(
        self, partitions: Iterable[Partition], *, timeout_s: float | None = None
    ) -> dict[Partition, int]:
        """Return the offset after the last record of each, committed or not, in one request."""
        return self._offsets(partitions, _LATEST, timeout_s=timeout_s)

    def first_after(self, at: Partition, moment_ms: int) -> int:
        """Return the offset of the first record appended after this; the log end if none was."""
        spec: OffsetSpec = OffsetSpec.for_timestamp(moment_ms + 1)
        found = self._offsets([at], spec, least=_NONE)[at]
        return self.log_end(at) if found == _NONE else found

    def known_log_ends(
        self, partitions: Iterable[Partition], *, timeout_s: float
    ) -> dict[Partition, int]:
        """Return the log end of each partition whose leader answers in time.

        A partition that the cluster does not know, or not yet, is left out like one without a
        leader.  Raises `Refused` for other reasons.
        """
        return self._known(partitions, _LATEST, timeout_s=timeout_s)

    def known_log_starts(
        self, partitions: Iterable[Partition], *, timeout_s: float
    ) -> dict[Partition, int]:
        """Return the log start of each partition whose leader answers in time, likewise."""
        return self._known(partitions, _EARLIEST, timeout_s=timeout_s)

    def _known(
        self, partitions: Iterable[Partition], spec: OffsetSpec, *, timeout_s: float
    ) -> dict[Partition, int]:
        begun = time.monotonic()
        deadline = Deadline(timeout_s, time.monotonic)
        asked = [(at, TopicPartition(*at)) for at in partitions]
        known: dict[Partition, int] = {}
        with self._admin.use() as client:
            # A request each: a request is answered only once all of its partitions are.
            answers = [(at, client.list_offsets({tp: spec})[tp]) for at, tp in asked]
            for at, answer in answers:
                context = f"offsets of {at.topic}"
                with suppress(Unavailable, MissingTopic):
                    found = self._admin.ask(context, answer, timeout_s=deadline.remaining_s)
                    known[at] = int(found.offset)
            late = sum(at not in known and not answer.done() for at, answer in answers)
            has_failed = len(known) + late < len(answers) or min(known.values(), default=0) < 0
            if self._silence.is_too_long(begun, late) or has_failed:
                self._admin.reconnect(client)
        return {at: offset for at, offset in known.items() if offset >= 0}

    def _offsets(
        self,
        partitions: Iterable[Partition],
        spec: OffsetSpec,
        *,
        timeout_s: float | None = None,
        least: int = 0,
    ) -> dict[Partition, int]:
        """Return the offset that the spec means for each, all of them known, within one timeout."""
        asked = [TopicPartition(*at) for at in partitions]
        wait_s = self._admin.timeout_s if timeout_s is None else timeout_s
        with self._admin.use() as client:
            try:
                return self._offsets_from(client, asked, spec, wait_s, least)
            except Unavailable:
                self._admin.reconnect(client)
                raise
            except MissingTopic:
                # The client judges by its metadata; partitions may have been added since.
                self._admin.reconnect(client)
        with self._admin.use() as client:
            return self._offsets_from(client, asked, spec, wait_s, least)

    def _offsets_from(
        self,
        client: AdminClient,
        asked: Sequence[TopicPartition],
        spec: OffsetSpec,
        wait_s: float,
        least: int,
    ) -> dict[Partition, int]:
        found = {}
        deadline = Deadline(wait_s, time.monotonic)
        for tp, future in client.list_offsets(dict.fromkeys(asked, spec)).items():
            at = Partition(tp.topic, tp.partition)
            answer = self._admin.ask(f"offsets of {at}", future, timeout_s=deadline.remaining_s)
            found[at] = int(answer.offset)
            if found[at] < least:
                raise Unavailable(f"offsets of {at}: no answer")
        return found


class _Silence:
    """How long answers have been late."""

    def __init__(self) -> None:
        self._begun: float | None = None

    def is_too_long(self, asked: float, late: int) -> bool:
        """Note how many answers to what was asked at this time are late."""
        begun = (self._begun or asked) if late else None
        is_too_long = begun is not None and time.monotonic() - begun >= ANSWER_S
        self._begun = None if is_too_long else begun  # its client is replaced
        return is_too_long


def _printed(topic_id: Uuid) -> str:
    """Return a topic's id as Kafka writes it: URL-safe, where librdkafka has `+` and `/`."""
    return str(topic_id).replace("+", "-").replace("/", "_")
