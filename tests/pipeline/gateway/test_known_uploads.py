"""Uploads with an Idempotency-Key."""

from datetime import UTC, datetime, timedelta

import pytest

from erasestream.pipeline.gateway.idempotency_header import parse_key
from erasestream.pipeline.gateway.known_uploads import KnownUploads, digest_of
from erasestream.pipeline.gateway.problems import Problem
from erasestream.pipeline.gateway.waiting_results import short_reference
from erasestream.schemas.options import CutoutOptions
from erasestream.topics.index.table import Image, Place

NOW = datetime(2026, 3, 1, tzinfo=UTC)
KEY, OTHER_KEY = b"k" * 16, b"o" * 16
DIGEST, OTHER = digest_of(b"photo", CutoutOptions()), digest_of(b"other", CutoutOptions())
IMAGE = Image(
    uploaded_at=NOW,
    place=Place(3, 17),
    code=None,
    is_retained=False,
    is_deleted=False,
    reference=short_reference(DIGEST),
)
PENDING = IMAGE._replace(place=None, reference=short_reference(None))


def refusal(
    uploads: KnownUploads,
    digest: str = DIGEST,
    now: datetime = NOW,
    image: Image | None = None,
) -> tuple[int, str]:
    with pytest.raises(Problem) as caught:
        uploads.begin(KEY, digest, now, image=image)
    return caught.value.status, caught.value.code


def test_the_digest_is_of_image_options_and_wish() -> None:
    digests = {
        digest_of(image, options, never_retain=never_retain)
        for image in (b"photo", b"other")
        for options in (CutoutOptions(), CutoutOptions(format="webp"))
        for never_retain in (False, True)
    }
    assert len(digests) == 8
    assert all(len(digest) <= 128 for digest in digests)


def test_a_key_has_the_result_of_its_first_upload() -> None:
    uploads = KnownUploads()
    assert uploads.begin(KEY, DIGEST, NOW, image=None) is None
    for image in (None, PENDING):
        assert refusal(uploads, image=image) == (409, "in_progress")
        assert refusal(uploads, OTHER, image=image) == (422, "idempotency_key_reused")
    uploads.finish(KEY)
    assert uploads.begin(KEY, DIGEST, NOW, image=IMAGE) == IMAGE
    assert refusal(uploads, OTHER, image=IMAGE) == (422, "idempotency_key_reused")
    later = NOW + timedelta(hours=24)
    assert refusal(uploads, now=later, image=IMAGE) == (409, "key_expired")
    assert uploads.begin(OTHER_KEY, DIGEST, NOW, image=None) is None


def test_an_upload_that_another_gateway_has_accepted_runs() -> None:
    """It surely was appended; whether this gateway sent it, too, does not matter."""
    uploads = KnownUploads()
    assert refusal(uploads, image=PENDING) == (409, "in_progress")
    uploads.begin(KEY, DIGEST, NOW, image=None)
    uploads.release(KEY)
    assert refusal(uploads, image=PENDING) == (409, "in_progress")
    later = NOW + timedelta(hours=24)
    assert refusal(KnownUploads(), now=later, image=PENDING) == (409, "key_expired")


@pytest.mark.parametrize("image", [IMAGE, PENDING])
def test_a_deleted_image_has_no_result_and_does_not_run(image: Image) -> None:
    deleted = image._replace(is_deleted=True)
    assert refusal(KnownUploads(), image=deleted) == (410, "image_deleted")


def test_an_upload_that_was_perhaps_not_appended_may_be_sent_again() -> None:
    uploads = KnownUploads()
    uploads.begin(KEY, DIGEST, NOW, image=None)
    uploads.release(KEY)
    assert uploads.begin(KEY, DIGEST, NOW, image=None) is None
    assert refusal(uploads) == (409, "in_progress")
    uploads.release(KEY)
    assert uploads.begin(KEY, DIGEST, NOW, image=IMAGE) == IMAGE


def test_a_refused_upload_is_forgotten_and_so_are_the_oldest() -> None:
    uploads = KnownUploads(most=1)
    uploads.begin(KEY, DIGEST, NOW, image=None)
    uploads.forget(KEY)
    assert uploads.begin(KEY, OTHER, NOW, image=None) is None
    assert uploads.begin(OTHER_KEY, DIGEST, NOW, image=None) is None
    assert uploads.begin(KEY, DIGEST, NOW, image=None) is None


def test_a_result_of_another_image_is_not_that_of_the_one_that_runs() -> None:
    """Both were sent under one key, at two gateways."""
    uploads = KnownUploads()
    assert uploads.begin(KEY, OTHER, NOW, image=None) is None
    assert refusal(uploads, OTHER, image=IMAGE) == (422, "idempotency_key_reused")
    assert uploads.begin(KEY, DIGEST, NOW, image=IMAGE) == IMAGE


@pytest.mark.parametrize(
    ("text", "key"),
    [('"a"', "a"), ("a", "a"), (r'"a\"b\\"', 'a"b\\'), ("a b=c", "a b=c"), ("k" * 255, "k" * 255)],
)
def test_a_key_may_be_quoted(text: str, key: str) -> None:
    assert parse_key(text) == key


@pytest.mark.parametrize("text", ["", '"', '""', '"a', 'a\t"', "ü", "k" * 256, r'"\a"'])
def test_other_keys_are_refused(text: str) -> None:
    with pytest.raises(Problem, match="invalid_idempotency_key"):
        parse_key(text)
