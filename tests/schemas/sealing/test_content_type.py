"""The size of sealed images on the wire: that of the images, and a bound for sealing."""

import pytest

from erasestream.schemas.codec.cloudevents import from_wire, max_value_bytes, to_wire
from erasestream.schemas.errors import Code, InvalidEvent
from erasestream.schemas.events.images import MAX_UPLOAD_BYTES, Upload
from erasestream.schemas.ids import AccountId, UploadId
from erasestream.schemas.sealing.content_type import SEALED_CONTENT_TYPE, SEALED_OVERHEAD_BYTES
from erasestream.schemas.sealing.envelope import MAX_PLAINTEXT_BYTES, MAX_SEALED_BYTES

LARGEST = MAX_UPLOAD_BYTES + SEALED_OVERHEAD_BYTES


def upload(size: int, content_type: str) -> Upload:
    """Return an upload of this size."""
    return Upload(
        id=UploadId("1"), account=AccountId("a"), content_type=content_type, data=bytes(size)
    )


def test_the_overhead_covers_every_envelope() -> None:
    assert MAX_SEALED_BYTES - MAX_PLAINTEXT_BYTES <= SEALED_OVERHEAD_BYTES


@pytest.mark.parametrize(
    ("content_type", "largest"), [(SEALED_CONTENT_TYPE, LARGEST), ("image/png", MAX_UPLOAD_BYTES)]
)
def test_only_a_sealed_image_may_be_larger(content_type: str, largest: int) -> None:
    """For the writer and the reader alike."""
    assert max_value_bytes(Upload, content_type) == largest
    wire = to_wire(upload(largest, content_type), source="/test")
    assert from_wire(Upload, wire.headers, wire.value).content_type == content_type
    with pytest.raises(InvalidEvent) as caught:
        to_wire(upload(largest + 1, content_type), source="/test")
    assert caught.value.code is Code.TOO_LARGE
    with pytest.raises(InvalidEvent) as caught:
        from_wire(Upload, wire.headers, bytes(largest + 1))
    assert caught.value.code is Code.TOO_LARGE
