"""Write the records of a decision, in the order of the writer's rules (`writer.py`)."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

from erasestream.schemas.clocks import WallClock
from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.events.consent import Channel, ConsentDecision, Decision
from erasestream.schemas.events.ledger import DecisionEntry
from erasestream.schemas.ids import AccountId, GrantId, Lane, new_upload_id
from erasestream.topics.catalog.topic_names import ledger_of
from erasestream.topics.consent.reader import ConsentReader
from erasestream.topics.consent.revocations import revocation_place
from erasestream.topics.consent.write_conflicts import has_conflict
from erasestream.topics.kafka.consumer.compacted_view import Mark
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter, Written

TOO_LATE = "the grant was appended too late to count; grant again"


class RecordedDecision(NamedTuple):
    """A decision that the brokers have acknowledged, or that was in force already."""

    decision: Decision
    grant: GrantId | None
    at: datetime
    written: bool
    """False if the decision was in force already."""
    decision_id: str | None = None
    """Id in the ledger; None if the decision was in force already."""
    by_operator: bool = False
    """Whether this is an operator's revocation."""


class Wish(NamedTuple):
    """A decision that is to be made."""

    account: AccountId
    decision: Decision
    actor: str
    channel: Channel
    notice: str | None = None
    closes: bool = False
    """Whether this revocation closes the account."""


class DecisionRecords:
    """Writes the two records of a decision, its ledger entry and then its state, and checks them.

    Of an operator's revocation only one, in the topic where nothing can be granted.
    """

    def __init__(
        self,
        writes: AcknowledgedWriter,
        *,
        lane: Lane,
        reader: ConsentReader,
        now: WallClock,
        random: Callable[[int], bytes],
    ) -> None:
        self._writes = writes
        self._lane = lane
        self._reader = reader
        self._now = now
        self._random = random

    def decide(self, wish: Wish, begin: Mark) -> tuple[RecordedDecision, bool]:
        """Write a decision, and return whether another writer decided otherwise since `begin`."""
        account, decided = wish.account, wish.decision
        decision = self._new(wish)
        entry, state = self._write(decision, closes=wish.closes)
        grant = decision.grant(self._lane) if decided is Decision.GRANTED else None
        recorded = RecordedDecision(decided, grant, state.at, written=True, decision_id=decision.id)
        if state.offset < 0:
            raise Unavailable("written at an unknown offset; decide again")
        between = self._reader.records_between(account, begin, state.offset)
        is_contested = has_conflict(decided, account, between)
        if grant is not None:
            # The eraser judges by the entry's time, readers by the state's.
            oldest = min(entry.at, state.at)
            is_contested = (
                is_contested
                or self._reader.is_ended_by_operator(account, oldest)
                or self._reader.is_closed(account)
            )
        return recorded, is_contested

    def _new(self, wish: Wish) -> ConsentDecision:
        """Return a decision of this moment, with a new id."""
        now_ms = int(self._now().timestamp() * 1000)
        return ConsentDecision(
            id=new_upload_id(now_ms, self._random(10)),
            time=datetime.fromtimestamp(now_ms / 1000, UTC),
            account=wish.account,
            decision=wish.decision,
            actor=wish.actor,
            channel=wish.channel,
            notice=wish.notice,
        )

    def _write(self, decision: ConsentDecision, *, closes: bool) -> tuple[Written, Written]:
        """Write both records, and return when and where they were appended.

        `closes`: the account, by its entry.

        Raises `Unavailable` if a grant is too late to count.  The append time of the entry shows
        that before the state is written.
        """
        source = f"/lanes/{self._lane}/consent"
        closing = True if closes else None
        entry = DecisionEntry(lane=self._lane, closes=closing, **decision.model_dump())
        entries = self._reader.place(ledger_of(self._lane), decision.account)
        entered = self._writes.write(*entries, to_wire(entry, source=source))
        if decision.is_void(entered.at):
            raise Unavailable(TOO_LATE)
        at, key = self._reader.partition_for(decision.account), decision.account.encode()
        state = self._writes.write(at, key, to_wire(decision, source=source))
        if decision.is_void(state.at):
            raise Unavailable(TOO_LATE)
        return entered, state

    def revoke_as_operator(self, account: AccountId, actor: str) -> RecordedDecision:
        """Write an operator's revocation."""
        decision = self._new(Wish(account, Decision.REVOKED, actor, Channel.OPERATOR))
        place = revocation_place(self._lane, account)
        source = f"/lanes/{self._lane}/operator"
        written = self._writes.write(*place, to_wire(decision, source=source))
        if written.offset < 0:
            raise Unavailable("written at an unknown time; revoke again")
        return RecordedDecision(
            Decision.REVOKED,
            None,
            written.at,
            written=True,
            decision_id=decision.id,
            by_operator=True,
        )
