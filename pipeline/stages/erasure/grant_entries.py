"""Write the entries of erased grants and uploads, and await their acknowledgements.

An entry whose acknowledgement takes longer than `WRITE_WAIT_S` is awaited by later calls, and holds
up no other.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Generic, Protocol, TypeVar

from erasestream.pipeline.runtime.retry import OutageLog
from erasestream.pipeline.stages.erasure.ended_grants import EndedGrant
from erasestream.schemas.codec.cloudevents import Wire
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.ids import AccountId, Lane
from erasestream.topics.consent.ledger_place import place
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter, Written
from erasestream.topics.kafka.records import Partition

WRITE_WAIT_S = 1.0
"""Longest wait of one turn for the acknowledgements of new entries."""


class Owned(Protocol):
    """Anything of an account, such as a grant; hashable."""

    @property
    def lane(self) -> Lane:
        """The lane of its account."""

    @property
    def account(self) -> AccountId:
        """Its account."""


T = TypeVar("T", bound=Owned)


class OwnedEntries(Generic[T]):
    """Entries that are being written; `partitions` are the partition counts of their topics."""

    def __init__(
        self, *, writes: AcknowledgedWriter, partitions: Mapping[str, int], outage: OutageLog
    ) -> None:
        self._writes = writes
        self._partitions = partitions
        self._outage = outage
        self._writing: dict[tuple[str, T], Future[Written]] = {}

    def write(
        self,
        topic_of: Callable[[Lane], str],
        entries: Mapping[T, Wire],
        shown: set[Partition],
    ) -> list[T]:
        """Write these entries, each once; return what is acknowledged.

        `shown` are the partitions whose leaders answer.  Call again for the others.
        """
        begun: list[tuple[str, T]] = []
        records = []
        for each, entry in entries.items():
            topic = topic_of(each.lane)
            at, key = place(topic, each.account, self._partitions)
            if at not in shown:
                self._outage.report(Unavailable(f"{at}: no answer"))
            elif (topic, each) not in self._writing:
                begun.append((topic, each))
                records.append((at, key, entry))
        try:
            answers = self._writes.begin(records)
        except Unavailable as error:
            self._outage.report(error)
            return []
        self._writing |= dict(zip(begun, answers, strict=True))
        self._writes.wait(answers, timeout_s=WRITE_WAIT_S)
        return [each for each in entries if self._is_acknowledged(topic_of(each.lane), each)]

    def _is_acknowledged(self, topic: str, ended: T) -> bool:
        answer = self._writing.get((topic, ended))
        if answer is None:
            return False
        if not answer.done():
            self._outage.report(Unavailable(f"writing {topic}: no answer yet"))
            return False
        del self._writing[topic, ended]
        try:
            answer.result()
        except Unavailable as error:
            self._outage.report(error)
            return False
        return True


GrantEntries = OwnedEntries[EndedGrant]
