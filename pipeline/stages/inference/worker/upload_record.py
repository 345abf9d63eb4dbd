"""An upload as it was read from Kafka."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from erasestream.schemas.errors import Code, InvariantBroken
from erasestream.schemas.events.base import Position
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.topic_names import lane_of

_LOG_APPEND_TIME = 1


class UploadRecord(NamedTuple):
    """The record of an upload, with its position."""

    lane: Lane
    position: Position
    appended_ms: int
    headers: list[tuple[str, bytes]]
    value: bytes
    refusal: Code | None = None
    """The code of the failed result, if the record itself is malformed."""


def upload_record(message: Any, topic_ids: Mapping[str, str]) -> UploadRecord:
    """Convert a message of Faust.  Raises `InvariantBroken` unless the broker stamped it."""
    if message.timestamp_type != _LOG_APPEND_TIME:
        raise InvariantBroken(f"{message.topic} does not stamp with the broker's clock")
    return UploadRecord(
        lane=lane_of(message.topic),
        position=Position(
            topic_id=topic_ids[message.topic],
            partition=message.partition,
            offset=message.offset,
        ),
        appended_ms=round(message.timestamp * 1000),
        headers=[(name, value or b"") for name, value in message.headers or ()],
        value=message.value or b"",
        refusal=message.checksum,  # see `record_parser.Record`
    )
