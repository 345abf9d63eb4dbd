"""API keys: who may call the gateway of a lane, for which account.

The compacted topic `credentials.L` holds the last state of every key, under the key's id.  No
record holds what a caller presents, only its digest.  A closed account has one record more.
"""

from datetime import date
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import AwareDatetime, Field, StringConstraints

from erasestream.schemas.events.base import Sha256, TimedEvent
from erasestream.schemas.ids import AccountField

MAX_LABEL = 64
KEY_ID_PATTERN = r"^[0-9a-z]{12}$"

KeyId = Annotated[str, StringConstraints(pattern=KEY_ID_PATTERN)]


class CredentialKind(StrEnum):
    """Purpose of a key."""

    IMAGE = "image"
    """Sends images and fetches cut-outs, and nothing else."""
    OWNER = "owner"
    """Signs the account's owner in."""


class CredentialSet(TimedEvent):
    """State of one API key of an account.  Its lane is that of its topic."""

    type: ClassVar[str] = "com.backgrounderase.credential.set.v1"
    body: ClassVar[frozenset[str] | None] = frozenset(
        {"key_id", "kind", "token_sha256", "label", "created_at", "expires_at", "revoked_at"}
    )

    account: AccountField
    key_id: KeyId
    kind: CredentialKind
    token_sha256: Annotated[Sha256, Field(repr=False)]
    """Digest of the whole text that a caller presents: 192 random bits need no slow hash."""
    label: Annotated[str, StringConstraints(max_length=MAX_LABEL)] = ""
    """The owner's own name for it."""
    created_at: AwareDatetime
    expires_at: AwareDatetime | None = None
    revoked_at: AwareDatetime | None = None


class CredentialsClosed(TimedEvent):
    """The owner has closed the account: none of its keys is valid any more, old or new."""

    type: ClassVar[str] = "com.backgrounderase.credential.closed.v1"
    body: ClassVar[frozenset[str] | None] = frozenset({"closed_at"})

    account: AccountField
    closed_at: AwareDatetime


class CredentialUsed(TimedEvent):
    """Day on which a key was last used, by UTC."""

    type: ClassVar[str] = "com.backgrounderase.credential.used.v1"
    body: ClassVar[frozenset[str] | None] = frozenset({"key_id", "day"})

    key_id: KeyId
    day: date
