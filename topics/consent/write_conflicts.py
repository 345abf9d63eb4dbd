"""Decisions of one account that two writers make at once: one order, or the safe outcome.

A decision has two records, its ledger entry and then its state.  The last state decides what
is in force; the eraser judges by the ledger what a revocation ends.  Two writers can append
their states in the other order than their entries, and then the two disagree.

The rule that mends it, for every decision: *before* the ledger entry is written one notes how
far the account's consent partition reaches; *after* the state is acknowledged one reads what
lies between there and the state.  Whoever's entry is older and whose state is newer finds the
other's state in between, since that was written after the other's entry.  It follows:

* a revocation that finds a grant there is made again: then its entry is behind the grant's;
* a grant that finds a revocation there is revoked, and was none.

A mark that is too old (a leader that was deposed) only makes the stretch longer.  A pair that
had the same order in both may be found as well; then the revocation wins, as it may.
"""

from collections.abc import Iterable

from erasestream.schemas.codec.cloudevents import from_wire
from erasestream.schemas.errors import InvalidEvent
from erasestream.schemas.events.consent import ConsentDecision, Decision
from erasestream.schemas.ids import AccountId
from erasestream.topics.kafka.records import Record


def has_rival(made: Decision, account: AccountId, between: Iterable[Record]) -> bool:
    """Whether somebody decided otherwise for the account in these records of a consent topic."""
    return any(_decided(each) is not made for each in between if each.key == account.encode())


def _decided(record: Record) -> Decision:
    """What a record decides; one that can not be read is a refusal."""
    try:
        return from_wire(ConsentDecision, record.headers, record.value).decision
    except InvalidEvent:
        return Decision.REVOKED
