"""Write and read the owners' decisions about keeping.

Rules of writing, in this order:

0. An opt-in is the owner's own action: an operator may revoke, and grant only where the
   writer was made for a development stack.  Who has the operator's certificate is one.
1. Look: a grant while granted, and a revocation of what was never granted, change nothing
   (a revocation is written all the same: it must win every race).
2. The ledger entry is acknowledged first, so that no decision is without its proof.
3. The state is a single record outside any transaction, in the partition that we compute.
4. A grant that the broker appends more than five seconds after its making is void; the
   writer then says so instead of reporting success.

A revocation that `revoke` returned is *recorded*: every later decision of the pipeline
honours it.  It is *confirmed* once the erasure markers of all the account's grants stand in
the vault, which the eraser reports in the topic `erasures`, where only it can write.
"""

import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from enum import Enum, auto
from typing import NamedTuple

from erasestream.schemas.cloudevents import from_wire, to_wire, type_of
from erasestream.schemas.consent import GRANT_WINDOW, Channel, ConsentDecision, Decision
from erasestream.schemas.errors import Code, InvalidEvent, Refused, Unavailable
from erasestream.schemas.events import utc
from erasestream.schemas.ids import AccountId, GrantId, Lane, is_account, new_upload_id
from erasestream.schemas.ledger import DecisionEntry
from erasestream.topics.catalog import ERASURES, LEDGER, OPERATOR, consent_of
from erasestream.topics.compacted import CompactedView
from erasestream.topics.connection import Connection
from erasestream.topics.consent_view import Decisions, Standing
from erasestream.topics.ledger_view import Grants, ledger_key
from erasestream.topics.partitioner import partition_of
from erasestream.topics.record import Partition, Record
from erasestream.topics.single_writes import SingleWrites

WRITE_TIMEOUT_S = GRANT_WINDOW.total_seconds()
READ_TIMEOUT_S = 15.0
POLL_S = 0.2


class Operators(Enum):
    """What operators may decide for owners."""

    REVOKE_ONLY = auto()
    DEVELOPERS = auto()
    """They may grant as well: a development stack has no owners."""


class Recorded(NamedTuple):
    """A decision that the brokers have acknowledged, or that already stood."""

    decision: Decision
    grant: GrantId | None
    at: datetime
    written: bool
    """False if nothing had to be written."""


class HistoryEntry(NamedTuple):
    """One decision of the past, as the ledger has it."""

    at: datetime
    decision: Decision
    actor: str
    channel: Channel


def _checked(account: str) -> AccountId:
    if not is_account(account):
        raise InvalidEvent(code=Code.INVALID_ACCOUNT)
    return AccountId(account)


class ConsentReader:
    """What stands for an account now, and how that came.

    Every question reads the account's partition up to where it reaches at that moment.
    """

    def __init__(self, *, connection: Connection, lane: Lane) -> None:
        self._connection = connection
        self._lane = lane
        self.partitions = connection.admin().check_rights(
            {consent_of(lane): (), LEDGER: (), ERASURES: ()}
        )

    def standing(self, account: str) -> Standing | None:
        """The grant in force; None if the account is not opted in."""
        key = _checked(account).encode()
        topic = consent_of(self._lane)
        decisions = Decisions(
            partitions=self.partitions, found=lambda _kind, _partition, _offset: None
        )
        self._read(topic, key, decisions.apply)
        return decisions.standing(self._lane, AccountId(account))

    def open_grants(self, account: str) -> list[GrantId]:
        """Every grant of this account whose erasure the eraser has not confirmed yet."""
        checked = _checked(account)
        grants = Grants()
        for topic in (LEDGER, ERASURES):
            self._read(topic, ledger_key(self._lane, checked), grants.apply)
        return grants.open(self._lane, checked)

    def history(self, account: str) -> list[HistoryEntry]:
        """Every decision of this account, oldest first."""
        key = ledger_key(self._lane, _checked(account))
        records: list[Record] = []
        self._read(LEDGER, key, records.append)
        return list(_history(records, key))

    def _read(self, topic: str, key: bytes, apply: Callable[[Record], None]) -> None:
        number = partition_of(key, self.partitions[topic])
        view = CompactedView(
            connection=self._connection,
            topics={topic: self.partitions[topic]},
            only=lambda partition: partition.number == number,
            apply=apply,
        )
        try:
            view.catch_up(view.mark(), deadline_s=READ_TIMEOUT_S)
        finally:
            view.close()


def _history(records: list[Record], key: bytes) -> Iterator[HistoryEntry]:
    for record in records:
        if record.key == key and type_of(record.headers) is DecisionEntry:
            entry = from_wire(DecisionEntry, record.headers, record.value)
            appended_at = utc(record.appended_ms)
            yield HistoryEntry(appended_at, entry.decision, entry.actor, entry.channel)


class ConsentWriter:
    """Record what an owner decides.  Thread-safe; one per process is enough."""

    def __init__(
        self,
        *,
        connection: Connection,
        lane: Lane,
        operators: Operators = Operators.REVOKE_ONLY,
        clock: Callable[[], float] = time.time,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._lane = lane
        self._role = connection.role
        self._operators = operators
        self._clock = clock
        self._random = random
        self.reader = ConsentReader(connection=connection, lane=lane)
        self._writes = SingleWrites(connection=connection, timeout_s=WRITE_TIMEOUT_S)

    def grant(self, account: str, *, actor: str, channel: Channel) -> Recorded:
        """Opt in; the grant counts when this returns.

        Raises `Unavailable` if the brokers did not acknowledge it in time, or appended it too
        late to count.  In the first case it may have been written all the same, and count:
        ask `ConsentReader.standing`, or grant again, which changes nothing if it stands.
        Raises `Refused` (before anything is written) if an operator may not.
        """
        is_operator = self._role == OPERATOR or channel is Channel.OPERATOR
        if is_operator and self._operators is Operators.REVOKE_ONLY:
            raise Refused("operators can only revoke: an opt-in is the owner's own action")
        standing = self.reader.standing(account)
        if standing is not None:
            return Recorded(Decision.GRANTED, standing.grant, standing.appended_at, written=False)
        return self._decide(_checked(account), Decision.GRANTED, actor, channel)

    def revoke(self, account: str, *, actor: str, channel: Channel) -> Recorded:
        """Opt out: *recorded* when this returns."""
        return self._decide(_checked(account), Decision.REVOKED, actor, channel)

    def await_confirmed(self, account: str, *, timeout_s: float) -> None:
        """Wait until a revocation is *confirmed*: nothing is kept under any grant any more.

        That is when the eraser has confirmed the erasure of every grant that the account had
        when this was called: call it after `revoke`.
        Raises `Unavailable` after the timeout: the revocation stays recorded, and is
        confirmed as soon as the eraser comes to it.
        """
        end = time.monotonic() + timeout_s
        revoked = set(self.reader.open_grants(account))
        while left := revoked.intersection(self.reader.open_grants(account)):
            if time.monotonic() > end:
                raise Unavailable(f"{len(left)} grants are not marked as erased yet")
            time.sleep(POLL_S)

    def _decide(self, account: AccountId, made: Decision, actor: str, channel: Channel) -> Recorded:
        now_ms = int(self._clock() * 1000)
        decision = ConsentDecision(
            id=new_upload_id(now_ms, self._random(10)),
            time=datetime.fromtimestamp(now_ms / 1000, UTC),
            account=account,
            decision=made,
            actor=actor,
            channel=channel,
        )
        source = f"/lanes/{self._lane}/consent"
        entry = DecisionEntry(lane=self._lane, **decision.model_dump())
        about = ledger_key(self._lane, account)
        self._writes.write(self._at(LEDGER, about), about, to_wire(entry, source=source))
        key = account.encode()
        appended_at = self._writes.write(
            self._at(consent_of(self._lane), key), key, to_wire(decision, source=source)
        )
        if decision.is_void(appended_at):
            raise Unavailable("the grant came too late to count; make it again")
        grant = decision.grant(self._lane) if made is Decision.GRANTED else None
        return Recorded(made, grant, appended_at, written=True)

    def _at(self, topic: str, key: bytes) -> Partition:
        return Partition(topic, partition_of(key, self.reader.partitions[topic]))
