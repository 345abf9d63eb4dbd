"""Conflict detection between concurrent writers of one account's decisions.

A decision has two records, its ledger entry and then its state.  The last state is in force; the
eraser determines from the ledger which grants a revocation ends.  Two concurrent writers can
append their states in another order than their entries, so that the two disagree.

Every decision therefore follows this rule: *before* writing the ledger entry, note the end offset
of the account's consent partition; *after* the state is acknowledged, read the records between
that offset and the state.  The writer whose entry is older and whose state is newer finds the
other's state in between, because that was written after the other's entry.  Then:

* a revocation that finds a grant is written again, so that its entry follows the grant's;
* a grant that finds a revocation is revoked, and reported as not granted.

An end offset that is too old (from a deposed leader) only lengthens the range.  A pair with the
same order in both topics may be detected as well; then the revocation wins, which is safe.
"""

from collections.abc import Iterable

from erasestream.schemas.codec.cloudevents import from_wire
from erasestream.schemas.errors import InvalidEvent
from erasestream.schemas.events.consent import ConsentDecision, Decision
from erasestream.schemas.ids import AccountId
from erasestream.topics.kafka.records import Record


def has_conflict(decision: Decision, account: AccountId, between: Iterable[Record]) -> bool:
    """Return whether one of these consent records decides otherwise for the account."""
    return any(_decision(each) is not decision for each in between if each.key == account.encode())


def _decision(record: Record) -> Decision:
    """Return the decision of a record; an unreadable one is a revocation."""
    try:
        return from_wire(ConsentDecision, record.headers, record.value).decision
    except InvalidEvent:
        return Decision.REVOKED
