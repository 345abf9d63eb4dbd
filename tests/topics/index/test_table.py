"""Images of a lane: the first result counts, marks stay, and old ones go."""

from itertools import permutations

import pytest

from erasestream.schemas.events.base import utc
from erasestream.schemas.events.image_index import ImageState
from erasestream.topics.index.records import REFERENCE_BYTES, IndexedResult, Mark
from erasestream.topics.index.table import GENERATION_MS, NO_REFERENCE, Image, ImageTable, Place

NOW_MS = 1_780_000_000_000
KEY, OTHER = b"k" * 16, b"o" * 16
REFERENCE = b"r" * REFERENCE_BYTES
RESULT = IndexedResult(
    key=KEY,
    owner=b"a" * 16,
    partition=3,
    offset=17,
    uploaded_ms=NOW_MS,
    code=None,
    is_retained=True,
    reference=REFERENCE,
)
ACCEPTED = Mark(KEY, ImageState.ACCEPTED, NOW_MS + 5, is_retained=True)
DELETED = Mark(KEY, ImageState.DELETED, NOW_MS + 9, is_retained=False)


def test_an_image_is_found_by_its_key() -> None:
    table = ImageTable()
    assert table.put(RESULT)
    assert table.get(OTHER) is None
    assert table.get(KEY) == Image(
        uploaded_at=utc(NOW_MS),
        place=Place(3, 17),
        code=None,
        is_retained=True,
        is_deleted=False,
        reference=REFERENCE,
    )


def test_the_first_result_counts() -> None:
    table = ImageTable()
    assert table.put(RESULT)
    assert not table.put(RESULT._replace(offset=18, code="truncated"))
    image = table.get(KEY)
    assert image
    assert (image.place, image.code) == (Place(3, 17), None)
    assert len(table) == 1


@pytest.mark.parametrize("order", list(permutations((RESULT, ACCEPTED, DELETED))))
def test_marks_count_before_a_result_and_after_it(order: tuple[IndexedResult | Mark, ...]) -> None:
    table = ImageTable()
    for each in order:
        if isinstance(each, Mark):
            table.mark(each)
        else:
            table.put(each)
    image = table.get(KEY)
    assert image
    assert (image.place, image.is_deleted, image.reference) == (Place(3, 17), True, REFERENCE)
    assert len(table) == 1


@pytest.mark.parametrize("order", list(permutations((False, True))))
def test_an_image_is_retained_if_one_of_its_uploads_is(order: tuple[bool, ...]) -> None:
    """Two uploads of one id, only one of which asks never to be retained."""
    accepted, done = ImageTable(), ImageTable()
    for is_retained in order:
        accepted.mark(ACCEPTED._replace(is_retained=is_retained))
        done.put(RESULT._replace(is_retained=is_retained))
    for table in (accepted, done):
        image = table.get(KEY)
        assert image
        assert image.is_retained


def test_the_result_tells_whether_an_image_is_retained() -> None:
    """A mark tells only that it may be."""
    for order in permutations((RESULT._replace(is_retained=False), ACCEPTED)):
        table = ImageTable()
        for each in order:
            if isinstance(each, Mark):
                table.mark(each)
            else:
                table.put(each)
        image = table.get(KEY)
        assert image
        assert not image.is_retained


@pytest.mark.parametrize("is_requested", [False, True])
@pytest.mark.parametrize("order", list(permutations((0, 1, 2))))
def test_whether_the_erasure_of_a_deleted_image_was_requested_does_not_change(
    order: tuple[int, ...], *, is_requested: bool
) -> None:
    """Only the mark tells: the image may have been retained, and its result was not."""
    table = ImageTable()
    for step in order:
        if step == 0:
            table.mark(ACCEPTED)
        elif step == 1:
            table.mark(DELETED._replace(is_retained=is_requested))
        else:
            table.put(RESULT._replace(is_retained=False))
    image = table.get(KEY)
    assert image
    assert (image.is_deleted, image.is_retained) == (True, is_requested)


def test_an_accepted_image_has_no_place_yet() -> None:
    table = ImageTable()
    table.mark(ACCEPTED)
    image = table.get(KEY)
    assert image
    assert (image.place, image.is_retained, image.is_deleted) == (None, True, False)
    assert image.reference == NO_REFERENCE


def test_codes_are_kept() -> None:
    table = ImageTable()
    for number in range(300):
        table.put(RESULT._replace(key=number.to_bytes(16), code=f"code_{number % 3}"))
    for number in range(300):
        image = table.get(number.to_bytes(16))
        assert image
        assert image.code == f"code_{number % 3}"


def test_old_images_go_a_generation_at_a_time() -> None:
    table = ImageTable()
    begin_ms = NOW_MS // GENERATION_MS * GENERATION_MS
    table.put(RESULT._replace(key=KEY, uploaded_ms=begin_ms - 1))
    table.put(RESULT._replace(key=OTHER, uploaded_ms=begin_ms))
    table.drop_before(begin_ms - 1)
    assert len(table) == 2
    table.drop_before(begin_ms)
    assert (table.get(KEY), len(table)) == (None, 1)
    assert table.get(OTHER)


def test_a_key_that_equals_bytes_across_two_rows_is_another_image() -> None:
    """In one bucket, whose rows are side by side."""
    table = ImageTable()
    for number in range(2000):
        table.put(RESULT._replace(key=number.to_bytes(2) * 8, offset=number))
    for number in range(2000):
        image = table.get(number.to_bytes(2) * 8)
        assert image
        assert image.place == Place(3, number)
