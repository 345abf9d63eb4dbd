"""From the record of an upload to the event of its result: always exactly one.

Whatever a stranger sends, a record comes out: a cut-out, or a failed result with a code.
Knows nothing of Kafka clients.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol

from erasestream.schemas.codec.cloudevents import Wire, from_wire, header_of, to_wire
from erasestream.schemas.errors import Code, ErasestreamError, InvalidInput
from erasestream.schemas.events.base import Position, Reference, utc
from erasestream.schemas.events.images import Adjusted, Cutout, Failure, Upload
from erasestream.schemas.ids import (
    INVALID_ACCOUNT,
    AccountId,
    Lane,
    UploadId,
    is_account,
    is_uuid,
    upload_id_of_position,
)
from erasestream.schemas.options import CutoutOptions

MAX_REFERENCE = 128


class Source(NamedTuple):
    """The record of an upload, and where it lies."""

    lane: Lane
    position: Position
    appended_ms: int
    headers: list[tuple[str, bytes]]
    value: bytes


class Image(Protocol):
    """What the pool makes of an upload."""

    @property
    def data(self) -> bytes:
        """The encoded cut-out."""

    @property
    def content_type(self) -> str:
        """Its content type."""

    @property
    def steps_ms(self) -> Mapping[str, float]:
        """Milliseconds of each step."""

    @property
    def adjusted(self) -> Adjusted | None:
        """What had to be done so that it fits."""


class Model(NamedTuple):
    """Which model made a cut-out."""

    name: str
    sha256: str
    version: str


class ResultBuilder:
    """Makes the result of each upload."""

    def __init__(
        self,
        *,
        cut_out: Callable[[bytes, CutoutOptions], Awaitable[Image]],
        model: Model,
        backlog_limits: Mapping[Lane, timedelta],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._cut_out = cut_out
        self._model = model
        self._backlog_limits = backlog_limits
        self._now = now

    async def make(self, source: Source) -> Wire:
        """The record of the result.  Raises only what is not the input's fault."""
        try:
            self._refuse_expired(source)
            return to_wire(await self._cutout(source), source=_from(source))
        except InvalidInput as error:
            return to_wire(self._failure(source, error), source=_from(source))

    def judged(self, source: Source, made: Wire) -> Wire:
        """What `made` is by the time that it is handed over: expired, if it waited too long."""
        try:
            self._refuse_expired(source)
        except InvalidInput as error:
            return to_wire(self._failure(source, error), source=_from(source))
        return made

    def _refuse_expired(self, source: Source) -> None:
        if self._now() - utc(source.appended_ms) > self._backlog_limits[source.lane]:
            raise InvalidInput(code=Code.EXPIRED)

    async def _cutout(self, source: Source) -> Cutout:
        if not source.value:
            raise InvalidInput(code=Code.EMPTY)
        upload = from_wire(Upload, source.headers, source.value)
        image = await self._cut_out(upload.data, upload.options)
        return Cutout(
            id=upload.id,
            time=self._now(),
            account=upload.account,
            reference=upload.reference,
            position=source.position,
            uploaded_at=utc(source.appended_ms),
            content_type=image.content_type,
            model=self._model.name,
            model_sha256=self._model.sha256,
            model_version=self._model.version,
            steps_ms=image.steps_ms,
            adjusted=image.adjusted,
            data=image.data,
        )

    def _failure(self, source: Source, error: ErasestreamError) -> Failure:
        """The failed result, with as much of the upload's attributes as can be used."""
        account = _readable(source, "account")
        upload_id = _readable(source, "id")
        reference: Reference | None = _readable(source, "reference")
        position = source.position
        return Failure(
            id=UploadId(upload_id)
            if is_uuid(upload_id)
            else upload_id_of_position(position.topic_id, position.partition, position.offset),
            time=self._now(),
            account=AccountId(account) if is_account(account) else INVALID_ACCOUNT,
            reference=reference if reference and len(reference) <= MAX_REFERENCE else None,
            position=position,
            uploaded_at=utc(source.appended_ms),
            code=error.code,
            sentence=error.sentence[:255],
        )


def _from(source: Source) -> str:
    return f"/lanes/{source.lane}/inference"


def _readable(source: Source, field: str) -> str:
    """One attribute, whatever is wrong with the others; empty if it is missing or no text."""
    name = header_of(field)
    raw = next((value for each, value in source.headers if each == name), b"")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return ""
