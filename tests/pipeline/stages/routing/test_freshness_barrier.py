"""Results wait until every decision made before they were read is applied."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasestream.pipeline.stages.routing.freshness_barrier import (
    FreshnessBarrier,
    Verdict,
    WentBack,
)

OFFSETS = st.integers(0, 2**63 - 1)
MARKS = st.dictionaries(st.integers(0, 9), OFFSETS, min_size=1)


@given(mark=MARKS, data=st.data())
def test_decided_exactly_when_nothing_below_the_mark_is_missing(
    mark: dict[int, int], data: st.DataObject
) -> None:
    """One partition behind the mark holds all back: an account may be in any of them."""
    applied = {partition: data.draw(OFFSETS) for partition in mark}
    verdict = FreshnessBarrier[int]().check(mark=mark, applied=applied)
    reached = all(applied[partition] >= mark[partition] for partition in mark)
    assert (verdict is Verdict.DECIDE) is reached


@given(mark=MARKS, behind=st.data())
def test_one_missing_decision_is_enough_to_wait(
    mark: dict[int, int], behind: st.DataObject
) -> None:
    partition = behind.draw(st.sampled_from(sorted(mark)))
    mark = mark | {partition: behind.draw(st.integers(1, 2**62))}
    applied = {p: offset + 10 for p, offset in mark.items()}
    barrier = FreshnessBarrier[int]()
    assert barrier.check(mark=mark, applied=applied | {partition: mark[partition] - 1}) is (
        Verdict.WAIT
    )
    assert barrier.check(mark=mark, applied=applied | {partition: mark[partition]}) is (
        Verdict.DECIDE
    )


@given(steps=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.booleans()), max_size=60))
def test_no_revocation_loses_a_race(steps: list[tuple[int, int, bool]]) -> None:
    """Every result is decided by all decisions that were accepted before it was read.

    The brokers accept decisions and the view applies some of them, in any order; a result is
    read at each step.
    """
    accepted = dict.fromkeys(range(4), 0)
    applied = dict.fromkeys(range(4), 0)
    barrier = FreshnessBarrier[int]()
    for partition, count, is_accepted in steps:
        if is_accepted:
            accepted[partition] += count
        else:
            applied[partition] = min(applied[partition] + count, accepted[partition])
        verdict = barrier.check(mark=dict(accepted), applied=dict(applied))
        unknown = sum(accepted.values()) - sum(applied.values())
        assert verdict is (Verdict.WAIT if unknown else Verdict.DECIDE)


@given(before=st.integers(1, 100), fall=st.integers(1, 102), other=OFFSETS)
@pytest.mark.parametrize("shrinking", ["mark", "applied"])
def test_a_mark_or_view_that_shrinks_went_back(
    shrinking: str, before: int, fall: int, other: int
) -> None:
    """A topic was recreated, or a leader lost records."""
    offsets = {"mark": {0: other}, "applied": {0: other}}
    barrier = FreshnessBarrier[int]()
    barrier.check(**offsets | {shrinking: {0: before}})
    with pytest.raises(WentBack, match="went back"):
        barrier.check(**offsets | {shrinking: {0: before - fall}})


@pytest.mark.parametrize("name", ["mark", "applied"])
def test_unknown_offsets_went_back(name: str) -> None:
    """Clients return -1 or -1001 for an unknown offset."""
    known = {"mark": {0: 5}, "applied": {0: 5}}
    for unknown in (-1, -1001):
        with pytest.raises(WentBack):
            FreshnessBarrier[int]().check(**known | {name: {0: unknown}})


@pytest.mark.parametrize(
    ("mark", "applied"),
    [({0: 1}, {0: 1, 1: 1}), ({0: 1, 1: 1}, {0: 1}), ({0: 1}, {1: 1}), ({}, {0: 1}), ({0: 1}, {})],
)
def test_mark_and_view_are_of_the_same_partitions(
    mark: dict[int, int], applied: dict[int, int]
) -> None:
    """A partition without a mark could hold a revocation."""
    with pytest.raises(WentBack, match="different partitions"):
        FreshnessBarrier[int]().check(mark=mark, applied=applied)


@pytest.mark.parametrize("later", [{0: 9}, {0: 9, 1: 9, 2: 9}, {0: 9, 2: 9}, {}])
def test_the_partitions_stay_the_same(later: dict[int, int]) -> None:
    """A partition that was left out could shrink unnoticed."""
    barrier = FreshnessBarrier[int]()
    barrier.check(mark={0: 1, 1: 1}, applied={0: 1, 1: 1})
    with pytest.raises(WentBack, match="other partitions"):
        barrier.check(mark=later, applied=later)


def test_the_barrier_copies_the_offsets() -> None:
    """The caller may change its own mapping afterwards."""
    barrier = FreshnessBarrier[int]()
    live = {0: 5}
    barrier.check(mark={0: 5}, applied=live)
    live[0] = 3
    with pytest.raises(WentBack, match="view of 0 went back to 3"):
        barrier.check(mark={0: 5}, applied=live)
