"""What flows: an image on its way in, its cut-out or its failure, and what is retained.

Every event is an immutable value.  Fields named in `body` form the JSON value of the
record; an event whose `body` is None carries the image's own bytes as its value (`data`).
All other fields are CloudEvents attributes, which travel as headers (`cloudevents.py`).

Events ignore members that they do not know, so that older readers survive newer writers.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar, NamedTuple, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    PlainSerializer,
    PlainValidator,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import from_json

from erasestream.schemas.ids import (
    INVALID_ACCOUNT,
    UUID_PATTERN,
    AccountField,
    GrantIdField,
    LaneField,
    UploadIdField,
)
from erasestream.schemas.options import CutoutOptions

MAX_UPLOAD_BYTES = 25_000_000
"""Largest image that is taken, in bytes."""

MAX_CUTOUT_BYTES = 64_000_000
"""Largest cut-out that is delivered, in bytes."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Text = Annotated[str, StringConstraints(max_length=255)]
Reference = Annotated[str, StringConstraints(max_length=128, min_length=1)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

CONTENT_TYPE_PATTERN = r"^[a-z]+/[a-z0-9.+-]{1,64}$"
ContentType = Annotated[str, StringConstraints(pattern=CONTENT_TYPE_PATTERN)]


def _from_json(value: object) -> object:
    return from_json(value) if isinstance(value, str) else value


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


class Upload(Event):
    """An image on its way in.  `time` is the sender's clock and decides nothing."""

    type: ClassVar[str] = "com.backgrounderase.image.uploaded.v1"

    id: UploadIdField
    account: AccountField
    content_type: ContentType
    reference: Reference | None = None
    options: Annotated[
        CutoutOptions,
        BeforeValidator(lambda v: CutoutOptions.from_json(v) if isinstance(v, str) else v),
        PlainSerializer(CutoutOptions.to_json, return_type=str),
        WithJsonSchema(
            {
                "type": "string",
                "contentMediaType": "application/json",
                "description": "The schema `options`, as JSON text.",
            }
        ),
    ] = CutoutOptions()
    data: Annotated[bytes, Field(repr=False)]

    @model_validator(mode="after")
    def _account_is_somebody(self) -> Self:
        if self.account == INVALID_ACCOUNT:
            raise ValueError("account is reserved")
        return self


class Result(Event):
    """What cut-out and failure share.

    `position` and `uploaded_at` (the broker's clock when it appended the upload) identify
    the upload that this is the result of.
    """

    id: UploadIdField
    account: AccountField
    reference: Reference | None = None
    position: PositionField
    uploaded_at: AwareDatetime


class Adjusted(StrEnum):
    """What had to be done so that an `auto` cut-out fits: lossy; or smaller, and lossy with it."""

    LOSSY = "lossy"
    SMALLER = "smaller"


AdjustedField = Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,64}$")]


class Cutout(Result):
    """A result: the image without its background."""

    type: ClassVar[str] = "com.backgrounderase.image.cutout.v1"

    content_type: ContentType
    model: Text
    model_sha256: Sha256
    model_version: Text
    steps_ms: Annotated[
        Mapping[str, FiniteFloat],
        BeforeValidator(_from_json),
        PlainSerializer(lambda v: json.dumps(dict(v), separators=(",", ":")), return_type=str),
        WithJsonSchema(
            {
                "type": "string",
                "contentMediaType": "application/json",
                "description": "Milliseconds of each step, by its name, as a JSON object.",
            }
        ),
    ] = Field(default_factory=dict)
    """Milliseconds that each step of the work took, by the step's name."""
    adjusted: AdjustedField | None = None
    """Where an `auto` cut-out had to be made less than it could be: one of `Adjusted`, kept as
    text, so that an older reader takes a newer word."""
    data: Annotated[bytes, Field(repr=False)]


class Failure(Result):
    """A result: why there is no cut-out.  Never carries pixels."""

    type: ClassVar[str] = "com.backgrounderase.image.failed.v1"
    body: ClassVar[frozenset[str] | None] = frozenset({"code", "sentence"})

    code: Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,64}$")]
    """One of `Code`; kept as text, so that an older reader takes a newer code."""
    sentence: Text


RESULTS: tuple[type[Cutout | Failure], ...] = (Cutout, Failure)
"""What a record of results can be."""


class Part(StrEnum):
    """Which of the two pictures of an upload."""

    ORIGINAL = "original"
    CUTOUT = "cutout"


class Retained(Event):
    """A picture on its way to the encryption sink, of an account that opted in.

    `grant` is the grant of consent that it was retained under; `mark` says how much of the
    consent topic had been applied when that was decided, as `<partition>/<offset>`.
    """

    type: ClassVar[str] = "com.backgrounderase.image.retained.v1"

    id: UploadIdField
    lane: LaneField
    account: AccountField
    part: Part
    grant: GrantIdField
    mark: Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]*)/(0|[1-9][0-9]*)$")]
    position: PositionField
    uploaded_at: AwareDatetime
    content_type: ContentType
    data: Annotated[bytes, Field(repr=False)]


def as_attributes(event: Event) -> dict[str, Any]:
    """The fields of an event that travel as attributes, as JSON values, without the empty."""
    return event.model_dump(mode="json", exclude={"data", *(event.body or ())}, exclude_none=True)


def utc(timestamp_ms: int) -> datetime:
    """A broker's timestamp (milliseconds since 1970) as a time, exactly."""
    return _EPOCH + timedelta(milliseconds=timestamp_ms)
