"""A ledger of one account's decisions, in memory."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.events.base import Event
from erasestream.schemas.events.consent import Channel, Decision
from erasestream.schemas.events.ledger import DecisionEntry, ErasureEntry
from erasestream.schemas.ids import AccountId, GrantId, Lane, grant_id, new_upload_id
from erasestream.topics.catalog.topic_names import erasures_of, ledger_of
from erasestream.topics.consent.ledger_place import place
from erasestream.topics.consent.ledger_view import GrantHistory
from erasestream.topics.kafka.records import Partition, Record

LANE, OTHER = Lane("shop"), Lane("bulk")
ACCOUNT = AccountId("acct-1")
NOW = datetime(2026, 1, 2, tzinfo=UTC)
PARTITIONS = {name(lane): 4 for name in (ledger_of, erasures_of) for lane in (LANE, OTHER)}
LEDGER, ERASURES = ledger_of(LANE), erasures_of(LANE)
PLACE = place(LEDGER, ACCOUNT, PARTITIONS)


class Ledger:
    """A ledger grants_of one account's entries, applied as they are written."""

    def __init__(self, apply: Callable[[Record], None] | None = None) -> None:
        self.grants = GrantHistory(PARTITIONS)
        self._apply = apply or self.grants.apply
        self._count = 0

    def _id(self) -> str:
        self._count += 1
        return new_upload_id(self._count, bytes(10))

    def decide(self, decision: Decision, closes: Literal[True] | None = None, **where: Any) -> str:
        """Write a decision and return its id."""
        decision_id = self._id()
        self.repeat(decision_id, decision, closes, **where)
        return decision_id

    def repeat(
        self,
        decision_id: str,
        decision: Decision,
        closes: Literal[True] | None = None,
        channel: Channel = Channel.LIBRARY,
        **where: Any,
    ) -> None:
        """Write a decision under an id, which may be known already."""
        entry = DecisionEntry(
            id=decision_id,
            time=NOW,
            lane=LANE,
            account=ACCOUNT,
            decision=decision,
            actor="owner",
            channel=channel,
            closes=closes,
        )
        self.write(entry, **where)

    def erase(self, grant: GrantId, **where: Any) -> None:
        """Write an erasure."""
        entry = ErasureEntry(id=self._id(), time=NOW, lane=LANE, account=ACCOUNT, grant=grant)
        self.write(entry, **where)

    def write(
        self,
        event: Event,
        *,
        topic: str = LEDGER,
        number: int | None = None,
        key: bytes | None = None,
    ) -> None:
        """Write any entry, in its place unless another is named."""
        wire = to_wire(event, source="/test")
        at, its_key = place(topic, ACCOUNT, PARTITIONS)
        at = at if number is None else Partition(topic, number)
        self._apply(Record(at, self._count, self._count, key or its_key, wire.headers, wire.value))

    def ended_by_revocation(self, decision: str) -> list[GrantId]:
        return self.grants.ended_by_revocation(LANE, ACCOUNT, decision)

    def appended_until(self, until_ms: int = 1_000) -> list[GrantId]:
        return self.grants.appended_until(LANE, ACCOUNT, until_ms)

    def ended_by_grant(self, decision: str) -> list[GrantId]:
        return self.grants.ended_by_grant(LANE, ACCOUNT, decision)

    def grant(self) -> str:
        return self.decide(Decision.GRANTED)

    def revoke(self) -> str:
        return self.decide(Decision.REVOKED)


def grants_of(*decisions: str) -> list[GrantId]:
    """Return the grants that these decisions made."""
    return [grant_id(LANE, ACCOUNT, decision) for decision in decisions]
