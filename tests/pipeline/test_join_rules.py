"""The pure rules of the join: the barrier before a decision, and the replay mark."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasestream.pipeline.consent.barrier import Barrier, Verdict
from erasestream.pipeline.consent.replay import Appearance, judge
from erasestream.schemas.errors import InvariantBroken
from erasestream.schemas.events import Position
from erasestream.topics.replay_mark import ReplayMark

TOPIC, OTHER = "A" * 22, "B" * 22
OFFSETS = st.dictionaries(st.sampled_from("abc"), st.integers(0, 5), min_size=3, max_size=3)


def never() -> int:
    """A question that must not be asked."""
    pytest.fail("asked")


@given(mark=OFFSETS, applied=OFFSETS)
def test_decides_only_when_nothing_is_missing(
    mark: dict[str, int], applied: dict[str, int]
) -> None:
    """One partition behind is enough to wait."""
    verdict = Barrier[str]().judge(mark=mark, applied=applied)
    missing = any(applied[p] < mark[p] for p in mark)
    assert verdict is (Verdict.WAIT if missing else Verdict.DECIDE)


@given(st.lists(st.tuples(OFFSETS, OFFSETS), min_size=2, max_size=5))
def test_what_shrinks_stops_the_process(seen: list[tuple[dict[str, int], dict[str, int]]]) -> None:
    """Marks and applied offsets only grow."""
    barrier = Barrier[str]()
    pairs = list(itertools.pairwise(seen))
    for mark, applied in seen:
        shrinks = any(
            now[p] < before[p]
            for (first, second) in pairs
            for before, now in zip(first, second, strict=True)
            for p in now
        )
        try:
            barrier.judge(mark=mark, applied=applied)
        except InvariantBroken:
            assert shrinks
            return
    assert not shrinks


def test_other_partitions_stop_the_process() -> None:
    """A mark that does not cover the view says nothing about it."""
    with pytest.raises(InvariantBroken):
        Barrier[str]().judge(mark={"a": 1}, applied={"a": 1, "b": 0})


def position(offset: int, topic_id: str = TOPIC) -> Position:
    """Where an upload lies."""
    return Position(topic_id=topic_id, partition=0, offset=offset)


@given(mark=st.integers(-1, 20), offset=st.integers(0, 20))
def test_at_or_below_the_mark_is_a_replay(mark: int, offset: int) -> None:
    """Above it is new, and the mark moves there."""
    before = ReplayMark(topic_id=TOPIC, offset=mark)
    judged = judge(before, position(offset), current_topic_id=lambda: TOPIC, log_start=lambda: 1000)
    if offset <= mark:
        assert (judged.appearance, judged.mark) == (Appearance.REPLAY, before)
    else:
        assert judged.appearance is Appearance.NEW
        assert judged.mark.offset == offset
        assert judged.purged == offset - mark - 1


def test_next_one_needs_no_question() -> None:
    """The common case costs no round trip."""
    mark = ReplayMark(topic_id=TOPIC, offset=6)
    judged = judge(mark, position(7), current_topic_id=lambda: str(never()), log_start=never)
    assert judged.appearance is Appearance.NEW


@given(mark=st.integers(-1, 9), gap=st.integers(1, 5), start=st.integers(0, 20))
def test_gap_is_only_what_was_purged(mark: int, gap: int, start: int) -> None:
    """All missing offsets lie below the log start, or the process stops."""
    offset = mark + 1 + gap
    missing = range(mark + 1, offset)
    before = ReplayMark(topic_id=TOPIC, offset=mark)

    def judged() -> int:
        return judge(
            before, position(offset), current_topic_id=lambda: TOPIC, log_start=lambda: start
        ).purged

    if all(one < start for one in missing):
        assert judged() == gap
    else:
        with pytest.raises(InvariantBroken):
            judged()


def test_topic_made_anew_starts_again() -> None:
    """If the broker has it now; another one stops the process."""
    mark = ReplayMark(topic_id=TOPIC, offset=100)
    judged = judge(mark, position(0, OTHER), current_topic_id=lambda: OTHER, log_start=never)
    assert judged.mark == ReplayMark(topic_id=OTHER, offset=0)
    with pytest.raises(InvariantBroken):
        judge(mark, position(0, OTHER), current_topic_id=lambda: TOPIC, log_start=never)


@given(
    runs=st.lists(st.tuples(st.integers(0, 10), st.integers(1, 12)), min_size=1, max_size=6),
    data=st.data(),
)
def test_interleaved_writers_are_routed_once_and_in_order(
    runs: list[tuple[int, int]], data: st.DataObject
) -> None:
    """Why the mark is right, whatever zombies do.

    Each writer appends a run without a gap that starts at or below what was appended before
    it began (its committed offset).  However they interleave, first appearances are in order.
    """
    log: list[int] = []
    writers: list[list[int]] = []
    for back, length in runs:
        for writer in writers:  # those that run already append some more
            more = data.draw(st.integers(0, len(writer)))
            log += writer[:more]
            del writer[:more]
        start = max(0, max(log, default=-1) + 1 - back)
        writers.append(list(range(start, start + length)))
    while any(writers):
        writer = data.draw(st.sampled_from([w for w in writers if w]))
        log.append(writer.pop(0))

    mark, routed = ReplayMark(topic_id=TOPIC, offset=-1), []
    for offset in log:
        judged = judge(mark, position(offset), current_topic_id=lambda: TOPIC, log_start=lambda: 0)
        mark = judged.mark
        if judged.appearance is Appearance.NEW:
            routed.append(offset)
    assert routed == list(range(max(log) + 1))


@pytest.mark.parametrize(
    "text", [None, "", "1:x:3", f"2:{TOPIC}:3", f"1:{TOPIC}:03", f"1:{TOPIC}:-2"]
)
def test_mark_that_can_not_be_read_stops_the_process(text: str | None) -> None:
    """Wiped by an auto-commit, or of another version."""
    with pytest.raises(InvariantBroken):
        ReplayMark.parse(text, where="cutouts.shop/0")


@given(st.integers(-1, 2**62))
def test_mark_is_read_as_it_was_written(offset: int) -> None:
    """To the letter."""
    mark = ReplayMark(topic_id=TOPIC, offset=offset)
    assert ReplayMark.parse(str(mark), where="x") == mark
