"""Images, limits and attempts for the tests of producers."""

from erasestream.schemas.errors import ErasestreamError, Unavailable
from erasestream.topics.catalog.topic_names import MAX_UPLOAD_RECORD_BYTES
from erasestream.topics.client.upload_producer import Receipt, SendingLimits, UploadProducer
from tests.flow.waiting import eventually

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
LARGE = PNG + bytes(10_000_000)
TIMEOUT_S = 90.0
QUICK = SendingLimits(readiness_s=3.0)
NARROW = SendingLimits(max_queued_bytes=MAX_UPLOAD_RECORD_BYTES, max_wait_s=0.2)


def try_upload(producer: UploadProducer, *errors: type[ErasestreamError]) -> Receipt | str:
    """Upload once and return the receipt, or the code of one of these errors."""
    try:
        return producer.send(PNG, account="a").result(TIMEOUT_S)
    except errors as error:
        return error.code


def upload_until_acknowledged(producer: UploadProducer, *errors: type[ErasestreamError]) -> Receipt:
    """Retry after these errors, or if none is given while brokers are unavailable."""

    def acknowledged() -> Receipt | None:
        outcome = try_upload(producer, *(errors or (Unavailable,)))
        return outcome if isinstance(outcome, Receipt) else None

    return eventually("an upload is acknowledged", acknowledged)
