"""Build the result of an upload: exactly one record, whatever a stranger sent.

It is a cut-out, or a failed result with a code.  Independent of Kafka clients.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol

from erasestream.pipeline.stages.inference.worker.upload_record import UploadRecord
from erasestream.schemas.clocks import WallClock
from erasestream.schemas.codec.cloudevents import Wire, from_wire, header_of, to_wire
from erasestream.schemas.errors import Code, ErasestreamError, InvalidInput
from erasestream.schemas.events.base import Reference, utc
from erasestream.schemas.events.images import Adjusted, Cutout, Failure, Upload
from erasestream.schemas.ids import (
    INVALID_ACCOUNT,
    AccountId,
    Lane,
    UploadId,
    is_account,
    is_upload_id,
    upload_id_of_position,
)
from erasestream.schemas.options import CutoutOptions

MAX_REFERENCE = 128


class Image(Protocol):
    """Cut-out as the pool returns it."""

    @property
    def data(self) -> bytes:
        """Encoded cut-out."""

    @property
    def content_type(self) -> str:
        """Content type of the data."""

    @property
    def steps_ms(self) -> Mapping[str, float]:
        """Milliseconds of each step."""

    @property
    def adjusted(self) -> Adjusted | None:
        """Change that was made so that it fits."""


class Model(NamedTuple):
    """Model that made a cut-out."""

    name: str
    sha256: str
    version: str


CutOut = Callable[[bytes, CutoutOptions], Awaitable[Image]]


class LaneModel(NamedTuple):
    """A model, and what cuts out with it."""

    model: Model
    cut_out: CutOut


class ResultBuilder:
    """Builds the result of each upload, with the model of its lane."""

    def __init__(
        self,
        *,
        models: Mapping[Lane, LaneModel],
        backlog_limits: Mapping[Lane, timedelta],
        now: WallClock = lambda: datetime.now(UTC),
    ) -> None:
        self._models = models
        self._backlog_limits = backlog_limits
        self._now = now

    async def build(self, record: UploadRecord) -> Wire:
        """Return the record of the result.  Raises only errors that are not the input's fault."""
        try:
            self._refuse_expired(record)
            return to_wire(await self._cutout(record), source=_source_of(record))
        except InvalidInput as error:
            return to_wire(self._failure(record, error), source=_source_of(record))

    def expire(self, record: UploadRecord, result: Wire) -> Wire:
        """Return the result, or a failed one if the upload has expired by now."""
        try:
            self._refuse_expired(record)
        except InvalidInput as error:
            return to_wire(self._failure(record, error), source=_source_of(record))
        return result

    def _refuse_expired(self, record: UploadRecord) -> None:
        if self._now() - utc(record.appended_ms) > self._backlog_limits[record.lane]:
            raise InvalidInput(code=Code.EXPIRED)

    async def _cutout(self, record: UploadRecord) -> Cutout:
        if record.refusal:
            raise InvalidInput(code=record.refusal)
        if not record.value:
            raise InvalidInput(code=Code.EMPTY)
        upload = from_wire(Upload, record.headers, record.value)
        model, cut_out = self._models[record.lane]
        image = await cut_out(upload.data, upload.options)
        return Cutout(
            id=upload.id,
            time=self._now(),
            account=upload.account,
            reference=upload.reference,
            position=record.position,
            uploaded_at=utc(record.appended_ms),
            content_type=image.content_type,
            model=model.name,
            model_sha256=model.sha256,
            model_version=model.version,
            steps_ms=image.steps_ms,
            adjusted=image.adjusted,
            data=image.data,
        )

    def _failure(self, record: UploadRecord, error: ErasestreamError) -> Failure:
        """Build a failed result, with those of the upload's attributes that can be used."""
        account = _attribute(record, "account")
        upload_id = _attribute(record, "id")
        reference: Reference | None = _attribute(record, "reference")
        position = record.position
        return Failure(
            id=UploadId(upload_id)
            if is_upload_id(upload_id)
            else upload_id_of_position(position.topic_id, position.partition, position.offset),
            time=self._now(),
            account=AccountId(account) if is_account(account) else INVALID_ACCOUNT,
            reference=reference if reference and len(reference) <= MAX_REFERENCE else None,
            position=position,
            uploaded_at=utc(record.appended_ms),
            code=error.code,
            sentence=error.sentence[:255],
        )


def _source_of(record: UploadRecord) -> str:
    return f"/lanes/{record.lane}/inference"


def _attribute(record: UploadRecord, field: str) -> str:
    """Return one attribute, whatever is wrong with the others; empty if missing or no text."""
    name = header_of(field)
    raw = next((value for each, value in record.headers if each == name), b"")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return ""
