"""Images and limits for the tests of producers."""

from erasestream.topics.catalog.topic_names import MAX_UPLOAD_RECORD_BYTES
from erasestream.topics.client.upload_producer import (
    SendingLimits,
)

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
LARGE = PNG + bytes(10_000_000)
TIMEOUT_S = 30.0
QUICK = SendingLimits(readiness_s=3.0)
NARROW = SendingLimits(max_queued_bytes=MAX_UPLOAD_RECORD_BYTES, max_wait_s=0.2)
