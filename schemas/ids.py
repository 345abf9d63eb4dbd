"""Identifiers: their forms, and the derivation of derived ones.

No clock and no randomness: callers pass both.
"""

import hashlib
import hmac
import re
from datetime import datetime
from typing import Annotated, NewType, TypeGuard

from pydantic import StringConstraints

Lane = NewType("Lane", str)
AccountId = NewType("AccountId", str)
UploadId = NewType("UploadId", str)
GrantId = NewType("GrantId", str)

LANE_PATTERN = r"^[a-z][a-z0-9-]{0,31}$"
LANE_RULE = "a lane's name begins with a letter, and has 1 to 32 of a-z, 0-9 and -"
"""For a person."""
ACCOUNT_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
UUID_PATTERN = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"

UPLOAD_ID_PATTERN = r"^[^\x00-\x1f\x7f-\x9f]{1,255}$"
"""As CloudEvents: any text without control characters; here of bounded length."""

LaneField = Annotated[Lane, StringConstraints(pattern=LANE_PATTERN)]
AccountField = Annotated[AccountId, StringConstraints(pattern=ACCOUNT_PATTERN)]
UploadIdField = Annotated[UploadId, StringConstraints(pattern=UPLOAD_ID_PATTERN)]
GrantIdField = Annotated[GrantId, StringConstraints(pattern=UUID_PATTERN)]

INVALID_ACCOUNT = AccountId("_invalid")
"""Reserved account of the failed results of uploads without a usable account."""


def is_lane(text: object) -> TypeGuard[Lane]:
    """Return whether this is text with the form of a lane's name."""
    return isinstance(text, str) and re.fullmatch(LANE_PATTERN, text) is not None


def is_account(text: object) -> TypeGuard[AccountId]:
    """Return whether this is text, a well-formed account id, and not the reserved one."""
    if not isinstance(text, str) or text == INVALID_ACCOUNT:
        return False
    return re.fullmatch(ACCOUNT_PATTERN, text) is not None


def is_uuid(text: str) -> bool:
    """Return whether the text is a UUID in canonical form (lower case, hyphens)."""
    return re.fullmatch(UUID_PATTERN, text) is not None


def is_upload_id(text: str) -> bool:
    """Return whether the text can be the id of an upload."""
    return re.fullmatch(UPLOAD_ID_PATTERN, text) is not None


def derived_uuid(digest: bytes) -> str:
    """Return a UUIDv8 (RFC 9562, 5.8) of the first 16 bytes of a digest."""
    return _uuid(digest[:16], 8)


def _uuid(raw: bytes, version: int) -> str:
    value = int.from_bytes(raw, "big")
    value &= ~(0xF << 76 | 0x3 << 62)
    text = f"{value | version << 76 | 0x2 << 62:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def new_upload_id(now_ms: int, random: bytes) -> UploadId:
    """Return a UUIDv7 (RFC 9562, 5.7) of the time in milliseconds and ten random bytes."""
    return UploadId(_uuid(now_ms.to_bytes(6, "big") + random[:10], 7))


def new_event_id(now: datetime, random: bytes) -> UploadId:
    """Return the UUIDv7 of an event of this time, and ten random bytes."""
    return new_upload_id(int(now.timestamp() * 1000), random)


def idempotent_upload_id(lane: Lane, account: AccountId, key: str, time_ms: int | None) -> UploadId:
    """Return the id of an upload that is the same on every retry: a UUIDv8 (RFC 9562, 5.8).

    122 bits of HMAC-SHA-256 over lane and account, keyed with the hash of the caller's idempotency
    key; with a time, 48 bits of it and 74 of these.  The same arguments always give the same id.
    """
    # Hashed first: HMAC pads short keys with zeros, so "k" and "k\0" would be one key.
    hashed = hashlib.sha256(key.encode()).digest()
    digest = hmac.digest(hashed, f"{lane}\0{account}".encode(), hashlib.sha256)
    first = digest[10:16] if time_ms is None else time_ms.to_bytes(6, "big")
    return UploadId(_uuid(first + digest[:10], 8))


def upload_id_of_position(topic_id: str, partition: int, offset: int) -> UploadId:
    """Return the id of an upload without a usable one: the same on every replay."""
    digest = hashlib.sha256(f"position\0{topic_id}\0{partition}\0{offset}".encode()).digest()
    return UploadId(derived_uuid(digest))


def image_key(lane: Lane, account: AccountId, upload_id: UploadId) -> str:
    """Return the name of an upload that shows neither account nor id: a UUIDv8 of both."""
    digest = hashlib.sha256(f"image\0{lane}\0{account}\0{upload_id}".encode()).digest()
    return derived_uuid(digest)


def owner_key(lane: Lane, account: AccountId) -> str:
    """Return the name of an account that does not show its id: a UUIDv8 of lane and account."""
    return derived_uuid(hashlib.sha256(f"owner\0{lane}\0{account}".encode()).digest())


def grant_id(lane: Lane, account: AccountId, decision_id: str) -> GrantId:
    """Return the id of the grant that a decision makes: a UUIDv8 of lane, account and decision.

    Derived and never transmitted, so that no lane can claim another lane's grant.
    """
    digest = hashlib.sha256(f"grant\0{lane}\0{account}\0{decision_id}".encode()).digest()
    return GrantId(derived_uuid(digest))
