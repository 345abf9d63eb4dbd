"""Erase grants: a marker in the vault, then the entry in the ledger, then the one in `erasures`.

Each step only after the one before was acknowledged, and each once, however long the next one
can not be made.  What can not be made now is tried again with the next call.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import NamedTuple

from erasestream.schemas.codec.cloudevents import Wire, to_wire
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.events.ledger import ErasureEntry
from erasestream.schemas.ids import AccountId, GrantId, Lane, new_upload_id
from erasestream.topics.catalog.topic_names import ERASURES, LEDGER
from erasestream.topics.consent.ledger_view import GrantHistory, ledger_key
from erasestream.topics.kafka.partitioner import partition_of
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from erasestream.topics.kafka.records import Partition

log = logging.getLogger(__name__)

AT_ONCE = 8
"""Markers that are made at the same time."""


class Ended(NamedTuple):
    """A grant without force."""

    lane: Lane
    account: AccountId
    grant: GrantId


class Trouble:
    """What keeps a stage from its work: said once, until a turn passes without any."""

    def __init__(self) -> None:
        self._is_said = False
        self.is_there = False

    def say(self, error: Unavailable) -> None:
        """There is some."""
        if not self._is_said:
            log.warning("waiting", extra={"code": error.code, "reason": error.detail})
        self._is_said = self.is_there = True

    def begin_turn(self) -> None:
        """The next turn begins."""
        self._is_said, self.is_there = self.is_there, False


class GrantEraser:
    """Erases; `mark` creates a grant's marker in the vault.

    `partitions`: how many the ledger and `erasures` have.
    """

    def __init__(
        self,
        *,
        writes: AcknowledgedWriter,
        partitions: Mapping[str, int],
        mark: Callable[[GrantId], None],
        stopping: threading.Event,
        trouble: Trouble,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._writes = writes
        self._partitions = partitions
        self._mark = mark
        self._stopping = stopping
        self._trouble = trouble
        self._now = now
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="eraser")
        self._is_vault_away = False
        self._marked: dict[Ended, Wire] = {}
        """What is marked and not in `erasures` yet, each with the entry that says so."""
        self._in_ledger: set[Ended] = set()
        """What of that is in the ledger."""
        self.count = 0
        """How many grants were erased."""

    def erase(
        self, asked: Iterable[Ended], *, grants: GrantHistory, shown: set[Partition]
    ) -> set[Ended]:
        """Erase these; which of them are erased now.

        `grants` tells which were before; `shown` are the partitions whose leaders answer.
        """
        asked = list(dict.fromkeys(asked))
        erased = {each for each in asked if grants.is_erased(each.grant)}
        left = [each for each in asked if each not in erased]
        self._mark_all([each for each in left if each not in self._marked])
        marked = [each for each in left if each in self._marked]
        new = [each for each in marked if each not in self._in_ledger]
        self._in_ledger.update(self._noted(LEDGER, new, shown))
        noted = self._noted(ERASURES, [each for each in marked if each in self._in_ledger], shown)
        for each in noted:
            del self._marked[each]
        self._in_ledger.difference_update(noted)
        self.count += len(noted)
        return erased.union(noted)

    def place(self, topic: str, lane: Lane, account: AccountId) -> Partition:
        """Where in the ledger, or in `erasures`, the entries about an account lie."""
        return Partition(topic, partition_of(ledger_key(lane, account), self._partitions[topic]))

    def close(self) -> None:
        """Let go of threads."""
        self._pool.shutdown()

    def _mark_all(self, ended: list[Ended]) -> None:
        self._is_vault_away = False
        marked = self._pool.map(self._is_marked, ended)
        for each, is_marked in zip(ended, marked, strict=True):
            if is_marked:
                self._marked[each] = self._entry(each)

    def _is_marked(self, ended: Ended) -> bool:
        if self._is_vault_away or self._stopping.is_set():
            return False  # a vault that does not answer is not asked a thousand times
        try:
            self._mark(ended.grant)
        except Unavailable as error:
            self._is_vault_away = True
            self._trouble.say(error)
            return False
        return True

    def _noted(self, topic: str, ended: list[Ended], shown: set[Partition]) -> list[Ended]:
        """Say in the topic that these are erased; of which of them it is acknowledged."""
        places = {each: self.place(topic, each.lane, each.account) for each in ended}
        for away in set(places.values()) - shown:
            self._trouble.say(Unavailable(f"{away}: no answer"))
        asked = [each for each in ended if places[each] in shown]
        entries = [
            (places[each], ledger_key(each.lane, each.account), self._marked[each])
            for each in asked
        ]
        try:
            answers = self._writes.write_all(entries)
        except Unavailable as error:
            self._trouble.say(error)
            return []
        noted = []
        for each, answer in zip(asked, answers, strict=True):
            try:
                answer.result()
            except Unavailable as error:
                self._trouble.say(error)
            else:
                noted.append(each)
        return noted

    def _entry(self, ended: Ended) -> Wire:
        now = self._now()
        entry = ErasureEntry(
            id=new_upload_id(int(now.timestamp() * 1000), os.urandom(10)),
            time=now,
            lane=ended.lane,
            account=ended.account,
            grant=ended.grant,
        )
        return to_wire(entry, source="/eraser")
