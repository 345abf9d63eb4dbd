"""Every upload is routed exactly once, in order, whatever inference repeats."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erasestream.pipeline.stages.routing.deduplication import (
    Classification,
    Novelty,
    classify,
    mark_after_loss,
)
from erasestream.schemas.codec.replay_mark import ReplayMark
from erasestream.schemas.errors import InvariantBroken
from erasestream.schemas.events.base import Position

TOPIC = "bTYs9Br5T5qhZMdsDXX9XA"
RECREATED = "cTYs9Br5T5qhZMdsDXX9XB"
OFFSETS = st.integers(0, 2**62)


def at(offset: int, topic_id: str = TOPIC) -> Position:
    """Return a position in partition 0."""
    return Position(topic_id=topic_id, partition=0, offset=offset)


def mark(offset: int, topic_id: str = TOPIC) -> ReplayMark:
    """Return the mark after this offset was routed."""
    return ReplayMark(topic_id=topic_id, offset=offset)


def unneeded() -> NoReturn:
    pytest.fail("asked the brokers without need")


def classify_offline(last: ReplayMark, position: Position) -> Classification:
    """Classify without asking the brokers."""
    return classify(last, position, current_topic_id=unneeded, log_start=unneeded)


def classify_with(
    last: ReplayMark, position: Position, *, log_start: int = 0, current: str = TOPIC
) -> Classification:
    """Classify with these answers of the brokers."""
    return classify(last, position, current_topic_id=lambda: current, log_start=lambda: log_start)


@given(last=st.integers(-1, 2**62))
def test_the_next_offset_is_new(last: int) -> None:
    """The brokers are not asked."""
    found = classify_offline(mark(last), at(last + 1))
    assert found == Classification(Novelty.NEW, mark(last + 1), purged=0)


@given(offset=OFFSETS, further=OFFSETS)
def test_offsets_at_or_below_the_mark_are_replays(offset: int, further: int) -> None:
    last = mark(offset + further)
    found = classify_offline(last, at(offset))
    assert found == Classification(Novelty.REPLAY, last, purged=0)


@given(last=st.integers(-1, 1000), missing=st.integers(1, 1000), start=st.integers(0, 3000))
def test_a_gap_must_be_purged_to_its_last_offset(last: int, missing: int, start: int) -> None:
    """A purged gap is counted; one offset in it that still exists stops the process."""
    position = at(last + 1 + missing)
    gap = range(last + 1, position.offset)
    if all(offset < start for offset in gap):
        found = classify_with(mark(last), position, log_start=start)
        assert found == Classification(Novelty.NEW, mark(position.offset), purged=missing)
    else:
        with pytest.raises(InvariantBroken, match=rf"\b{missing} results are missing"):
            classify_with(mark(last), position, log_start=start)


@given(
    last=st.integers(-1, 1000),
    younger=st.integers(0, 1000),
    steps=st.lists(st.integers(1, 30), min_size=1, max_size=20),
)
def test_after_a_loss_gaps_of_older_uploads_are_counted(
    last: int, younger: int, steps: list[int]
) -> None:
    """Younger gaps stop the process as always; the mark keeps the bound when it is parsed again."""
    known, at_offset = (
        mark_after_loss(mark(last), current_topic_id=TOPIC, first_younger=younger),
        last,
    )
    for step in steps:
        at_offset += step
        if step > 1 and at_offset > younger:
            with pytest.raises(InvariantBroken, match=rf"\b{step - 1} results are missing"):
                classify_with(known, at(at_offset))
            return
        found = classify_with(known, at(at_offset))
        assert (found.purged, found.unrouted) == (0, step - 1)
        known = ReplayMark.parse(str(found.mark), where="cutouts.shop/0")
        assert known.offset == at_offset


@given(last=st.integers(0, 1000), younger=st.integers(2, 1000))
def test_after_a_loss_recreated_uploads_restart_the_mark(last: int, younger: int) -> None:
    """Uploads older than the loss are counted among the new ones, never among the old."""
    found = mark_after_loss(mark(last), current_topic_id=RECREATED, first_younger=younger)
    assert found == ReplayMark(topic_id=RECREATED, offset=-1, unread_below=younger)
    assert classify_with(found, at(younger, RECREATED), current=RECREATED).unrouted == younger
    with pytest.raises(InvariantBroken, match="does not have"):
        classify_with(found, at(last), current=RECREATED)
    with pytest.raises(InvariantBroken, match="missing"):
        classify_with(mark(last)._replace(unread_below=2000), at(2, RECREATED), current=RECREATED)


def test_a_second_loss_keeps_the_higher_bound() -> None:
    once = mark_after_loss(mark(3), current_topic_id=TOPIC, first_younger=90)
    twice = mark_after_loss(once, current_topic_id=TOPIC, first_younger=80)
    assert twice.unread_below == 90


def test_recreated_uploads_restart_the_mark() -> None:
    """Only if the broker has them now."""
    found = classify_with(mark(4711), at(0, RECREATED), current=RECREATED)
    assert found == Classification(Novelty.NEW, mark(0, RECREATED))
    purged = classify_with(mark(4711), at(3, RECREATED), current=RECREATED, log_start=3)
    assert purged == Classification(Novelty.NEW, mark(3, RECREATED), purged=3)
    with pytest.raises(InvariantBroken, match="missing"):
        classify_with(mark(4711), at(3, RECREATED), current=RECREATED)


@pytest.mark.parametrize("offset", [0, 4711, 4712])
def test_an_unknown_topic_id_stops_the_process(offset: int) -> None:
    """The result is neither a replay nor new: its upload is unknown."""
    with pytest.raises(InvariantBroken, match="does not have"):
        classify_with(mark(4711), at(offset, RECREATED), current=TOPIC)


@dataclass
class CutoutPartition:
    """Results of one partition of uploads, as several inference workers append them.

    A worker starts at or below the committed offset, appends without a gap, and commits
    some of what it appended.  A deposed worker may continue for a while (a zombie); whether its
    commits are refused changes nothing here.
    """

    appended: list[int] = field(default_factory=list)
    committed: int = 0
    next_of: dict[int, int] = field(default_factory=dict)

    def start(self, worker: int, back: int) -> None:
        """Start a worker at the committed offset, or below it."""
        self.next_of[worker] = max(0, self.committed - back)

    def append(self, worker: int) -> None:
        if worker in self.next_of:
            self.appended.append(self.next_of[worker])
            self.next_of[worker] += 1

    def commit(self, worker: int) -> None:
        """Commit a worker's offset, perhaps below another's."""
        self.committed = self.next_of.get(worker, self.committed)


STEPS = st.lists(
    st.tuples(st.sampled_from(["start", "append", "append", "commit"]), st.integers(0, 3), OFFSETS),
    max_size=200,
)


def simulated(steps: list[tuple[str, int, int]]) -> list[int]:
    """Return the results in the partition after these steps."""
    partition = CutoutPartition()
    for step, worker, number in steps:
        match step:
            case "start":
                partition.start(worker, number % 4)
            case "append":
                partition.append(worker)
            case _:
                partition.commit(worker)
    return partition.appended


def route(offsets: Iterable[int], routed: list[int]) -> None:
    """Append the new offsets to `routed`, until the rule stops the process."""
    last = mark(-1)
    for offset in offsets:
        found = classify_with(last, at(offset))
        last = found.mark
        if found.novelty is Novelty.NEW:
            routed.append(offset)


@settings(max_examples=300)
@given(steps=STEPS)
def test_interleaved_workers_are_routed_once_and_in_order(
    steps: list[tuple[str, int, int]],
) -> None:
    appended = simulated(steps)
    routed: list[int] = []
    route(appended, routed)
    assert routed == list(range(len(set(appended))))


@settings(max_examples=200)
@given(steps=STEPS, crashes=st.sets(st.integers(0, 200)), batch=st.integers(1, 7))
def test_a_router_that_crashes_routes_every_upload_once(
    steps: list[tuple[str, int, int]], crashes: set[int], batch: int
) -> None:
    """Offset and mark are committed with the routed results; a crashed router resumes there."""
    appended = simulated(steps)
    position, committed, routed, attempts = 0, str(mark(-1)), list[int](), 0
    while position < len(appended):
        last = ReplayMark.parse(committed, where="cutouts.shop/0")
        written = []
        for offset in appended[position : position + batch]:
            found = classify_with(last, at(offset))
            last = found.mark
            if found.novelty is Novelty.NEW:
                written.append(offset)
        attempts += 1
        if attempts in crashes:
            continue  # the transaction is not committed
        routed += written
        position, committed = position + batch, str(last)
    assert routed == list(range(len(set(appended))))


@settings(max_examples=200)
@given(steps=STEPS, lost=st.data())
def test_a_lost_result_stops_the_process(
    steps: list[tuple[str, int, int]], lost: st.DataObject
) -> None:
    """Without every record of one upload's result, nothing after it is routed."""
    two_at_least = [("start", 0, 0), ("append", 0, 0), ("append", 0, 0)]
    appended = simulated(two_at_least + steps)
    gone = lost.draw(st.integers(0, max(appended) - 1))
    routed: list[int] = []
    with pytest.raises(InvariantBroken, match="missing"):
        route((offset for offset in appended if offset != gone), routed)
    assert routed == list(range(gone))
