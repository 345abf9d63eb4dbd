"""Base class of the events, and the field types that they share.

Events are immutable values.  The fields named in `body` form the JSON value of the record; an
event whose `body` is None has the image's own bytes as its value (`data`).  All other fields are
CloudEvents attributes, which are headers of the record (`codec/cloudevents.py`).

Unknown members are ignored, so that older readers accept events of newer writers.
"""

import binascii
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, NamedTuple, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    StringConstraints,
    WithJsonSchema,
)

from erasestream.schemas.ids import UUID_PATTERN

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MS = (datetime(9999, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)

Text = Annotated[str, StringConstraints(max_length=255)]
Reference = Annotated[str, StringConstraints(max_length=128, min_length=1)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

CONTENT_TYPE_TEXT_PATTERN = r"^[A-Za-z]+/[A-Za-z0-9.+-]{1,64} *(;|$)"
"""As written: in either case, with or without parameters."""
CONTENT_TYPE_PATTERN = r"^[a-z]+/[a-z0-9.+-]{1,64}$"
ContentType = Annotated[
    str,
    BeforeValidator(lambda v: v.partition(";")[0].strip().lower() if isinstance(v, str) else v),
    StringConstraints(pattern=CONTENT_TYPE_PATTERN),
]
"""Type and subtype in lower case; parameters are ignored."""

Wish = Annotated[
    bool,
    BeforeValidator(lambda v: v != "false" if isinstance(v, str) else v),
    PlainSerializer(lambda v: "true" if v else "false", return_type=str),
    WithJsonSchema({"type": "string", "enum": ["true", "false"]}),
]
"""A wish that only narrows what is done with an image: on the wire, any text but `false` is one."""

MAX_CAPSULE_BYTES = 384
CAPSULE_PATTERN = r"^[A-Za-z0-9_-]{2,512}$"


def _capsule(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        raw = urlsafe_b64decode(value + "=" * (-len(value) % 4))
    except binascii.Error:
        raise ValueError("not a capsule") from None
    if _capsule_text(raw) != value:  # the decoder accepts other spellings
        raise ValueError("not a capsule")
    return raw


def _capsule_text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


CapsuleField = Annotated[
    bytes,
    BeforeValidator(_capsule),
    Field(min_length=1, max_length=MAX_CAPSULE_BYTES),
    PlainSerializer(_capsule_text, return_type=str),
    WithJsonSchema({"type": "string", "pattern": CAPSULE_PATTERN}),
]
"""The capsule of a sealed upload and its cut-out (`sealing/capsule.py`): base64url without
padding on the wire."""


POSITION_PATTERN = r"^[A-Za-z0-9_-]{22}/(0|[1-9][0-9]*)/(0|[1-9][0-9]*)$"
_POSITION = re.compile(POSITION_PATTERN)


class Position(NamedTuple):
    """Position of an upload, written `<topic id>/<partition>/<offset>`.

    The topic id distinguishes a topic from a deleted one of the same name.
    """

    topic_id: str
    partition: int
    offset: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the written form.  Raises `ValueError`."""
        if _POSITION.fullmatch(text) is None:
            raise ValueError("not a position")
        topic_id, partition, offset = text.split("/")
        return cls(topic_id, int(partition), int(offset))

    def __str__(self) -> str:
        return f"{self.topic_id}/{self.partition}/{self.offset}"


def _position(value: object) -> Position:
    if not isinstance(value, str | Position):
        raise ValueError("not a position")  # noqa: TRY004 (pydantic reports ValueError as invalid input)
    return Position.parse(str(value))  # validates positions made in code as well


PositionField = Annotated[
    Position,
    PlainValidator(_position),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": POSITION_PATTERN}),
]


class Event(BaseModel):
    """Base of all events: a type, and an id that is unique within it."""

    # Pydantic's errors would quote accounts and images.
    # Its older releases would warn of the fields `model_*`.
    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="ignore", hide_input_in_errors=True, protected_namespaces=()
    )

    type: ClassVar[str]
    body: ClassVar[frozenset[str] | None] = None

    id: Annotated[str, StringConstraints(pattern=UUID_PATTERN)]


class TimedEvent(Event):
    """An event with the writer's time."""

    time: AwareDatetime


def as_attributes(event: Event) -> dict[str, Any]:
    """Return the fields of an event that are attributes, as JSON values, without None."""
    return event.model_dump(mode="json", exclude={"data", *(event.body or ())}, exclude_none=True)


def utc(timestamp_ms: int) -> datetime:
    """Convert a broker's timestamp (milliseconds since 1970) exactly.

    One before 1970 or after 9998 is forged, and is replaced by the nearest: dates end in 9999, and
    callers add to it.
    """
    if not 0 <= timestamp_ms <= _LAST_MS:
        timestamp_ms = min(max(timestamp_ms, 0), _LAST_MS)
    return _EPOCH + timedelta(0, 0, 0, timestamp_ms)  # by name it would take twice as long
