"""Evidence of a storm: what was sent, and what the brokers and the bucket hold.  Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.faults.binding_windows import NEVER, Account, WriterCall
from tests.faults.observer import Topics, records_of_kind

PARTS = ("original", "cutout")


class AcknowledgedUpload(NamedTuple):
    """An upload that the brokers acknowledged."""

    lane: str
    account: str
    appended_ms: int


@dataclass
class Evidence:
    """Everything that was sent and observed."""

    sent: Mapping[str, AcknowledgedUpload]
    """Acknowledged uploads by their id."""
    topics: Topics
    stored: Counter[tuple[str, str, str]]
    """Objects in the bucket, by upload, part and grant."""
    calls: Mapping[Account, Sequence[WriterCall]]
    """All calls of the consent writers."""
    missed: Mapping[str, int] = field(default_factory=dict)
    """Per topic, how often records were deleted before the observer read them."""

    def first_appended(self, kind: str) -> dict[str, int]:
        """Return when each upload first appeared in topics of a kind."""
        found: dict[str, int] = {}
        for _, record in records_of_kind(self.topics, kind):
            upload = record.attributes["ce_id"]
            found[upload] = min(record.appended_ms, found.get(upload, NEVER))
        return found
