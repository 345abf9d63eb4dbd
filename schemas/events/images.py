"""Image events: uploads, results, and retained images."""

import json
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar, Self

from pydantic import (
    AwareDatetime,
    BeforeValidator,
    Field,
    FiniteFloat,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import from_json

from erasestream.schemas.errors import SENTENCES, Code
from erasestream.schemas.events.base import (
    CapsuleField,
    ContentType,
    Event,
    PositionField,
    Reference,
    Sha256,
    Text,
    TimedEvent,
    Wish,
)
from erasestream.schemas.events.foreground import ForegroundField
from erasestream.schemas.ids import (
    INVALID_ACCOUNT,
    AccountField,
    GrantIdField,
    LaneField,
    UploadIdField,
)
from erasestream.schemas.options import CutoutOptions, OutputFormat

MAX_UPLOAD_BYTES = 30_000_000
"""Largest upload, in bytes."""

MAX_CUTOUT_BYTES = 64_000_000
"""Largest cut-out, in bytes."""

MAX_PIXELS = 100_000_000
"""Largest image, in pixels: more than cameras for product photos have."""

MAX_CUTOUT_PIXELS = 50_000_000
"""Largest cut-out, in pixels: that of a larger image is scaled down."""


def _from_json(value: object) -> object:
    return from_json(value) if isinstance(value, str) else value


class Upload(Event):
    """An uploaded image.

    `id` is any text of up to 255 characters, unique for the account; the result has the same.
    `time` is the sender's clock and is informational.
    """

    type: ClassVar[str] = "com.backgrounderase.image.uploaded.v1"

    id: UploadIdField
    time: AwareDatetime | None = None
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
    never_retain: Wish | None = None
    """Whether the image is not to be retained, whatever its owner has decided."""
    data: Annotated[bytes, Field(repr=False)]

    @model_validator(mode="after")
    def _account_is_not_reserved(self) -> Self:
        if self.account == INVALID_ACCOUNT:
            raise ValueError("account is reserved")
        return self

    @property
    def is_retainable(self) -> bool:
        """Whether it may be retained at all: no zip is, because readers expect one picture."""
        return not self.never_retain and self.options.format is not OutputFormat.ZIP


class Result(TimedEvent):
    """Fields that cut-out and failure share.

    `position` and `uploaded_at` (when the broker appended the upload, by its clock) identify the
    upload of this result.
    """

    id: UploadIdField
    account: AccountField
    reference: Reference | None = None
    position: PositionField
    uploaded_at: AwareDatetime


class Adjusted(StrEnum):
    """Reduction that made an `auto` cut-out fit: lossy; or smaller, which is lossy as well.

    `own_alpha`: the image's own transparency was kept and no model was run; alone, or with one of
    the reductions.
    """

    LOSSY = "lossy"
    SMALLER = "smaller"
    OWN_ALPHA = "own_alpha"
    OWN_ALPHA_LOSSY = "own_alpha_lossy"
    OWN_ALPHA_SMALLER = "own_alpha_smaller"

    @classmethod
    def with_own_alpha(cls, reduction: "Adjusted | None") -> "Adjusted":
        """Return the value for an image whose own transparency was kept."""
        return cls.OWN_ALPHA if reduction is None else cls(f"{cls.OWN_ALPHA}_{reduction}")


AdjustedField = Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,64}$")]


class Cutout(Result):
    """A result: the image without its background."""

    type: ClassVar[str] = "com.backgrounderase.image.cutout.v1"

    content_type: ContentType
    model: Text
    """The worker's model, also where `adjusted` tells that it was not run."""
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
                "description": "Milliseconds of each step, by name, as a JSON object.",
            }
        ),
    ] = Field(default_factory=dict)
    """Duration of each processing step in milliseconds, by name."""
    adjusted: AdjustedField | None = None
    """One of `Adjusted`, as text, so that older readers accept newer values."""
    foreground: ForegroundField | None = None
    """Where the product is in the cut-out; the worker has checked that it is within."""
    capsule: Annotated[CapsuleField | None, Field(repr=False)] = None
    """The data keys of photo and cut-out, for the encryption sink alone, if they are sealed and may
    be retained."""
    never_retain: Wish | None = None
    """As in its upload."""
    data: Annotated[bytes, Field(repr=False)]


class Failure(Result):
    """A result: the reason why there is no cut-out.  Contains no pixels."""

    type: ClassVar[str] = "com.backgrounderase.image.failed.v1"
    body: ClassVar[frozenset[str] | None] = frozenset({"code", "sentence"})

    code: Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,64}$")]
    """One of `Code`, as text, so that older readers accept newer codes."""
    sentence: Text

    @classmethod
    def in_place_of(cls, result: Result, code: Code, time: datetime) -> Self:
        """Return the failure of this code that takes the place of a result."""
        return cls(
            id=result.id,
            time=time,
            account=result.account,
            reference=result.reference,
            position=result.position,
            uploaded_at=result.uploaded_at,
            code=code,
            sentence=SENTENCES[code],
        )


RESULTS: tuple[type[Cutout | Failure], ...] = (Cutout, Failure)
"""The events of a topic of results."""


class Part(StrEnum):
    """One of the two images of an upload."""

    ORIGINAL = "original"
    CUTOUT = "cutout"


class Retained(TimedEvent):
    """An image for the encryption sink, of an account that opted in.

    `grant` is the grant of consent under which it is retained; `mark` is how much of the consent
    topic had been applied to that decision, as `<partition>/<offset>`.  A sealed image has the
    `capsule` of its cut-out.
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
    capsule: Annotated[CapsuleField | None, Field(repr=False)] = None
    data: Annotated[bytes, Field(repr=False)]
