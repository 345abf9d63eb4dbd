"""Build the failed result of an upload, whatever is wrong with its attributes."""

from datetime import datetime

from erasestream.pipeline.stages.inference.worker.upload_record import UploadRecord
from erasestream.schemas.codec.cloudevents import header_of
from erasestream.schemas.errors import ErasestreamError
from erasestream.schemas.events.base import Reference, utc
from erasestream.schemas.events.images import Failure
from erasestream.schemas.ids import (
    INVALID_ACCOUNT,
    AccountId,
    UploadId,
    is_account,
    is_upload_id,
    upload_id_of_position,
)

MAX_REFERENCE = 128


def failed_result(record: UploadRecord, error: ErasestreamError, now: datetime) -> Failure:
    """Build a failed result, with those of the upload's attributes that can be used."""
    account = attribute_of(record, "account")
    upload_id = attribute_of(record, "id")
    reference: Reference | None = attribute_of(record, "reference")
    position = record.position
    return Failure(
        id=UploadId(upload_id)
        if is_upload_id(upload_id)
        else upload_id_of_position(position.topic_id, position.partition, position.offset),
        time=now,
        account=AccountId(account) if is_account(account) else INVALID_ACCOUNT,
        reference=reference if reference and len(reference) <= MAX_REFERENCE else None,
        position=position,
        uploaded_at=utc(record.appended_ms),
        code=error.code,
        sentence=error.sentence[:255],
    )


def attribute_of(record: UploadRecord, field: str) -> str:
    """Return one attribute, whatever is wrong with the others; empty if missing or no text."""
    name = header_of(field)
    raw = next((value for each, value in record.headers if each == name), b"")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return ""
