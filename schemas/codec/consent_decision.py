"""Decisions read quickly: the form that our writers give them, and every other by the model.

A view reads all decisions of its lanes when it starts, and for a million of them the model
would be most of the wait.

* A record in exactly the form that `to_wire` writes is taken apart by one pattern.  It is
  narrower than the model: whatever it takes the model takes, and makes the same of it.
* Any other record is left to the model, which alone refuses.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from erasestream.schemas.codec.cloudevents import JSON, from_wire
from erasestream.schemas.events.consent import Channel, ConsentDecision, Decision, is_void

_NAMES = (
    *("ce_specversion", "ce_type", "ce_source", "ce_id", "ce_time", "ce_account"),
    "content-type",
)
_FORM = re.compile(
    rb"1\.0\n" + re.escape(ConsentDecision.type.encode()) + rb"\n[!-~]{1,255}"
    rb"\n([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"
    rb"\n([0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}(?:\.[0-9]{6})?Z)"
    rb"\n([A-Za-z0-9_-]{1,64})"
    rb"\n" + re.escape(JSON.encode()) + rb'\n\{"decision":"(granted|revoked)"'
    rb',"actor":"[A-Za-z0-9_.:-]{1,64}"'
    rb',"channel":"(?:' + "|".join(Channel).encode() + rb')"\}'
)
"""The headers' values and the record's, one a line; no part of it has a line's end in it."""
_DECISIONS = {decision.encode(): decision for decision in Decision}


class ParsedDecision(NamedTuple):
    """What a view needs of a decision."""

    account: bytes
    id: str
    made_at: datetime
    decision: Decision

    def is_void(self, appended_at: datetime) -> bool:
        """Whether this is a grant that the broker appended too late (or too early) to count."""
        return is_void(self.decision, made_at=self.made_at, appended_at=appended_at)


def read_decision(headers: Sequence[tuple[str, bytes]], value: bytes) -> ParsedDecision:
    """The decision in a record.  Raises `InvalidEvent` exactly where `from_wire` does."""
    return in_our_form(headers, value) or _by_the_model(headers, value)


def in_our_form(headers: Sequence[tuple[str, bytes]], value: bytes) -> ParsedDecision | None:
    """The decision in a record of this form; None for any other record."""
    if len(headers) != len(_NAMES):
        return None
    names, values = zip(*headers, strict=True)
    if names != _NAMES:
        return None
    found = _FORM.fullmatch(b"\n".join((*values, value)))
    if found is None:
        return None
    id_, time, account, decision = found.groups()
    try:
        made_at = datetime.fromisoformat(time.decode())
    except ValueError:  # the 30th of February
        return None
    return ParsedDecision(account, id_.decode(), made_at, _DECISIONS[decision])


def _by_the_model(headers: Sequence[tuple[str, bytes]], value: bytes) -> ParsedDecision:
    event = from_wire(ConsentDecision, headers, value)
    return ParsedDecision(event.account.encode(), event.id, event.time, event.decision)
