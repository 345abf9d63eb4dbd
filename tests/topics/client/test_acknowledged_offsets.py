"""Acknowledged offsets in the metadata of a commit."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasestream.topics.client.acknowledged_offsets import (
    MAX_BYTES,
    MAX_OFFSET,
    from_metadata,
    to_metadata,
)


@st.composite
def commits(draw: st.DrawFn) -> tuple[int, list[range]]:
    """Draw a committed offset, and ranges beyond it that do not touch."""
    committed = draw(st.integers(0, 2**50))
    ranges, position = [], committed
    for gap, length in draw(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 2**40)))):
        ranges.append(range(position + gap, position + gap + length))
        position = ranges[-1].stop
    return committed, ranges


@given(commits())
def test_what_fits_comes_back(commit: tuple[int, list[range]]) -> None:
    committed, ranges = commit
    metadata = to_metadata(committed, ranges)
    assert len(metadata) <= MAX_BYTES
    assert from_metadata(committed, metadata) == ranges


@given(commits(), st.integers(0, 60))
def test_a_short_text_holds_the_lowest_ranges(
    commit: tuple[int, list[range]], max_bytes: int
) -> None:
    """It is cut between two ranges, never inside one."""
    committed, ranges = commit
    metadata = to_metadata(committed, ranges, max_bytes)
    assert len(metadata) <= max_bytes
    found = from_metadata(committed, metadata)
    assert found == ranges[: len(found)]


def test_one_gap_among_thousands_takes_few_bytes() -> None:
    assert len(to_metadata(0, [range(1, 5000)])) < 10


@given(st.integers(0, 2**40), st.text() | st.binary().map(lambda raw: f"1:7:{raw!r}"))
def test_text_of_others_means_nothing(committed: int, text: str) -> None:
    assert from_metadata(committed, text) == []


def test_metadata_of_another_offset_means_nothing() -> None:
    """A tool that moves a group to another offset, or to another cluster, may keep the text."""
    assert from_metadata(8, to_metadata(7, [range(8, 9)])) == []


@pytest.mark.parametrize(
    "packed",
    [
        b"\x01",
        b"\x01\x00",
        b"\x01\x80",
        b"\x01\x01\x00\x01",
        b"\x01" + b"\xff" * 9 + b"\x7f",
        b"\x01\x02\x03",
    ],
    ids=["half a pair", "an empty range", "cut off", "two that touch", "too far", "odd"],
)
def test_malformed_ranges_mean_nothing(packed: bytes) -> None:
    assert from_metadata(7, f"1:7:{base64.b64encode(packed).decode()}") == []


def test_the_highest_offset_is_the_limit() -> None:
    metadata = to_metadata(0, [range(1, MAX_OFFSET)])
    assert from_metadata(0, metadata) == [range(1, MAX_OFFSET)]
