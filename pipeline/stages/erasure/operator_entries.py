"""The ledger entry of an operator's revocation, which the eraser writes in the operator's place.

Operators cannot write a ledger: their revocations are in `revocations.L` alone.  The entry keeps
the history complete.  Acknowledged, it also proves how far the ledger has to be read until every
grant before the revocation is known (`missing_entries.py`).
"""

from dataclasses import dataclass, field
from datetime import datetime

from erasestream.pipeline.stages.erasure.ended_grants import DecisionRecord
from erasestream.pipeline.stages.erasure.missing_entries import Report
from erasestream.schemas.codec.cloudevents import Wire, to_wire
from erasestream.schemas.events.consent import Channel, Decision
from erasestream.schemas.events.ledger import DecisionEntry
from erasestream.topics.consent.ledger_place import ledger_key


@dataclass
class OperatorEntry(Report):
    """An entry to write; `offset` is None until it is acknowledged."""

    decision: DecisionRecord = field(kw_only=True)

    def record(self, now: datetime) -> tuple[bytes, Wire]:
        """Return its key and content."""
        lane, account = self.decision.lane, self.decision.account
        entry = DecisionEntry(
            id=self.decision.id,
            time=now,
            lane=lane,
            account=account,
            decision=Decision.REVOKED,
            actor=self.decision.actor,
            channel=Channel.OPERATOR,
        )
        return ledger_key(lane, account), to_wire(entry, source="/eraser")
