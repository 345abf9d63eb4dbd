"""Write the owners' decisions about keeping.

Rules of writing, in this order:

0. An opt-in is the owner's own action: an operator may revoke, and grant only where the
   writer was made for a development stack.  Who has the operator's certificate is one.
1. Look: a grant while granted, and a revocation of what was never granted, change nothing
   (a revocation is written all the same: it must win every race).
2. The ledger entry is acknowledged first, so that no decision is without its proof.
3. The state is a single record outside any transaction, in the partition that we compute.
4. A grant that the broker appends more than five seconds after its making is void; the
   writer then says so instead of reporting success.
5. What two writers decide at once gets one order, or is revoked (`decision_order.py`).

A revocation that `revoke` returned is *recorded*: every later decision of the pipeline
honours it.  It is *confirmed* once the erasure markers of all the account's grants stand in
the vault, which the eraser reports in the topic `erasures`, where only it can write.
"""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum, auto
from typing import NamedTuple

from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.errors import Refused, Unavailable
from erasestream.schemas.events.consent import GRANT_WINDOW, Channel, ConsentDecision, Decision
from erasestream.schemas.events.ledger import DecisionEntry
from erasestream.schemas.ids import AccountId, GrantId, Lane, new_upload_id
from erasestream.topics.catalog.roles import OPERATOR
from erasestream.topics.catalog.topic_names import LEDGER, consent_of
from erasestream.topics.consent.ledger_view import ledger_key
from erasestream.topics.consent.reader import ConsentReader, checked
from erasestream.topics.consent.write_conflicts import has_rival
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.consumer.compacted_view import Mark
from erasestream.topics.kafka.partitioner import partition_of
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter, Written
from erasestream.topics.kafka.records import Partition

WRITE_TIMEOUT_S = 2 * GRANT_WINDOW.total_seconds()
"""A grant that was given up must never count.

With a clock that is ahead by the window (by more it is found out before the state is written)
a grant counts until two windows after its making.
"""
POLL_S = 0.2
TOO_LATE = "the grant came too late to count; make it again"


class OperatorPolicy(Enum):
    """What operators may decide for owners."""

    REVOKE_ONLY = auto()
    GRANT_AND_REVOKE = auto()
    """They may grant as well: a development stack has no owners."""


class RecordedDecision(NamedTuple):
    """A decision that the brokers have acknowledged, or that already stood."""

    decision: Decision
    grant: GrantId | None
    at: datetime
    written: bool
    """False if nothing had to be written."""
    decision_id: str | None = None
    """Under which the ledger has it; None if nothing had to be written."""


class ConsentWriter:
    """Record what an owner decides.  Thread-safe; one per process is enough."""

    def __init__(
        self,
        *,
        connection: Connection,
        lane: Lane,
        operators: OperatorPolicy = OperatorPolicy.REVOKE_ONLY,
        clock: Callable[[], float] = time.time,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._lane = lane
        self._role = connection.role
        self._operators = operators
        self._clock = clock
        self._random = random
        self.reader = ConsentReader(connection=connection, lane=lane)
        self._writes = AcknowledgedWriter(connection=connection, timeout_s=WRITE_TIMEOUT_S)

    def grant(self, account: str, *, actor: str, channel: Channel) -> RecordedDecision:
        """Opt in; the grant counts when this returns.

        Raises `Unavailable` if the brokers did not acknowledge it in time, or appended it too
        late to count, or a revocation was made at the same time (which counts).  In the first
        case it may have been written all the same, and count: ask `ConsentReader.standing`,
        or grant again, which changes nothing if it stands.
        Raises `Refused` (before anything is written) if an operator may not.

        For some seconds after a partition has changed its leader the one before may still say
        what stood then: `written=False` can name a grant that was revoked since.
        """
        is_operator = self._role == OPERATOR or channel is Channel.OPERATOR
        if is_operator and self._operators is OperatorPolicy.REVOKE_ONLY:
            raise Refused("operators can only revoke: an opt-in is the owner's own action")
        asked = checked(account)
        standing, begin = self.reader.look(asked)
        if standing is not None:
            return RecordedDecision(
                Decision.GRANTED, standing.grant, standing.appended_at, written=False
            )
        recorded, is_contested = self._decide(asked, Decision.GRANTED, actor, channel, begin)
        if is_contested:
            self.revoke(account, actor=actor, channel=channel)
            raise Unavailable("a revocation was made at the same time, and counts")
        return recorded

    def revoke(self, account: str, *, actor: str, channel: Channel) -> RecordedDecision:
        """Opt out: *recorded* when this returns.

        Raises `Unavailable` if the brokers did not acknowledge it in time: it may have been
        written all the same, or not; revoke again until this returns.
        """
        asked = checked(account)
        while True:
            begin = self.reader.reach(asked)
            recorded, is_contested = self._decide(asked, Decision.REVOKED, actor, channel, begin)
            if not is_contested:
                return recorded

    def await_confirmed(self, account: str, revoked: RecordedDecision, *, timeout_s: float) -> None:
        """Wait until a revocation is *confirmed*: nothing is kept under any grant before it.

        `revoked`: what `revoke` returned.  A grant that was made after it does not matter.
        Raises `Unavailable` after the timeout: the revocation stays recorded, and is
        confirmed as soon as the eraser comes to it.
        """
        if revoked.decision is not Decision.REVOKED or revoked.decision_id is None:
            raise Refused("only a revocation is confirmed")
        end = time.monotonic() + timeout_s
        grants = self.reader.account_grants(account)
        while (left := grants.open_before(revoked.decision_id)) != []:
            if time.monotonic() > end:
                if left is None:
                    raise Unavailable("the ledger does not show the revocation yet")
                raise Unavailable(f"{len(left)} grants are not marked as erased yet")
            time.sleep(POLL_S)

    def _decide(
        self, account: AccountId, made: Decision, actor: str, channel: Channel, begin: Mark
    ) -> tuple[RecordedDecision, bool]:
        """Write a decision, and whether somebody decided otherwise since `begin`."""
        now_ms = int(self._clock() * 1000)
        decision = ConsentDecision(
            id=new_upload_id(now_ms, self._random(10)),
            time=datetime.fromtimestamp(now_ms / 1000, UTC),
            account=account,
            decision=made,
            actor=actor,
            channel=channel,
        )
        state = self._write(decision)
        grant = decision.grant(self._lane) if made is Decision.GRANTED else None
        recorded = RecordedDecision(made, grant, state.at, written=True, decision_id=decision.id)
        if state.offset < 0:
            raise Unavailable("written, and nobody says where; decide again")
        between = self.reader.between(account, begin, state.offset)
        return recorded, has_rival(made, account, between)

    def _write(self, decision: ConsentDecision) -> Written:
        """The ledger entry, then the state; where that lies.

        Raises `Unavailable` if a grant comes too late to count.  By the clock that stamped the
        entry that is known before the state is written.
        """
        source = f"/lanes/{self._lane}/consent"
        entry = DecisionEntry(lane=self._lane, **decision.model_dump())
        about, key = ledger_key(self._lane, decision.account), decision.account.encode()
        entered = self._writes.write(self._at(LEDGER, about), about, to_wire(entry, source=source))
        if decision.is_void(entered.at):
            raise Unavailable(TOO_LATE)
        state = self._writes.write(
            self._at(consent_of(self._lane), key), key, to_wire(decision, source=source)
        )
        if decision.is_void(state.at):
            raise Unavailable(TOO_LATE)
        return state

    def _at(self, topic: str, key: bytes) -> Partition:
        return Partition(topic, partition_of(key, self.reader.partitions[topic]))
