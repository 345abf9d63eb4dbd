"""Fast decoder of the index.

A gateway reads a million entries when it starts; the pydantic models would take most of the time.
Only the router and the gateways can write them, as the models do; what is not readable is skipped.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from erasestream.schemas.events.image_index import ImageMarked, ImageState, ResultIndexed
from erasestream.topics.kafka.records import Record

REFERENCE_BYTES = 16


class IndexedResult(NamedTuple):
    """Where a result is.  `key` and `owner` as in the event, 16 bytes each."""

    key: bytes
    owner: bytes
    partition: int
    offset: int
    uploaded_ms: int
    code: str | None
    is_retained: bool
    reference: bytes
    """The beginning of the digest of the upload's reference; empty if it has none."""


class Mark(NamedTuple):
    """A gateway's mark on an image."""

    key: bytes
    state: ImageState
    at_ms: int
    is_retained: bool


_RESULT, _MARK = ResultIndexed.type.encode(), ImageMarked.type.encode()


def read_record(record: Record) -> IndexedResult | Mark | None:
    """Return the content of a record; None if it is not readable."""
    headers = dict(reversed(record.headers))
    kind = headers.get("ce_type")
    try:
        body = json.loads(record.value)
        key = _key(headers["ce_id"].decode())
        if kind == _RESULT:
            return _result(record, key, body)
        if kind == _MARK:
            state, is_retained = ImageState(body["state"]), bool(body.get("retained"))
            return Mark(key, state, record.appended_ms, is_retained)
    except (ValueError, LookupError, TypeError, AttributeError):
        pass
    return None


def _result(record: Record, key: bytes, body: Mapping[str, Any]) -> IndexedResult:
    fields = (
        key,
        _key(body["owner"]),
        record[0][1],
        int(body["offset"]),
        int(datetime.fromisoformat(body["uploaded_at"]).timestamp() * 1000),
        body.get("code"),
        bool(body.get("retained")),
        bytes.fromhex(body.get("reference_sha256", ""))[:REFERENCE_BYTES],
    )
    # The generated constructor takes three times as long.
    return tuple.__new__(IndexedResult, fields)


def _key(text: str) -> bytes:
    return bytes.fromhex(text.replace("-", ""))
