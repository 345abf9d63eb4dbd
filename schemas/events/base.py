"""What every event has, and the field types that events share.

Every event is an immutable value.  Fields named in `body` form the JSON value of the
record; an event whose `body` is None carries the image's own bytes as its value (`data`).
All other fields are CloudEvents attributes, which travel as headers (`codec/cloudevents.py`).

Events ignore members that they do not know, so that older readers survive newer writers.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, NamedTuple, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    PlainSerializer,
    PlainValidator,
    StringConstraints,
    WithJsonSchema,
)

from erasestream.schemas.ids import UUID_PATTERN

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Text = Annotated[str, StringConstraints(max_length=255)]
Reference = Annotated[str, StringConstraints(max_length=128, min_length=1)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

CONTENT_TYPE_PATTERN = r"^[a-z]+/[a-z0-9.+-]{1,64}$"
ContentType = Annotated[str, StringConstraints(pattern=CONTENT_TYPE_PATTERN)]


POSITION_PATTERN = r"^[A-Za-z0-9_-]{22}/(0|[1-9][0-9]*)/(0|[1-9][0-9]*)$"
_POSITION = re.compile(POSITION_PATTERN)


class Position(NamedTuple):
    """Where an upload lies: written `<topic id>/<partition>/<offset>`.

    The topic id tells a topic from another of the same name that was deleted before it.
    """

    topic_id: str
    partition: int
    offset: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """The position that is written like this.  Raises `ValueError`."""
        if _POSITION.fullmatch(text) is None:
            raise ValueError("not a position")
        topic_id, partition, offset = text.split("/")
        return cls(topic_id, int(partition), int(offset))

    def __str__(self) -> str:
        return f"{self.topic_id}/{self.partition}/{self.offset}"


def _position(value: object) -> Position:
    if not isinstance(value, str | Position):
        raise ValueError("not a position")  # noqa: TRY004 (what pydantic takes as a refusal)
    return Position.parse(str(value))  # one that was made by hand is looked at, too


PositionField = Annotated[
    Position,
    PlainValidator(_position),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": POSITION_PATTERN}),
]


class Event(BaseModel):
    """What all events have: a type, an id that is unique with it, and the writer's time."""

    # What an error of pydantic quotes could be an account or an image.
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    type: ClassVar[str]
    body: ClassVar[frozenset[str] | None] = None

    id: Annotated[str, StringConstraints(pattern=UUID_PATTERN)]
    time: AwareDatetime


def as_attributes(event: Event) -> dict[str, Any]:
    """The fields of an event that travel as attributes, as JSON values, without the empty."""
    return event.model_dump(mode="json", exclude={"data", *(event.body or ())}, exclude_none=True)


def utc(timestamp_ms: int) -> datetime:
    """A broker's timestamp (milliseconds since 1970) as a time, exactly."""
    return _EPOCH + timedelta(milliseconds=timestamp_ms)
