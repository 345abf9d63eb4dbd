"""Requests to the key service and its answers: HTTP paths, JSON values.  Pure.

    GET /v1/public/<purpose>            200  {"keys": [{"epoch", "public", "ends_s"}, ...]}
    GET /v1/private/<purpose>/<epoch>   200  {"epoch", "private", "dies_s"}
                                        410  expired: the key is dead
                                        425  future: its epoch is ahead
                                        404  unknown: no such purpose, or never created
    both                                403  not this role; 503 unavailable

Keys are Base64 of 32 bytes; times are seconds since 1970.
"""

import re
from base64 import b64decode, b64encode
from enum import StrEnum
from typing import Annotated, NamedTuple, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
)

from erasestream.schemas.errors import Code, Unavailable

RAW_BYTES = 32


def _raw(value: object) -> bytes:
    raw = b64decode(value, validate=True) if isinstance(value, str) else value
    if not isinstance(raw, bytes) or len(raw) != RAW_BYTES:
        raise ValueError("not a key")
    return raw


RawKey = Annotated[
    bytes,
    BeforeValidator(_raw),
    PlainSerializer(lambda raw: b64encode(raw).decode(), return_type=str),
    Field(repr=False),
]


class KeyRequest(NamedTuple):
    """A request: without an epoch for public keys, with one for a private key."""

    purpose: str
    epoch: int | None = None

    @property
    def path(self) -> str:
        """The path of the request."""
        if self.epoch is None:
            return f"/v1/public/{self.purpose}"
        return f"/v1/private/{self.purpose}/{self.epoch}"

    @classmethod
    def parse(cls, path: str) -> Self | None:
        """Parse a path; None if it is no request."""
        if match := _PUBLIC.fullmatch(path):
            return cls(match[1])
        if match := _PRIVATE.fullmatch(path):
            return cls(match[1], int(match[2]))
        return None


_PUBLIC = re.compile(r"/v1/public/([a-z][a-z0-9.-]{0,63})")
_PRIVATE = re.compile(r"/v1/private/([a-z][a-z0-9.-]{0,63})/(0|[1-9][0-9]{0,17})")


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Parse the body of an answer.  Raises `Unavailable`: no key service wrote this."""
        try:
            return cls.model_validate_json(body)
        except ValidationError:
            raise Unavailable("a malformed answer", Code.KEYS_UNAVAILABLE) from None


class SealingKey(_Answer):
    """The public key of one epoch."""

    epoch: int
    public: RawKey
    ends_s: float
    """When the epoch ends."""


class SealingKeys(_Answer):
    """The public keys of this epoch and of the next."""

    keys: Annotated[tuple[SealingKey, ...], Field(min_length=1, max_length=8)]


class OpeningKey(_Answer):
    """The private key of one epoch."""

    epoch: int
    private: RawKey
    dies_s: float
    """When every holder drops it."""


class NoKey(StrEnum):
    """Answer instead of a private key.  Waiting changes only `FUTURE`."""

    EXPIRED = "expired"
    FUTURE = "future"
    UNKNOWN = "unknown"


STATUS = {NoKey.EXPIRED: 410, NoKey.FUTURE: 425, NoKey.UNKNOWN: 404}
