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
6. Closing an account is a revocation whose ledger entry has `closes`.  From then on a grant is
   refused before it is written, and revoked if the closing came meanwhile.  The eraser ends any
   other grant after it, such as that of a writer that was killed (`ended_grants.py`).

A revocation that `revoke` returned is *recorded*: every later routing decision honours it.  It is
*confirmed* once the vault holds the erasure markers of all the account's grants, which the eraser
reports in `erasures.L`, where only the eraser can write.  From then on no picture that was
retained under them is opened.
"""

import os
import time
from collections.abc import Callable
from contextlib import ExitStack, closing

from erasestream.schemas.clocks import Deadline, WallClock, utc_now
from erasestream.schemas.errors import AccountClosed, Refused, Unavailable
from erasestream.schemas.events.consent import GRANT_WINDOW, Channel, Decision
from erasestream.schemas.ids import AccountId, GrantId, Lane
from erasestream.topics.catalog.roles import OPERATOR
from erasestream.topics.consent.decision_records import DecisionRecords, RecordedDecision, Wish
from erasestream.topics.consent.reader import ConsentReader, validated
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter

__all__ = ["ConsentWriter", "RecordedDecision"]

WRITE_TIMEOUT_S = 2 * GRANT_WINDOW.total_seconds()
"""Timeout of a write.  A grant that was given up must never count.

With a clock that is ahead by the window (a larger error is detected before the state is written)
a grant counts until two windows after its creation.
"""
POLL_S = 0.2
"""Interval of the queries while waiting for a confirmation."""


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
        self._records = DecisionRecords(
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
        Raises `Refused` (before anything is written) if an operator may not grant, and
        `AccountClosed` if the owner has closed the account.

        For some seconds after a partition has changed its leader, the old leader may still return
        older records: `written=False` can name a grant that has been revoked since.
        """
        is_operator = self._is_operator or channel is Channel.OPERATOR
        if is_operator and not self.reader.has_operator_grants:
            raise Refused("operators may only revoke: an opt-in is the owner's own action")
        self._check(channel)
        owner = validated(account)
        self._refuse_if_closed(owner)
        active, begin = self.reader.lookup(owner)
        if active is not None:
            return RecordedDecision(
                Decision.GRANTED, active.grant, active.appended_at, written=False
            )
        if self.reader.is_ended_by_operator(owner, self._now()):
            raise Unavailable("an operator has just revoked; grant again in some seconds")
        wish = Wish(owner, Decision.GRANTED, actor, channel, notice)
        recorded, is_contested = self._records.decide(wish, begin)
        if is_contested:
            self.revoke(account, actor=actor, channel=channel)
            self._refuse_if_closed(owner)
            raise Unavailable("a revocation was made at the same time, and counts")
        return recorded

    def revoke(self, account: str, *, actor: str, channel: Channel) -> RecordedDecision:
        """Opt out: *recorded* when this returns.

        Raises `Unavailable` if the brokers did not acknowledge it in time: it may have been
        written or not; revoke again until this returns.
        """
        return self._revoke(Wish(validated(account), Decision.REVOKED, actor, channel))

    def close_account(self, account: str, *, actor: str, channel: Channel) -> RecordedDecision:
        """Opt out for good: as `revoke`, and no later grant of any writer counts.

        For owners alone: raises `Refused` as an operator.
        """
        if self._is_operator:
            raise Refused("operators may only revoke: an account is its owner's to close")
        return self._revoke(Wish(validated(account), Decision.REVOKED, actor, channel, closes=True))

    def _revoke(self, wish: Wish) -> RecordedDecision:
        self._check(wish.channel)
        if self._is_operator:
            return self._records.revoke_as_operator(wish.account, wish.actor)
        while True:
            recorded, is_contested = self._records.decide(wish, self.reader.end_mark(wish.account))
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

    def _refuse_if_closed(self, account: AccountId) -> None:
        if self.reader.is_closed(account):
            raise AccountClosed

    def _check(self, channel: Channel) -> None:
        """Raise `Refused` unless the certificate proves the channel."""
        if self._is_operator is not (channel is Channel.OPERATOR):
            raise Refused(
                "operators decide through the channel operator, and owners through others"
            )
