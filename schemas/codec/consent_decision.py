"""Fast decoder of consent decisions.

A view reads all decisions of its lanes when it starts; for a million of them the pydantic model
would take most of the time.

* A record in the canonical form, exactly as `to_wire` writes it, is matched by patterns.  They are
  narrower than the model: the model accepts every match and decodes it equally.
* The model decodes every other record, and it alone refuses records.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from erasestream.schemas.codec.cloudevents import JSON, from_wire
from erasestream.schemas.events.base import utc
from erasestream.schemas.events.consent import Channel, ConsentDecision, Decision, is_void

_NAMES = (
    *("ce_specversion", "ce_type", "ce_source", "ce_id", "ce_time", "ce_account"),
    "content-type",
)
_new = tuple.__new__
_FIXED = (b"1.0", ConsentDecision.type.encode(), JSON.encode())
"""Values of the first two headers, and of the last."""
_IDENTITY = re.compile(
    rb"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"
    rb"\n([0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}(?:\.[0-9]{6})?Z)"
    rb"\n([A-Za-z0-9_-]{1,64})"
)
"""The values of three headers, one per line; none contains a line feed."""
_SOURCE = re.compile(rb"[!-~]{1,255}")
_BODY = re.compile(
    rb'\{"decision":"(granted|revoked)"'
    rb',"actor":"[A-Za-z0-9_.:-]{1,64}"'
    rb',"channel":"(' + "|".join(Channel).encode() + rb')"'
    rb'(?:,"notice":"[a-z0-9.-]{1,32}/[0-9a-f]{64}")?\}'
)
_MAX_CACHED_BYTES = 255
"""Longest value that a cache keeps: a lane can write others, as large as a record."""
_CLEARLY_S = 4.0
"""A grant that was appended so soon after its creation is in time, with any rounding."""
_DECISIONS = {decision.encode(): decision for decision in Decision}
_CHANNELS = {channel.encode(): channel for channel in Channel}


class ParsedDecision(NamedTuple):
    """The fields of a decision that a view needs."""

    account: bytes
    id: str
    made_at: datetime
    decision: Decision
    channel: Channel

    @property
    def is_operators_grant(self) -> bool:
        """Whether this is a grant by an operator, which counts in a development stack only."""
        return self.channel is Channel.OPERATOR and self.decision is Decision.GRANTED

    def is_void(self, appended_ms: int) -> bool:
        """Return whether this is a grant that was appended too late (or too early) to count."""
        if abs(self.made_at.timestamp() - appended_ms / 1000) < _CLEARLY_S:
            return False  # the exact comparison takes four times as long
        return is_void(self.decision, made_at=self.made_at, appended_at=utc(appended_ms))


def read_decision(headers: Sequence[tuple[str, bytes]], value: bytes) -> ParsedDecision:
    """Decode a decision.  Raises `InvalidEvent` exactly where `from_wire` does."""
    return parse_canonical(headers, value) or _parse_with_model(headers, value)


def parse_canonical(headers: Sequence[tuple[str, bytes]], value: bytes) -> ParsedDecision | None:
    """Decode a record in the canonical form; return None for any other."""
    if len(headers) != len(_NAMES):
        return None
    # Unpacked in one go: with `zip` it takes three times as long.
    (n0, version), (n1, kind), (n2, source), (n3, id_), (n4, time), (n5, account), (n6, form) = (
        headers
    )
    if (n0, n1, n2, n3, n4, n5, n6) != _NAMES or (version, kind, form) != _FIXED:
        return None
    if len(source) > _MAX_CACHED_BYTES or len(value) > _MAX_CACHED_BYTES:
        return None
    found, decided = _IDENTITY.fullmatch(b"\n".join((id_, time, account))), _decided(value)
    if found is None or decided is None or not _is_source(source):
        return None
    try:
        made_at = datetime.fromisoformat(time.decode())
    except ValueError:  # 30 February, for example
        return None
    decision, channel = decided
    # The generated constructor takes three times as long.
    return _new(ParsedDecision, (account, id_.decode(), made_at, decision, channel))


# Sources and values are few, and mostly repeat.


@lru_cache(maxsize=1024)
def _is_source(source: bytes) -> bool:
    return _SOURCE.fullmatch(source) is not None


@lru_cache(maxsize=1024)
def _decided(value: bytes) -> tuple[Decision, Channel] | None:
    found = _BODY.fullmatch(value)
    return found and (_DECISIONS[found[1]], _CHANNELS[found[2]])


def _parse_with_model(headers: Sequence[tuple[str, bytes]], value: bytes) -> ParsedDecision:
    event = from_wire(ConsentDecision, headers, value)
    return ParsedDecision(
        event.account.encode(), event.id, event.time, event.decision, event.channel
    )
