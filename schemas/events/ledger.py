"""What the ledger holds: every decision, every erasure, every finding, every repair.

The ledger is append-only and kept.  It names accounts by lane and opaque id, since it is
the proof of their decisions, and never holds an image.
"""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import StringConstraints

from erasestream.schemas.events.base import Event, Text
from erasestream.schemas.events.consent import Channel, Decision
from erasestream.schemas.ids import AccountField, GrantIdField, LaneField


class DecisionEntry(Event):
    """A decision, as the ledger keeps it; `id` is that of the decision."""

    type: ClassVar[str] = "com.backgrounderase.ledger.decision.v1"
    body: ClassVar[frozenset[str] | None] = frozenset({"decision", "actor", "channel"})

    lane: LaneField
    account: AccountField
    decision: Decision
    actor: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]
    channel: Channel


class ErasureEntry(Event):
    """The marker of this grant stands in the vault: nothing is kept under it any more."""

    type: ClassVar[str] = "com.backgrounderase.ledger.erasure.v1"
    body: ClassVar[frozenset[str] | None] = frozenset({"grant"})

    lane: LaneField
    account: AccountField
    grant: GrantIdField


class FindingKind(StrEnum):
    """What can be found to be wrong without stopping the pipeline."""

    CONSENT_IN_WRONG_PARTITION = "consent_in_wrong_partition"
    CONSENT_UNREADABLE = "consent_unreadable"
    CONSENT_NOT_IN_LEDGER = "consent_not_in_ledger"
    UPLOADS_PURGED_UNPROCESSED = "uploads_purged_unprocessed"
    RESULTS_PURGED_UNROUTED = "results_purged_unrouted"


class Finding(Event):
    """Something was wrong, and what was done about it."""

    type: ClassVar[str] = "com.backgrounderase.ledger.finding.v1"
    body: ClassVar[frozenset[str] | None] = frozenset({"kind", "detail"})

    kind: FindingKind
    detail: Text


class Repair(Event):
    """A person mended something by an explicit command."""

    type: ClassVar[str] = "com.backgrounderase.ledger.repair.v1"
    body: ClassVar[frozenset[str] | None] = frozenset({"command", "detail", "actor"})

    command: Text
    detail: Text
    actor: Text
