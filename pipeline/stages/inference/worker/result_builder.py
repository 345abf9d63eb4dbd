"""Build the result of an upload: exactly one record, whatever a stranger sent.

It is a cut-out, or a failed result with a code.  Independent of Kafka clients.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import NamedTuple, Protocol

from pydantic import TypeAdapter, ValidationError

from erasestream.pipeline.stages.inference.isolation.ciphers import ImageCiphers
from erasestream.pipeline.stages.inference.worker.epoch_keys import EpochKeys
from erasestream.pipeline.stages.inference.worker.failed_result import attribute_of, failed_result
from erasestream.pipeline.stages.inference.worker.sealed_upload import (
    check_context,
    epoch_of,
    open_upload,
)
from erasestream.pipeline.stages.inference.worker.upload_record import UploadRecord
from erasestream.schemas.clocks import WallClock, utc_now
from erasestream.schemas.codec.cloudevents import Wire, from_wire, to_wire
from erasestream.schemas.errors import Code, InvalidInput
from erasestream.schemas.events.base import ContentType, utc
from erasestream.schemas.events.foreground import Foreground
from erasestream.schemas.events.images import Adjusted, Cutout, Upload
from erasestream.schemas.ids import (
    Lane,
)
from erasestream.schemas.options import CutoutOptions
from erasestream.schemas.sealing.content_type import SEALED_CONTENT_TYPE, is_sealed
from erasestream.schemas.sealing.envelope import upload_digest

_CONTENT_TYPE = TypeAdapter(ContentType)


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

    @property
    def foreground(self) -> Foreground | None:
        """Where the product is; None if nothing is visible."""


class Model(NamedTuple):
    """Model that made a cut-out."""

    name: str
    sha256: str
    version: str


class CutOut(Protocol):
    """Cuts out an image; with ciphers, of the body of a sealed one makes that of another."""

    def __call__(
        self, image: bytes | memoryview, options: CutoutOptions, ciphers: ImageCiphers | None = None
    ) -> Awaitable[Image]:
        """Return the cut-out.  Raises `InvalidImage`."""


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
        keys: EpochKeys | None = None,
        must_be_sealed: frozenset[Lane] = frozenset(),
        now: WallClock = utc_now,
    ) -> None:
        """Without `keys` no sealed upload can be opened."""
        self._models = models
        self._keys = keys
        self._must_be_sealed = must_be_sealed
        self._backlog_limits = backlog_limits
        self._now = now

    async def build(self, record: UploadRecord) -> Wire:
        """Return the record of the result.  Raises only errors that are not the input's fault."""
        try:
            self._refuse_expired(record)
            return to_wire(await self._cutout(record), source=_source_of(record))
        except InvalidInput as error:
            return to_wire(failed_result(record, error, self._now()), source=_source_of(record))

    def readiness_of(self, record: UploadRecord) -> Callable[[], bool]:
        """Return what tells whether the keys are there that `build` needs for this upload.

        It is True as well for an upload that is refused without them.
        """
        keys = self._keys
        if keys is None or not is_sealed(_content_type(record)):
            return lambda: True
        try:
            epoch = epoch_of(record.value, record.lane)
        except InvalidInput:
            return lambda: True
        if epoch > keys.latest_epoch(utc(record.appended_ms)):
            return lambda: True
        return lambda: self._is_expired(record) or keys.has(record.lane, epoch)

    def expire(self, record: UploadRecord, result: Wire) -> Wire:
        """Return the result, or a failed one if the upload has expired by now."""
        try:
            self._refuse_expired(record)
        except InvalidInput as error:
            return to_wire(failed_result(record, error, self._now()), source=_source_of(record))
        return result

    def _refuse_expired(self, record: UploadRecord) -> None:
        if self._is_expired(record):
            raise InvalidInput(code=Code.EXPIRED)

    def _is_expired(self, record: UploadRecord) -> bool:
        return self._now() - utc(record.appended_ms) > self._backlog_limits[record.lane]

    async def _cutout(self, record: UploadRecord) -> Cutout:
        if record.refusal:
            raise InvalidInput(code=record.refusal)
        if not record.value:
            raise InvalidInput(code=Code.EMPTY)
        upload = from_wire(Upload, record.headers, record.value)
        if is_sealed(upload.content_type):
            return await self._sealed_cutout(record, upload)
        if record.lane in self._must_be_sealed:
            raise InvalidInput(code=Code.NOT_SEALED)
        image = await self._models[record.lane].cut_out(upload.data, upload.options)
        return self._event(record, upload, image)

    async def _sealed_cutout(self, record: UploadRecord, upload: Upload) -> Cutout:
        """Return the sealed cut-out; the image is opened in the child, and nowhere here."""
        epoch = epoch_of(upload.data, record.lane)
        digest = upload_digest(record.lane, upload.account, upload.id)
        check_context(upload, digest)
        if self._keys is None:
            raise InvalidInput(code=Code.UNKNOWN_EPOCH)
        if epoch > self._keys.latest_epoch(utc(record.appended_ms)):
            raise InvalidInput(code=Code.FUTURE_EPOCH)
        keys = self._keys.get(record.lane, epoch)
        opened = await asyncio.to_thread(open_upload, upload, digest, keys)
        cut_out = self._models[record.lane].cut_out
        image = await cut_out(opened.body, upload.options, opened.ciphers)
        value, capsule = await asyncio.to_thread(opened.seal, image.data)
        cutout = self._event(record, upload, image)
        sealed = {"content_type": SEALED_CONTENT_TYPE, "data": value, "capsule": capsule}
        return cutout.model_copy(update=sealed)

    def _event(self, record: UploadRecord, upload: Upload, image: Image) -> Cutout:
        model = self._models[record.lane].model
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
            foreground=image.foreground,
            never_retain=not upload.is_retainable or None,
            data=image.data,
        )


def _content_type(record: UploadRecord) -> str:
    """Return the content type as `from_wire` does; empty if the upload will be refused."""
    try:
        return _CONTENT_TYPE.validate_python(attribute_of(record, "content_type"))
    except ValidationError:
        return ""


def _source_of(record: UploadRecord) -> str:
    return f"/lanes/{record.lane}/inference"
