"""Every upload is routed exactly once, in order, whatever inference repeats."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erasestream.pipeline.stages.routing.deduplication import (
    Judgement,
    Novelty,
    after_loss,
    judge,
)
from erasestream.schemas.codec.replay_mark import ReplayMark
from erasestream.schemas.errors import InvariantBroken
from erasestream.schemas.events.base import Position

TOPIC = "bTYs9Br5T5qhZMdsDXX9XA"
ANEW = "cTYs9Br5T5qhZMdsDXX9XB"
OFFSETS = st.integers(0, 2**62)


def at(offset: int, topic_id: str = TOPIC) -> Position:
    """A place in partition 0."""
    return Position(topic_id=topic_id, partition=0, offset=offset)


def mark(offset: int, topic_id: str = TOPIC) -> ReplayMark:
    """The mark after this offset was routed."""
    return ReplayMark(topic_id=topic_id, offset=offset)


def unasked() -> NoReturn:
    """A question to the brokers that must not be needed."""
    pytest.fail("asked the brokers without need")


def judged_alone(last: ReplayMark, position: Position) -> Judgement:
    """The judgement, where the brokers need not be asked."""
    return judge(last, position, current_topic_id=unasked, log_start=unasked)


def judged(
    last: ReplayMark, position: Position, *, log_start: int = 0, current: str = TOPIC
) -> Judgement:
    """The judgement, with the brokers' answers as given."""
    return judge(last, position, current_topic_id=lambda: current, log_start=lambda: log_start)


@given(last=st.integers(-1, 2**62))
def test_the_next_one_is_new(last: int) -> None:
    """And the brokers need not be asked."""
    found = judged_alone(mark(last), at(last + 1))
    assert found == Judgement(Novelty.NEW, mark(last + 1), purged=0)


@given(offset=OFFSETS, further=OFFSETS)
def test_what_lies_at_or_below_the_mark_is_a_replay(offset: int, further: int) -> None:
    """The mark stays where it is."""
    last = mark(offset + further)
    found = judged_alone(last, at(offset))
    assert found == Judgement(Novelty.REPLAY, last, purged=0)


@given(last=st.integers(-1, 1000), missing=st.integers(1, 1000), start=st.integers(0, 3000))
def test_a_gap_must_have_been_purged_to_its_last_offset(
    last: int, missing: int, start: int
) -> None:
    """Then it is counted; a single offset in it that still lies there stops the process."""
    position = at(last + 1 + missing)
    gap = range(last + 1, position.offset)
    if all(offset < start for offset in gap):
        found = judged(mark(last), position, log_start=start)
        assert found == Judgement(Novelty.NEW, mark(position.offset), purged=missing)
    else:
        with pytest.raises(InvariantBroken, match=rf"\b{missing} results are missing"):
            judged(mark(last), position, log_start=start)


@given(
    last=st.integers(-1, 1000),
    younger=st.integers(0, 1000),
    steps=st.lists(st.integers(1, 30), min_size=1, max_size=20),
)
def test_after_a_loss_gaps_among_what_is_older_are_counted(
    last: int, younger: int, steps: list[int]
) -> None:
    """And above it a gap stops the process, as ever; the mark tells, also read again."""
    known, at_offset = after_loss(mark(last), current_topic_id=TOPIC, younger=younger), last
    for step in steps:
        at_offset += step
        if step > 1 and at_offset > younger:
            with pytest.raises(InvariantBroken, match=rf"\b{step - 1} results are missing"):
                judged(known, at(at_offset))
            return
        found = judged(known, at(at_offset))
        assert (found.purged, found.unrouted) == (0, step - 1)
        known = ReplayMark.parse(str(found.mark), where="cutouts.shop/0")
        assert known.offset == at_offset


@given(last=st.integers(0, 1000), younger=st.integers(2, 1000))
def test_after_a_loss_uploads_made_anew_start_again(last: int, younger: int) -> None:
    """What is older than the loss is then counted among the new ones, and never of the old."""
    found = after_loss(mark(last), current_topic_id=ANEW, younger=younger)
    assert found == ReplayMark(topic_id=ANEW, offset=-1, unread_below=younger)
    assert judged(found, at(younger, ANEW), current=ANEW).unrouted == younger
    with pytest.raises(InvariantBroken, match="does not have"):
        judged(found, at(last), current=ANEW)
    with pytest.raises(InvariantBroken, match="missing"):
        judged(mark(last)._replace(unread_below=2000), at(2, ANEW), current=ANEW)


def test_a_second_loss_forgets_nothing_of_the_first() -> None:
    """Whichever bound is further on counts."""
    once = after_loss(mark(3), current_topic_id=TOPIC, younger=90)
    twice = after_loss(once, current_topic_id=TOPIC, younger=80)
    assert twice.unread_below == 90


def test_uploads_made_anew_start_again() -> None:
    """If the broker has them now; the old mark says nothing of them."""
    found = judged(mark(4711), at(0, ANEW), current=ANEW)
    assert found == Judgement(Novelty.NEW, mark(0, ANEW))
    purged = judged(mark(4711), at(3, ANEW), current=ANEW, log_start=3)
    assert purged == Judgement(Novelty.NEW, mark(3, ANEW), purged=3)
    with pytest.raises(InvariantBroken, match="missing"):
        judged(mark(4711), at(3, ANEW), current=ANEW)


@pytest.mark.parametrize("offset", [0, 4711, 4712])
def test_a_topic_that_the_broker_does_not_have_stops_the_process(offset: int) -> None:
    """Neither a replay nor new: nobody knows what it is the result of."""
    with pytest.raises(InvariantBroken, match="does not have"):
        judged(mark(4711), at(offset, ANEW), current=TOPIC)


@dataclass
class Partition:
    """Results of one partition of uploads, as several inference workers append them.

    A worker starts at or below the committed offset, appends without a gap, and commits
    some of what it appended.  A worker that was deposed may go on for a while (a zombie); its
    commits are refused or not, that changes nothing here.
    """

    appended: list[int] = field(default_factory=list)
    committed: int = 0
    next_of: dict[int, int] = field(default_factory=dict)

    def start(self, worker: int, back: int) -> None:
        """A worker reads the committed offset, or an older one."""
        self.next_of[worker] = max(0, self.committed - back)

    def append(self, worker: int) -> None:
        """It appends its next result."""
        if worker in self.next_of:
            self.appended.append(self.next_of[worker])
            self.next_of[worker] += 1

    def commit(self, worker: int) -> None:
        """It commits what it appended, perhaps below what another has committed."""
        self.committed = self.next_of.get(worker, self.committed)


STEPS = st.lists(
    st.tuples(st.sampled_from(["start", "append", "append", "commit"]), st.integers(0, 3), OFFSETS),
    max_size=200,
)


def simulated(steps: list[tuple[str, int, int]]) -> list[int]:
    """What lies in the partition after these steps."""
    partition = Partition()
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
    """What a router adds to `routed`, as long as the rule lets it."""
    last = mark(-1)
    for offset in offsets:
        found = judged(last, at(offset))
        last = found.mark
        if found.appearance is Novelty.NEW:
            routed.append(offset)


@settings(max_examples=300)
@given(steps=STEPS)
def test_interleaved_workers_are_routed_once_and_in_order(
    steps: list[tuple[str, int, int]],
) -> None:
    """First appearances are in order, whatever zombies interleave."""
    appended = simulated(steps)
    routed: list[int] = []
    route(appended, routed)
    assert routed == list(range(len(set(appended))))


@settings(max_examples=200)
@given(steps=STEPS, crashes=st.sets(st.integers(0, 200)), batch=st.integers(1, 7))
def test_a_router_that_crashes_routes_no_more_and_no_less(
    steps: list[tuple[str, int, int]], crashes: set[int], batch: int
) -> None:
    """Place and mark are committed with what was routed; after a crash it starts from both."""
    appended = simulated(steps)
    place, committed, routed, tries = 0, str(mark(-1)), list[int](), 0
    while place < len(appended):
        last = ReplayMark.parse(committed, where="cutouts.shop/0")
        written = []
        for offset in appended[place : place + batch]:
            found = judged(last, at(offset))
            last = found.mark
            if found.appearance is Novelty.NEW:
                written.append(offset)
        tries += 1
        if tries in crashes:
            continue  # nothing of this transaction is seen
        routed += written
        place, committed = place + batch, str(last)
    assert routed == list(range(len(set(appended))))


@settings(max_examples=200)
@given(steps=STEPS, lost=st.data())
def test_a_result_that_was_lost_stops_the_process(
    steps: list[tuple[str, int, int]], lost: st.DataObject
) -> None:
    """If every record of one upload's result is missing, nothing after it is routed."""
    two_at_least = [("start", 0, 0), ("append", 0, 0), ("append", 0, 0)]
    appended = simulated(two_at_least + steps)
    gone = lost.draw(st.integers(0, max(appended) - 1))
    routed: list[int] = []
    with pytest.raises(InvariantBroken, match="missing"):
        route((offset for offset in appended if offset != gone), routed)
    assert routed == list(range(gone))
