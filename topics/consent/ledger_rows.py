"""Rows: what the eraser keeps of a record of a ledger, or of confirmed erasures.  Pure.

A record has one row or none, which begins with its kind, and follows from it alone:

====  ===================================  ====================================================
kind  record                               then
====  ===================================  ====================================================
D     decision, in its place               id 16, appended 8, kind 1, key of the account's entries
M     grant is marked, in `erasures.L`     grant 16, and the entry, packed
G     grant is deleted (unreachable)       grant 16, and the entry, packed
U     grant is unrecoverable               grant 16
====  ===================================  ====================================================

Packed entries have no names of fields: 130 bytes in place of 2,000 as an event.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from uuid import UUID

from erasestream.schemas.codec.cloudevents import one_from_wire
from erasestream.schemas.errors import InvalidEvent
from erasestream.schemas.events.ledger import (
    DecisionEntry,
    ErasureEntry,
    GrantErased,
    KeyState,
)
from erasestream.schemas.ids import AccountId, GrantId, Lane, UploadId
from erasestream.topics.catalog.topic_names import erasures_of, ledger_of
from erasestream.topics.consent.decision_rows import pack_decision
from erasestream.topics.consent.ledger_place import belongs, ledger_key
from erasestream.topics.kafka.records import Record

ROW_LENGTH_BYTES = 4
MAX_ROW_BYTES = 4_400
"""A deleted grant's: 150 bytes, the account's 64, and `MAX_MASTERS` names of 256."""

KeyOf = Callable[[bytes], bytes]
"""Returns under which key an account's decisions are kept, given the key of its entries."""

GRANT = slice(1, 17)
REST = slice(17, None)
_MARKED = struct.Struct(">16s16sQQ")
_DELETED = struct.Struct(">16s16sQQQQ32sB")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)
_EVENTS: tuple[type[DecisionEntry | ErasureEntry | GrantErased], ...] = (
    DecisionEntry,
    ErasureEntry,
    GrantErased,
)


class RowKind(IntEnum):
    """First byte of a row."""

    DECISION = ord("D")
    MARKED = ord("M")
    DELETED = ord("G")
    UNRECOVERABLE = ord("U")


def row_of(record: Record, partitions: Mapping[str, int], key_of: KeyOf = lambda key: key) -> bytes:
    """Return the row of a record; empty if it has none, or is not where it belongs.

    `partitions`: the partition counts by topic.
    """
    try:
        entry = one_from_wire(_EVENTS, record.headers, record.value)
    except InvalidEvent:
        return b""
    topic = (ledger_of if isinstance(entry, DecisionEntry) else erasures_of)(entry.lane)
    if topic not in partitions or not belongs(record, topic, entry.account, partitions):
        return b""
    match entry:
        case DecisionEntry():
            key = key_of(ledger_key(entry.lane, entry.account))
            row = bytes([RowKind.DECISION]) + pack_decision(entry, record.appended_ms) + key
        case ErasureEntry():
            row = _head(RowKind.MARKED, entry.grant) + _pack_marked(entry)
        case GrantErased() if entry.state is KeyState.UNREACHABLE:
            row = _head(RowKind.DELETED, entry.grant) + _pack_deleted(entry)
        case GrantErased():
            row = _head(RowKind.UNRECOVERABLE, entry.grant)
    return row


def marked(grant: bytes, lane: Lane, packed: bytes) -> ErasureEntry:
    """Return the entry of a marked grant."""
    id_, decision, recorded, time = _MARKED.unpack_from(packed)
    return ErasureEntry(
        id=UploadId(_text(id_)),
        time=_time(time),
        lane=lane,
        account=AccountId(packed[_MARKED.size :].decode()),
        grant=GrantId(_text(grant)),
        decision=_text(decision) if any(decision) else None,
        recorded=_time(recorded) if recorded else None,
    )


def deleted(grant: bytes, lane: Lane, packed: bytes) -> GrantErased:
    """Return the entry of a deleted grant."""
    id_, decision, time, recorded, confirmed, objects, root, length = _DELETED.unpack_from(packed)
    begin = _DELETED.size
    return GrantErased(
        id=UploadId(_text(id_)),
        time=_time(time),
        lane=lane,
        account=AccountId(packed[begin : begin + length].decode()),
        grant=GrantId(_text(grant)),
        decision=_text(decision),
        recorded=_time(recorded),
        confirmed=_time(confirmed),
        objects=objects,
        objects_root=root.hex(),
        keys=masters(packed),
        state=KeyState.UNREACHABLE,
    )


def masters(packed: bytes) -> tuple[str, ...]:
    """Return the versions of the master key that a deleted grant's entry names."""
    *_, length = _DELETED.unpack_from(packed)
    keys = packed[_DELETED.size + length :].decode()
    return tuple(keys.split("\n")) if keys else ()


def pack_rows(rows: list[bytes]) -> bytes:
    """Return rows one after the other, each after its length."""
    return b"".join(len(row).to_bytes(ROW_LENGTH_BYTES, "big") + row for row in rows)


def split_rows(packed: bytes) -> Iterator[bytes]:
    """Yield what `pack_rows` was given."""
    at = 0
    while at < len(packed):
        begin = at + ROW_LENGTH_BYTES
        end = begin + int.from_bytes(packed[at:begin], "big")
        yield packed[begin:end]
        at = end


def _head(kind: RowKind, grant: GrantId) -> bytes:
    return bytes([kind]) + UUID(grant).bytes


def _pack_marked(entry: ErasureEntry) -> bytes:
    decision = UUID(entry.decision).bytes if entry.decision else bytes(16)
    recorded = _us(entry.recorded) if entry.recorded else 0
    packed = _MARKED.pack(UUID(entry.id).bytes, decision, recorded, _us(entry.time))
    return packed + entry.account.encode()


def _pack_deleted(entry: GrantErased) -> bytes:
    account = entry.account.encode()
    packed = _DELETED.pack(
        UUID(entry.id).bytes,
        UUID(entry.decision).bytes,
        *map(_us, (entry.time, entry.recorded, entry.confirmed)),
        entry.objects,
        bytes.fromhex(entry.objects_root),
        len(account),
    )
    return packed + account + "\n".join(entry.keys).encode()


def _text(raw: bytes) -> str:
    return str(UUID(bytes=raw))


def _us(time: datetime) -> int:
    return (time - _EPOCH) // _US


def _time(us: int) -> datetime:
    return _EPOCH + us * _US
