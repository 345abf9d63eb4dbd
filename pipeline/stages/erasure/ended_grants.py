"""Determine which grants a decision ends.  Pure.

Ending is final; to refuse a grant, which the router does as long as the last record of its account
is no grant in force, is not.  So only a revocation ends grants, in its own lane and account, and
nothing ends any because of something that was not read:

====================  ==================  =======================================================
record in `consent.L`  in `ledger.L`      ends, if not erased yet
====================  ==================  =======================================================
revocation            has an entry        all grants listed before it
revocation            proven to have none all grants listed until its record was appended
grant                 has an entry        nothing by itself; see below
grant                 proven to have none itself: no later revocation would find it
grant that is void    either              nothing by itself: it was never in force
unreadable            cannot be known     nothing by itself: it may be anything
of no account         none                nothing: it makes no grant, and names none
====================  ==================  =======================================================

A record in `revocations.L`, where only operators write, is a revocation whatever it holds.  It ends
all grants listed until it was appended, once its own entry, which the eraser writes, is read back
(`operator_entries.py`).

* The topic proves the lane, and its account service can write any record there; the ids of its
  grants derive from lane and account (`ids.grant_id`), so that no record ends another lane's.
* A record that follows a revocation may have replaced it before it was read.  So each ends the
  grants before the last revocation that the ledger lists before the record, too.
* A revocation that closes its account ends the grants after it as well, each once its own record
  is read.  The ledger keeps it, whatever is compacted, so that a closed account stays off.
* A record in the wrong partition ends the same as in its own; the router refuses its account.
* *Proven* means that the ledger was read past a record written after the decision was read
  (`missing_entries.py`); until then a decision without an entry ends nothing, and waits.
"""

from enum import Enum, auto
from typing import NamedTuple

from erasestream.schemas.codec.cloudevents import from_wire
from erasestream.schemas.codec.consent_decision import read_decision
from erasestream.schemas.errors import InvalidEvent
from erasestream.schemas.events.consent import (
    MAX_CLOCK_SKEW,
    UNKNOWN_ACTOR,
    ConsentDecision,
    Decision,
)
from erasestream.schemas.ids import (
    AccountId,
    GrantId,
    Lane,
    grant_id,
    is_account,
    upload_id_of_position,
)
from erasestream.topics.catalog.topic_names import lane_of, revocations_of
from erasestream.topics.consent.ledger_view import GrantHistory
from erasestream.topics.kafka.records import Record

MAX_CLOCK_SKEW_MS = int(MAX_CLOCK_SKEW.total_seconds() * 1000)


class EndedGrant(NamedTuple):
    """A grant that is no longer in force."""

    lane: Lane
    account: AccountId
    grant: GrantId


class Cause(NamedTuple):
    """The decision because of which grants end, and when the brokers had it."""

    decision: str
    appended_ms: int


class Content(Enum):
    """Effect of a record on its account."""

    GRANT = auto()
    REVOCATION = auto()
    REVOCATION_BY_OPERATOR = auto()
    NEITHER = auto()
    """Void or unreadable: it refuses."""


class DecisionRecord(NamedTuple):
    """A record in `consent.L` or `revocations.L`, without its bytes: decisions wait in memory."""

    lane: Lane
    account: AccountId
    appended_ms: int
    content: Content
    id: str = ""
    """The id of the decision; empty if it is neither."""
    actor: str = ""
    """The operator who revoked; empty for decisions of owners."""

    @classmethod
    def of(cls, record: Record) -> "DecisionRecord | None":
        """Return the decision of a record; None if it is of no account, such as a heartbeat."""
        account = (record.key or b"").decode(errors="replace")
        if not is_account(account):
            return None
        lane, owner = lane_of(record.at.topic), AccountId(account)
        if record.at.topic == revocations_of(lane):
            return cls._of_operator(record, lane, owner)
        neither = cls(lane, owner, record.appended_ms, Content.NEITHER)
        try:
            decision = read_decision(record.headers, record.value)
        except InvalidEvent:
            return neither
        if decision.account != record.key or decision.is_void(record.appended_ms):
            return neither
        grants = decision.decision is Decision.GRANTED
        content = Content.GRANT if grants else Content.REVOCATION
        return neither._replace(content=content, id=decision.id)

    @classmethod
    def _of_operator(cls, record: Record, lane: Lane, account: AccountId) -> "DecisionRecord":
        try:
            revocation = from_wire(ConsentDecision, record.headers, record.value)
            id_, actor = revocation.id, revocation.actor
        except InvalidEvent:
            id_ = upload_id_of_position(record.at.topic, record.at.number, record.offset)
            actor = UNKNOWN_ACTOR
        content = Content.REVOCATION_BY_OPERATOR
        return cls(lane, account, record.appended_ms, content, id_, actor)


def ended_grants(
    history: GrantHistory, decision: DecisionRecord, *, most: int, is_unlisted: bool
) -> list[EndedGrant] | None:
    """Return the first `most` unerased grants that a decision ends; None if that is not known.

    `is_unlisted`: the ledger is proven to have no entry of the decision; of an operator's, none
    but the eraser's.
    """
    grants = _grants(history, decision, most=most, is_unlisted=is_unlisted)
    if grants is None:
        return None
    return [EndedGrant(decision.lane, decision.account, grant) for grant in grants]


def _grants(
    history: GrantHistory, decision: DecisionRecord, *, most: int, is_unlisted: bool
) -> list[GrantId] | None:
    lane, account, appended_ms, content, decision_id, _ = decision
    # Two brokers' clocks stamped the record and the entries.
    until_ms = appended_ms + MAX_CLOCK_SKEW_MS
    if content is Content.NEITHER:
        return history.revoked_until(lane, account, until_ms, most=most)
    is_by_operator = content is Content.REVOCATION_BY_OPERATOR
    if not is_by_operator and history.has(lane, account, decision_id):
        ended_by = (
            history.ended_by_grant if content is Content.GRANT else history.ended_by_revocation
        )
        return ended_by(lane, account, decision_id, most=most)
    if not is_unlisted:
        return None
    if content is not Content.GRANT:
        return history.appended_until(lane, account, until_ms, most=most)
    revoked = history.revoked_until(lane, account, until_ms, most=most)
    own = grant_id(lane, account, decision_id)
    return revoked if history.is_erased(own) else [own, *revoked][:most]


def cause(history: GrantHistory, decision: DecisionRecord) -> Cause:
    """Return because of which decision grants end that `ended_grants` has returned.

    A record that only shows that a revocation was replaced is not that decision: the last
    revocation is that the ledger lists before it.
    """
    lane, account, appended_ms, content, id_, _ = decision
    own = Cause(id_, appended_ms)
    if content in {Content.REVOCATION, Content.REVOCATION_BY_OPERATOR}:
        return own
    if content is Content.GRANT and not history.has(lane, account, id_):
        return own
    until_ms = appended_ms + MAX_CLOCK_SKEW_MS
    found = history.last_revocation(lane, account, before=id_, until_ms=until_ms)
    return Cause(*found) if found else own
