"""Writer of the owners' consent decisions.

Rules of writing, in this order:

0. An opt-in is the owner's own action: an operator, proven by the certificate, may revoke, and may
   grant only in an installation that is marked as development (`installation.py`).  An operator's
   revocation is written to `revocations.L` alone (`revocations.py`), and the eraser
   writes its ledger entry.
1. Look up: a grant while granted changes nothing.  A revocation is written even without a grant,
   because it must win every race.
2. The ledger entry is acknowledged first, so that every decision has its proof.
3. The state is a single record outside any transaction, in the partition that we compute.
4. A grant that the broker appends more than five seconds after its creation is void; the writer
   raises instead of reporting success.
5. Conflicting decisions of concurrent writers get one order, or are revoked
   (`write_conflicts.py`).

A revocation that `revoke` returned is *recorded*: every later routing decision honours it.  It is
*confirmed* once the vault holds the erasure markers of all the account's grants, which the eraser
reports in `erasures.L`, where only the eraser can write.  From then on no picture that was
retained under them is opened.
"""

import os
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from typing import NamedTuple

from erasestream.schemas.clocks import Deadline, WallClock, utc_now
from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.errors import Refused, Unavailable
from erasestream.schemas.events.consent import GRANT_WINDOW, Channel, ConsentDecision, Decision
from erasestream.schemas.events.ledger import DecisionEntry
from erasestream.schemas.ids import AccountId, GrantId, Lane, new_upload_id
from erasestream.topics.catalog.roles import OPERATOR
from erasestream.topics.catalog.topic_names import ledger_of
from erasestream.topics.consent.reader import ConsentReader, validated
from erasestream.topics.consent.revocations import revocation_place
from erasestream.topics.consent.write_conflicts import has_conflict
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.consumer.compacted_view import Mark
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter, Written

WRITE_TIMEOUT_S = 2 * GRANT_WINDOW.total_seconds()
"""Timeout of a write.  A grant that was given up must never count.

With a clock that is ahead by the window (a larger error is detected before the state is written)
a grant counts until two windows after its creation.
"""
POLL_S = 0.2
"""Interval of the queries while waiting for a confirmation."""
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


class ConsentWriter:
    """Records the decisions of owners.  Thread-safe; one per process is enough."""

    def __init__(
        self,
        *,
        connection: Connection,
        lane: Lane,
        now: WallClock = utc_now,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._lane = lane
        self._is_operator = connection.role == OPERATOR
        self._now = now
        with ExitStack() as opened:
            self.reader: ConsentReader = opened.enter_context(
                closing(ConsentReader(connection=connection, lane=lane))
            )
            writes = AcknowledgedWriter(connection=connection, timeout_s=WRITE_TIMEOUT_S)
            opened.callback(writes.close)
            self._opened = opened.pop_all()
        self._records = _DecisionRecords(
            writes, lane=lane, reader=self.reader, now=now, random=random
        )

    def close(self) -> None:
        """Disconnect.  Idempotent."""
        self._opened.close()

    def grant(
        self, account: str, *, actor: str, channel: Channel, notice: str | None = None
    ) -> RecordedDecision:
        """Opt in; the grant counts when this returns.

        `notice` names the text that the owner agreed to (`NoticeField`).

        Raises `Unavailable` if the brokers did not acknowledge it in time, or appended it too late
        to count, or if a revocation was written at the same time or, by an operator, shortly before
        (which counts).  In the first case the grant may have been written, and count: ask
        `ConsentReader.active_grant`, or grant again, which changes nothing if it is active.
        Raises `Refused` (before anything is written) if an operator may not grant.

        For some seconds after a partition has changed its leader, the old leader may still return
        older records: `written=False` can name a grant that has been revoked since.
        """
        is_operator = self._is_operator or channel is Channel.OPERATOR
        if is_operator and not self.reader.has_operator_grants:
            raise Refused("operators may only revoke: an opt-in is the owner's own action")
        self._check(channel)
        owner = validated(account)
        active, begin = self.reader.lookup(owner)
        if active is not None:
            return RecordedDecision(
                Decision.GRANTED, active.grant, active.appended_at, written=False
            )
        if self.reader.is_ended_by_operator(owner, self._now()):
            raise Unavailable("an operator has just revoked; grant again in some seconds")
        recorded, is_contested = self._decide(
            _Wish(owner, Decision.GRANTED, actor, channel, notice), begin
        )
        if is_contested:
            self.revoke(account, actor=actor, channel=channel)
            raise Unavailable("a revocation was made at the same time, and counts")
        return recorded

    def revoke(self, account: str, *, actor: str, channel: Channel) -> RecordedDecision:
        """Opt out: *recorded* when this returns.

        Raises `Unavailable` if the brokers did not acknowledge it in time: it may have been
        written or not; revoke again until this returns.
        """
        owner = validated(account)
        self._check(channel)
        if self._is_operator:
            return self._records.revoke_as_operator(owner, actor)
        while True:
            begin = self.reader.end_mark(owner)
            recorded, is_contested = self._decide(
                _Wish(owner, Decision.REVOKED, actor, channel), begin
            )
            if not is_contested:
                return recorded

    def await_confirmed(self, account: str, revoked: RecordedDecision, *, timeout_s: float) -> None:
        """Wait until a revocation is *confirmed*: no picture of an earlier grant opens any more.

        `revoked` is the result of `revoke`.  Later grants do not matter.
        Raises `Unavailable` after the timeout: the revocation stays recorded, and is confirmed
        once the eraser has processed it.
        """
        if revoked.decision is not Decision.REVOKED or revoked.decision_id is None:
            raise Refused("only a revocation can be confirmed")
        deadline = Deadline(timeout_s, time.monotonic)
        grants = self.reader.account_grants(account)

        def unerased() -> list[GrantId] | None:
            if revoked.by_operator:
                return grants.unerased_by_operator(str(revoked.decision_id), revoked.at)
            return grants.unerased_before(str(revoked.decision_id))

        while (left := unerased()) != []:
            if deadline.has_passed:
                if left is None:
                    raise Unavailable("the ledger does not show the revocation yet")
                raise Unavailable(f"{len(left)} grants are not marked as erased yet")
            time.sleep(deadline.slice_s(POLL_S))

    def _decide(self, wish: "_Wish", begin: Mark) -> tuple[RecordedDecision, bool]:
        """Write a decision, and return whether another writer decided otherwise since `begin`."""
        account, decided = wish.account, wish.decision
        decision = self._records.new(wish)
        entry, state = self._records.write(decision)
        grant = decision.grant(self._lane) if decided is Decision.GRANTED else None
        recorded = RecordedDecision(decided, grant, state.at, written=True, decision_id=decision.id)
        if state.offset < 0:
            raise Unavailable("written at an unknown offset; decide again")
        between = self.reader.records_between(account, begin, state.offset)
        is_contested = has_conflict(decided, account, between)
        if grant is not None:
            # The eraser judges by the entry's time, readers by the state's.
            oldest = min(entry.at, state.at)
            is_contested = is_contested or self.reader.is_ended_by_operator(account, oldest)
        return recorded, is_contested

    def _check(self, channel: Channel) -> None:
        """Raise `Refused` unless the certificate proves the channel."""
        if self._is_operator is not (channel is Channel.OPERATOR):
            raise Refused(
                "operators decide through the channel operator, and owners through others"
            )


class _Wish(NamedTuple):
    """A decision that is to be made."""

    account: AccountId
    decision: Decision
    actor: str
    channel: Channel
    notice: str | None = None


class _DecisionRecords:
    """Writes the two records of a decision: its ledger entry, then its state.

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

    def new(self, wish: _Wish) -> ConsentDecision:
        """Return a decision of this moment, with a new id."""
        now_ms = int(self._now().timestamp() * 1000)
        return ConsentDecision(
            id=new_upload_id(now_ms, self._random(10)),
            time=datetime.fromtimestamp(now_ms / 1000, UTC),
            **wish._asdict(),
        )

    def write(self, decision: ConsentDecision) -> tuple[Written, Written]:
        """Write both records, and return when and where they were appended.

        Raises `Unavailable` if a grant is too late to count.  The append time of the entry shows
        that before the state is written.
        """
        source = f"/lanes/{self._lane}/consent"
        entry = DecisionEntry(lane=self._lane, **decision.model_dump())
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
        decision = self.new(_Wish(account, Decision.REVOKED, actor, Channel.OPERATOR))
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
