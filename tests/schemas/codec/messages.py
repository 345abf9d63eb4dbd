"""Golden messages, and messages changed in one place."""

import base64
import json
from pathlib import Path

import pytest

from erasestream.schemas.codec.cloudevents import (
    from_wire,
)
from erasestream.schemas.errors import Code, InvalidEvent
from erasestream.schemas.events.base import Event

GOLDEN = Path(__file__).parent / "golden"
Pairs = list[tuple[str, bytes]]


def golden(event: type[Event]) -> tuple[Pairs, bytes]:
    """Return the message of this type as the first release wrote it."""
    message = json.loads((GOLDEN / f"{event.type}.json").read_text())
    headers = [(name, value.encode()) for name, value in message["headers"]]
    return headers, base64.b64decode(message["value"])


def with_header(headers: Pairs, name: str, value: bytes | None) -> Pairs:
    """Replace a header; None drops it."""
    kept = [(n, v) for n, v in headers if n != name]
    return kept if value is None else [*kept, (name, value)]


def refusal(event: type[Event], headers: Pairs, value: bytes) -> Code:
    """Return the code that the message is refused with."""
    with pytest.raises(InvalidEvent) as refused:
        from_wire(event, headers, value)
    return refused.value.code
