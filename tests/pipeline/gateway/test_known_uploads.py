"""Uploads with an Idempotency-Key."""

from datetime import UTC, datetime, timedelta

import pytest

from erasestream.pipeline.gateway.idempotency_header import parse_key
from erasestream.pipeline.gateway.known_uploads import KnownUploads, Place, digest_of
from erasestream.pipeline.gateway.problems import Problem
from erasestream.schemas.events.images import Cutout
from erasestream.schemas.ids import AccountId, UploadId
from erasestream.schemas.options import CutoutOptions
from tests.schemas.samples import SAMPLES

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ALICE, BOB = AccountId("alice"), AccountId("bob")
ID = UploadId("0195a4b2-7c3d-8e4f-8a1b-2c3d4e5f6071")
DIGEST = digest_of(b"photo", CutoutOptions())
PLACE = Place(3, 17)
(SAMPLE,) = (each for each in SAMPLES[:4] if isinstance(each, Cutout))
RESULT = SAMPLE.model_copy(
    update={"id": ID, "account": ALICE, "reference": DIGEST, "uploaded_at": NOW}
)


def refusal(uploads: KnownUploads, digest: str = DIGEST, now: datetime = NOW) -> tuple[int, str]:
    with pytest.raises(Problem) as caught:
        uploads.begin(ALICE, ID, digest, now)
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
    assert uploads.begin(ALICE, ID, DIGEST, NOW) is None
    assert refusal(uploads) == (409, "in_progress")
    uploads.finish(RESULT, PLACE)
    uploads.finish(RESULT, Place(0, 0))
    assert uploads.begin(ALICE, ID, DIGEST, NOW) == PLACE
    assert refusal(uploads, digest_of(b"other", CutoutOptions())) == (422, "idempotency_key_reused")
    assert refusal(uploads, now=NOW + timedelta(hours=24)) == (409, "key_expired")
    assert uploads.begin(BOB, ID, DIGEST, NOW) is None


def test_a_result_tells_of_an_upload_that_another_gateway_sent() -> None:
    uploads = KnownUploads()
    uploads.finish(RESULT.model_copy(update={"reference": None}), PLACE)
    uploads.finish(RESULT.model_copy(update={"account": BOB}), PLACE)
    assert uploads.begin(ALICE, ID, DIGEST, NOW) is None
    uploads = KnownUploads()
    uploads.finish(RESULT, PLACE)
    assert uploads.begin(ALICE, ID, DIGEST, NOW) == PLACE
    assert refusal(uploads, digest_of(b"other", CutoutOptions())) == (422, "idempotency_key_reused")


def test_an_upload_that_was_perhaps_not_appended_may_be_sent_again() -> None:
    uploads = KnownUploads()
    uploads.begin(ALICE, ID, DIGEST, NOW)
    uploads.release(ALICE, ID)
    assert uploads.begin(ALICE, ID, DIGEST, NOW) is None
    assert refusal(uploads) == (409, "in_progress")
    uploads.release(ALICE, ID)
    uploads.finish(RESULT, PLACE)
    assert uploads.begin(ALICE, ID, DIGEST, NOW) == PLACE


def test_a_refused_upload_is_forgotten_and_so_are_the_oldest() -> None:
    uploads = KnownUploads(most=1)
    uploads.begin(ALICE, ID, DIGEST, NOW)
    uploads.forget(ALICE, ID)
    assert uploads.begin(ALICE, ID, digest_of(b"other", CutoutOptions()), NOW) is None
    assert uploads.begin(BOB, ID, DIGEST, NOW) is None
    assert uploads.begin(ALICE, ID, DIGEST, NOW) is None


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


def test_a_result_of_another_image_is_not_that_of_the_one_that_runs() -> None:
    """Both were sent under one key, at two gateways."""
    uploads = KnownUploads()
    other = digest_of(b"other", CutoutOptions())
    assert uploads.begin(ALICE, ID, other, NOW) is None
    uploads.finish(RESULT, PLACE)
    assert refusal(uploads, other) == (422, "idempotency_key_reused")
    assert uploads.begin(ALICE, ID, DIGEST, NOW) == PLACE
