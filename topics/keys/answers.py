"""Requests to the key service and its answers: HTTP paths, JSON values.  Pure.

    GET /v1/public/<purpose>            200  {"purpose", "keys": [{"epoch", "public", "ends_s"}]}
    GET /v1/public/<purpose>/<epoch>    200  {"purpose", "epoch", "key", "dies_s"}
    GET /v1/private/<purpose>/<epoch>   200  {"purpose", "epoch", "key", "dies_s"}
    with an epoch                       410  expired: the key is dead
                                        425  future: its epoch is ahead
                                        404  unknown: never created
    all                                 403  not this role; 421 no such purpose; 503 unavailable

Keys are Base64 of 32 bytes; times are seconds since 1970.  An answer to another request than the
one that was made, a public key of low order and a time that no key can have are no answers.
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
    FiniteFloat,
    PlainSerializer,
)

from erasestream.schemas.errors import Code, Unavailable
from erasestream.schemas.sealing.recipients import is_public_key

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


class _ToRequest(_Answer):
    @classmethod
    def parse(cls, body: bytes, request: KeyRequest) -> Self:
        """Parse the answer to a request.  Raises `Unavailable`: no key service wrote this."""
        try:
            answer = cls.model_validate_json(body)
            answer.assert_answers(request)
        except ValueError:
            raise Unavailable("a malformed answer", Code.KEYS_UNAVAILABLE) from None
        return answer

    def assert_answers(self, request: KeyRequest) -> None:
        """Raise `ValueError` unless this answers the request."""
        raise NotImplementedError


Number = Annotated[int, Field(ge=0, lt=10**18, strict=True)]
Time = Annotated[FiniteFloat, Field(gt=0, lt=1e11)]
"""Before the year 5138: what is computed with it stays a date."""


class SealingKey(_Answer):
    """The public key of one epoch."""

    epoch: Number
    public: RawKey
    ends_s: Time
    """When the epoch ends."""

    def until(self, latest_s: float) -> Self:
        """Return the key as one that is used no later than this."""
        return self if self.ends_s <= latest_s else self.model_copy(update={"ends_s": latest_s})


class SealingKeys(_ToRequest):
    """The public keys of this epoch and of the next."""

    purpose: str
    keys: Annotated[tuple[SealingKey, ...], Field(min_length=1, max_length=8)]

    def assert_answers(self, request: KeyRequest) -> None:
        """Raise `ValueError` unless this answers the request."""
        if self.purpose != request.purpose:
            raise ValueError("another purpose")
        if not all(is_public_key(each.public) for each in self.keys):
            raise ValueError("no public key")


class EpochKey(_ToRequest):
    """One half of an epoch's pair; the epoch may have ended."""

    purpose: str
    epoch: Number
    key: RawKey
    dies_s: Time
    """When every holder drops it."""

    def until(self, latest_s: float) -> Self:
        """Return the key as one that dies no later than this."""
        return self if self.dies_s <= latest_s else self.model_copy(update={"dies_s": latest_s})

    def assert_answers(self, request: KeyRequest) -> None:
        """Raise `ValueError` unless this answers the request."""
        if (self.purpose, self.epoch) != (request.purpose, request.epoch):
            raise ValueError("another purpose or epoch")
        if request.half is KeyHalf.PUBLIC and not is_public_key(self.key):
            raise ValueError("no public key")


class NoKey(StrEnum):
    """Answer instead of the key of an epoch.  Waiting changes only `FUTURE`."""

    EXPIRED = "expired"
    FUTURE = "future"
    UNKNOWN = "unknown"


NO_PURPOSE = 421
"""Status of a replica that was started without the lane: no answer about the key."""
STATUS = {NoKey.EXPIRED: 410, NoKey.FUTURE: 425, NoKey.UNKNOWN: 404}
