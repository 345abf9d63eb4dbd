"""Commits of acknowledged offsets, with the metadata that their owner keeps beside them.

Rules:

* One asynchronous commit at a time, at most every `every_s`.
* A failed commit loses nothing: it is repeated, or its records are redelivered to another member,
  and the acknowledgements that are lost with it are counted and logged.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from erasestream.schemas.clocks import Clock, Deadline
from erasestream.topics.kafka.errors import kafka_error
from erasestream.topics.kafka.records import Partition

log = logging.getLogger(__name__)


class DueCommit(NamedTuple):
    """An offset to commit and its metadata, and the acknowledgements that it stands for."""

    offset: int
    metadata: str
    acknowledgements: int
    """All acknowledgements of the partition until now."""
    unsaved: int
    """Those that no commit has covered."""


Commits = dict[Partition, DueCommit]


class Acknowledgements(Protocol):
    """Acknowledgements of the assigned partitions; None means all of these."""

    def resume(self, at: Partition, committed: int | None, metadata: str) -> None:
        """Take an assigned partition, and what its group has committed for it, if anything."""

    def to_commit(self, partitions: Iterable[Partition] | None = None) -> Commits:
        """Return what is to be committed and is not."""

    def mark_committed(self, commits: Mapping[Partition, DueCommit]) -> None:
        """Record that these are committed."""

    def omit_metadata(self) -> None:
        """Commit offsets alone from now on."""

    def revoke(self, partitions: Iterable[Partition] | None = None) -> Commits:
        """Drop partitions that another member gets, and return what is to be committed."""


class OffsetCommitter:
    """Commits on the consumer that a call passes.  One thread."""

    def __init__(self, acknowledgements: Acknowledgements, *, every_s: float, clock: Clock) -> None:
        self._acknowledgements = acknowledgements
        self._every_s = every_s
        self._clock = clock
        self._pause = Deadline(0.0, clock)
        self._in_flight: Commits = {}
        self.lost = 0
        """Number of acknowledgements whose partitions went away before they were committed."""

    def reset(self) -> None:
        """Forget the commit in flight: its consumer is replaced."""
        self._in_flight = {}

    def commit_when_due(self, consumer: Consumer) -> None:
        """Commit everything acknowledged, asynchronously and at most every `every_s`."""
        if self._in_flight or not self._pause.has_passed:
            return
        self._pause = Deadline(self._every_s, self._clock)
        due = self._acknowledgements.to_commit()
        if not due:
            return
        try:
            consumer.commit(offsets=_offsets(due), asynchronous=True)
        except KafkaException as exception:
            self._postpone(kafka_error(exception))
        else:
            self._in_flight = due

    def commit_now(self, consumer: Consumer) -> None:
        """Commit everything acknowledged, and wait for it."""
        due = self._acknowledgements.to_commit()
        self._acknowledgements.mark_committed(self._committed(consumer, due))

    def revoke(self, consumer: Consumer, partitions: Iterable[Partition]) -> None:
        """Commit everything acknowledged in these partitions, and drop them."""
        due = self._acknowledgements.revoke(partitions)
        committed = self._committed(consumer, due)
        self._lose({at: each for at, each in due.items() if at not in committed})

    def drop(self, partitions: Iterable[Partition] | None = None) -> None:
        """Drop partitions that nothing can be committed for any more."""
        self._lose(self._acknowledgements.revoke(partitions))

    def on_commit(self, error: KafkaError | None, offsets: list[TopicPartition]) -> None:
        """Take the outcome of the asynchronous commit; the callback of the consumer."""
        sent, self._in_flight = self._in_flight, {}
        if error is not None:
            self._postpone(error)
            return
        self._acknowledgements.mark_committed(self._accepted(sent, offsets))

    def _committed(self, consumer: Consumer, due: Commits) -> Commits:
        """Commit, wait for the answer, and return what the brokers accepted."""
        if not due:
            return {}
        try:
            answers = consumer.commit(offsets=_offsets(due), asynchronous=False)
        except KafkaException as exception:
            self._postpone(kafka_error(exception))
            return {}
        return self._accepted(due, answers or [])

    def _accepted(self, sent: Commits, answers: list[TopicPartition]) -> Commits:
        accepted = {}
        for answer in answers:
            at = Partition(answer.topic, answer.partition)
            if answer.error is not None:
                self._postpone(answer.error)
            elif at in sent and sent[at].offset == answer.offset:
                accepted[at] = sent[at]
        return accepted

    def _postpone(self, error: KafkaError) -> None:
        if error.code() == KafkaError.OFFSET_METADATA_TOO_LARGE:
            self._acknowledgements.omit_metadata()
        if error.code() != KafkaError._NO_OFFSET:
            log.info("commit_postponed", extra={"code": error.name()})

    def _lose(self, due: Commits) -> None:
        count = sum(each.unsaved for each in due.values())
        if count:
            self.lost += count
            log.warning("acknowledgements_lost", extra={"count": count})


def _offsets(due: Mapping[Partition, DueCommit]) -> list[TopicPartition]:
    return [TopicPartition(*at, each.offset, metadata=each.metadata) for at, each in due.items()]
