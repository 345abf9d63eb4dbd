"""Build uploads from the caller's arguments, with every check that needs no decoding.

Refused input is never sent; the codes are those of the failed results that the pipeline would
produce.  Pure: the caller passes time and randomness.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from erasestream.schemas.clocks import WallClock
from erasestream.schemas.errors import Code, InvalidEvent, InvalidImage
from erasestream.schemas.events.images import MAX_UPLOAD_BYTES, Upload
from erasestream.schemas.ids import (
    AccountId,
    Lane,
    UploadId,
    idempotent_upload_id,
    is_account,
    new_upload_id,
)
from erasestream.schemas.image_formats import sniff_content_type
from erasestream.schemas.options import CutoutOptions

Options = CutoutOptions | Mapping[str, object] | None
"""Options, their names and values, or None for the defaults."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_DEFAULT_OPTIONS = CutoutOptions()


def milliseconds(time: datetime) -> int:
    """Return whole milliseconds since 1970.  Raises `InvalidEvent` without a time zone."""
    if getattr(time, "tzinfo", None) is None:
        raise InvalidEvent("a time without a time zone")
    since_1970 = (time - _EPOCH) // _MILLISECOND
    if not 0 <= since_1970 < 1 << 48:
        raise InvalidEvent("a time that does not fit into an id")
    return since_1970


def idempotent_id(
    lane: Lane, account: AccountId, key: str, time: datetime | None = None
) -> UploadId:
    """Return the id of an upload that is the same on every retry.  Raises `InvalidEvent`."""
    if not key:
        raise InvalidEvent("an empty idempotency_key")
    time_ms = None if time is None else milliseconds(time)
    try:
        return idempotent_upload_id(lane, account, key, time_ms)
    except (AttributeError, UnicodeEncodeError):
        raise InvalidEvent("idempotency_key is not valid text") from None


@dataclass(frozen=True, kw_only=True)
class UploadFactory:
    """Builds the uploads of one lane."""

    lane: Lane
    now: WallClock
    random: Callable[[int], bytes]
    max_image_bytes: int = MAX_UPLOAD_BYTES

    def build(
        self,
        image: bytes,
        *,
        account: str,
        reference: str | None = None,
        options: Options = None,
        idempotency_key: str | None = None,
        idempotency_time: datetime | None = None,
        never_retain: bool = False,
    ) -> Upload:
        """Return the upload.

        Raises `InvalidImage` (empty, too_large, unsupported_format) or `InvalidEvent`
        (invalid_account, invalid_options, invalid_event).
        """
        if not is_account(account):
            raise InvalidEvent(code=Code.INVALID_ACCOUNT)
        content_type = _checked_content_type(image, min(self.max_image_bytes, MAX_UPLOAD_BYTES))
        try:
            return Upload(
                id=self._id(account, idempotency_key, idempotency_time),
                time=self.now(),
                account=account,
                content_type=content_type,
                reference=reference,
                options=checked_options(options),
                never_retain=never_retain or None,
                data=image,
            )
        except ValidationError as error:
            fields = sorted({str(e["loc"][0]) for e in error.errors() if e["loc"]})
            raise InvalidEvent(", ".join(fields)) from None  # without values

    def _id(self, account: AccountId, key: str | None, time: datetime | None) -> UploadId:
        if key is not None:
            return idempotent_id(self.lane, account, key, time)
        if time is not None:
            raise InvalidEvent("idempotency_time without idempotency_key")
        return new_upload_id(milliseconds(self.now()), self.random(10))


def checked_options(options: Options) -> CutoutOptions:
    """Validate options.  Raises `InvalidEvent` (invalid_options) naming the invalid ones."""
    if options is None:
        return _DEFAULT_OPTIONS
    if isinstance(options, CutoutOptions):
        return options
    try:
        named = dict(options)
        return CutoutOptions.model_validate(named)
    except (TypeError, ValueError):
        raise InvalidEvent("options", code=Code.INVALID_OPTIONS) from None


def check_size(image: bytes, max_bytes: int) -> None:
    """Raise `InvalidImage` (too_large) if the image has more bytes."""
    if len(image) > max_bytes:
        raise InvalidImage(f"at most {max_bytes / 1e6:g} MB", code=Code.TOO_LARGE)


def _checked_content_type(image: bytes, max_bytes: int) -> str:
    if not image:
        raise InvalidImage(code=Code.EMPTY)
    check_size(image, max_bytes)
    content_type = sniff_content_type(image)
    if content_type is None:
        raise InvalidImage(code=Code.UNSUPPORTED_FORMAT)
    return content_type
