"""A result whose key is dead."""

from dataclasses import dataclass
from datetime import datetime
from typing import Self

from erasestream.schemas.events.base import Position
from erasestream.schemas.events.images import Result
from erasestream.schemas.ids import AccountId, UploadId


@dataclass(frozen=True, kw_only=True)
class Expired:
    """A result that was not taken in time: the key of its upload's hour is destroyed.

    There is no cut-out any more, for anyone.  Upload the image again under another id.
    """

    id: UploadId
    time: datetime
    """When the result was made, by the worker's clock."""
    account: AccountId
    reference: str | None
    position: Position
    uploaded_at: datetime
    sentence: str = "The result was not taken before its key was destroyed: upload the image again."

    @classmethod
    def of(cls, result: Result) -> Self:
        """Return what is left of a result."""
        return cls(
            id=result.id,
            time=result.time,
            account=result.account,
            reference=result.reference,
            position=result.position,
            uploaded_at=result.uploaded_at,
        )
