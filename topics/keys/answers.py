"""Requests to the key service and its answers: HTTP paths, JSON values.  Pure.

    GET /v1/public/<purpose>            200  {"keys": [{"epoch", "public", "ends_s"}, ...]}
    GET /v1/public/<purpose>/<epoch>    200  {"epoch", "key", "dies_s"}
    GET /v1/private/<purpose>/<epoch>   200  {"epoch", "key", "dies_s"}
    with an epoch                       410  expired: the key is dead
                                        425  future: its epoch is ahead
                                        404  unknown: no such purpose, or never created
    all                                 403  not this role; 503 unavailable

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


class KeyHalf(StrEnum):
    """Half of a pair: the first seals, the second opens."""

    PUBLIC = "public"
    PRIVATE = "private"


class KeyRequest(NamedTuple):
    """A request for one key; without an epoch, for the public keys of this one and the next."""

    half: KeyHalf
    purpose: str
    epoch: int | None = None

    @property
    def path(self) -> str:
        """The path of the request."""
        path = f"/v1/{self.half}/{self.purpose}"
        return path if self.epoch is None else f"{path}/{self.epoch}"

    @classmethod
    def parse(cls, path: str) -> Self | None:
        """Parse a path; None if it is no request."""
        match = _PATH.fullmatch(path)
        if match is None or (match[1] == KeyHalf.PRIVATE and match[3] is None):
            return None
        return cls(KeyHalf(match[1]), match[2], int(match[3]) if match[3] else None)


_PATH = re.compile(
    r"/v1/(public|private)/([a-z][a-z0-9.-]{0,63})(?:/(0|[1-9][0-9]{0,17}))?", re.ASCII
)


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


class EpochKey(_Answer):
    """One half of an epoch's pair; the epoch may have ended."""

    epoch: int
    key: RawKey
    dies_s: float
    """When every holder drops it."""


class NoKey(StrEnum):
    """Answer instead of the key of an epoch.  Waiting changes only `FUTURE`."""

    EXPIRED = "expired"
    FUTURE = "future"
    UNKNOWN = "unknown"


STATUS = {NoKey.EXPIRED: 410, NoKey.FUTURE: 425, NoKey.UNKNOWN: 404}
