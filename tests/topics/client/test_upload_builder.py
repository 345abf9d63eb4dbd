"""Validation of uploads before they are sent."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from erasestream.schemas.errors import Code, InvalidInput
from erasestream.schemas.events.images import MAX_UPLOAD_BYTES
from erasestream.schemas.ids import Lane
from erasestream.schemas.options import CutoutOptions, OutputFormat
from erasestream.topics.client.upload_builder import UploadFactory

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


def factory(lane: str = "shop", now: datetime = NOW) -> UploadFactory:
    return UploadFactory(lane=Lane(lane), now=lambda: now, random=lambda n: b"\xa5" * n)


@pytest.mark.parametrize(
    ("image", "code"),
    [
        (b"", Code.EMPTY),
        (b"GIF89a" + bytes(20), Code.UNSUPPORTED_FORMAT),
        (b"RIFF\0\0\0\0WAVE" + bytes(20), Code.UNSUPPORTED_FORMAT),
        (b"\x89PNG", Code.UNSUPPORTED_FORMAT),
        (PNG + bytes(MAX_UPLOAD_BYTES), Code.TOO_LARGE),
    ],
)
def test_invalid_images_are_refused_with_their_code(image: bytes, code: Code) -> None:
    """As the pipeline would refuse them, for their first bytes or size."""
    with pytest.raises(InvalidInput) as caught:
        factory().build(image, account="acct-17")
    assert caught.value.code is code


def test_the_largest_image_is_accepted() -> None:
    upload = factory().build(PNG + bytes(MAX_UPLOAD_BYTES - len(PNG)), account="a")
    assert len(upload.data) == MAX_UPLOAD_BYTES


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"account": ""}, Code.INVALID_ACCOUNT),
        ({"account": "kim@example.org"}, Code.INVALID_ACCOUNT),
        ({"account": "_invalid"}, Code.INVALID_ACCOUNT),
        ({"account": "a" * 65}, Code.INVALID_ACCOUNT),
        ({"reference": ""}, Code.INVALID_EVENT),
        ({"reference": "r" * 129}, Code.INVALID_EVENT),
        ({"reference": "\ud800"}, Code.INVALID_EVENT),
        ({"options": {"format": "gif"}}, Code.INVALID_OPTIONS),
        ({"options": {"fromat": "png"}}, Code.INVALID_OPTIONS),
        ({"options": {17: "png"}}, Code.INVALID_OPTIONS),
        ({"options": "webp"}, Code.INVALID_OPTIONS),
        ({"account": 17}, Code.INVALID_ACCOUNT),
        ({"account": None}, Code.INVALID_ACCOUNT),
        ({"idempotency_key": 17}, Code.INVALID_EVENT),
        ({"idempotency_key": "k", "idempotency_time": "now"}, Code.INVALID_EVENT),
        ({"options": {"crop_margin": "5px"}}, Code.INVALID_OPTIONS),
        ({"options": {"format": "png", "quality": 90}}, Code.INVALID_OPTIONS),
        ({"idempotency_key": ""}, Code.INVALID_EVENT),
        ({"idempotency_key": "\ud800"}, Code.INVALID_EVENT),
        ({"idempotency_time": NOW}, Code.INVALID_EVENT),
        (
            {"idempotency_key": "k", "idempotency_time": datetime(2026, 1, 1)},  # noqa: DTZ001
            Code.INVALID_EVENT,
        ),
        (
            {"idempotency_key": "k", "idempotency_time": datetime(1969, 1, 1, tzinfo=UTC)},
            Code.INVALID_EVENT,
        ),
    ],
)
def test_invalid_attributes_are_refused_with_their_code(
    more: dict[str, object], code: Code
) -> None:
    """The message does not repeat the value."""
    arguments = {"account": "acct-17", **more}
    with pytest.raises(InvalidInput) as caught:
        factory().build(PNG, **arguments)  # type: ignore[arg-type]
    assert caught.value.code is code
    for value in more.values():
        if isinstance(value, str) and value:
            assert value not in caught.value.sentence


@pytest.mark.parametrize(
    ("image", "content_type"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0" + bytes(20), "image/jpeg"),
        (b"RIFF\x10\0\0\0WEBPVP8 " + bytes(20), "image/webp"),
    ],
)
def test_the_content_type_is_detected_from_the_bytes(image: bytes, content_type: str) -> None:
    assert factory().build(image, account="a").content_type == content_type


def test_options_may_be_a_mapping() -> None:
    upload = factory().build(PNG, account="a", options={"format": "webp"})
    assert upload.options == CutoutOptions(format=OutputFormat.WEBP)


def test_a_new_upload_has_a_uuid7_of_the_current_time() -> None:
    """Without a key: 48 bits of milliseconds, then random bits."""
    upload = factory().build(PNG, account="a")
    assert int(upload.id.replace("-", "")[:12], 16) == int(NOW.timestamp()) * 1000
    assert upload.id[14] == "7"
    assert upload.time == NOW


def keyed_id(
    by: UploadFactory, key: str = "row-1", account: str = "acct-17", time: datetime | None = None
) -> str:
    """Return the id of an upload with an idempotency key."""
    return by.build(PNG, account=account, idempotency_key=key, idempotency_time=time).id


@pytest.mark.parametrize("time", [None, NOW])
def test_the_same_key_gives_the_same_id(time: datetime | None) -> None:
    """On the next day, too; another lane, account, key or time gives another id."""
    today, tomorrow = factory(), factory(now=NOW + timedelta(days=1))
    first = keyed_id(today, time=time)
    assert keyed_id(tomorrow, time=time) == first
    others = {
        keyed_id(today, time=NOW + timedelta(days=1)),
        keyed_id(factory("bulk"), time=time),
        keyed_id(today, account="acct-18", time=time),
        keyed_id(today, "row-2", time=time),
    }
    assert len(others | {first}) == 5
    assert first[14] == "8"


def test_the_time_zone_of_the_key_does_not_matter() -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=9)))
    assert keyed_id(factory(), time=NOW) == keyed_id(factory(), time=elsewhere)
