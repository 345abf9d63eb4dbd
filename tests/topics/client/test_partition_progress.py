"""Reading, acknowledging and returning records of one partition."""

from hypothesis import given
from hypothesis import strategies as st

from erasestream.topics.client.acknowledged_offsets import MAX_BYTES, from_metadata
from erasestream.topics.client.partition_progress import PartitionProgress, Reading


def delivered(*offsets: int) -> PartitionProgress:
    """Return the progress after these records were read and delivered."""
    progress = PartitionProgress()
    for offset in offsets:
        assert progress.read(offset) is Reading.NEW
        progress.deliver(offset)
    return progress


def restarted(before: PartitionProgress) -> PartitionProgress:
    """Return the progress of the next member, from what this one commits."""
    committed = before.committable
    assert committed is not None
    return PartitionProgress(committed, from_metadata(committed, before.metadata(MAX_BYTES)))


def test_nothing_is_committed_before_the_first_record() -> None:
    progress = PartitionProgress()
    assert progress.committable is None
    assert progress.metadata(MAX_BYTES) == ""


def test_an_unacknowledged_record_holds_the_commit_back() -> None:
    progress = delivered(5, 6, 9)
    assert progress.acknowledge(6)
    assert progress.acknowledge(9)
    assert not progress.acknowledge(9)
    assert progress.committable == 5
    progress.acknowledge(5)
    assert progress.committable == 10
    assert progress.acknowledgements == 3


def test_what_is_passed_at_the_end_is_committed_once_all_is_acknowledged() -> None:
    """The end never takes the commit back, and never past an unacknowledged record."""
    progress = delivered(5)
    progress.pass_to(7)
    progress.pass_to(6)
    assert progress.committable == 5
    progress.acknowledge(5)
    assert progress.committable == 7


@given(
    st.lists(st.tuples(st.integers(1, 3), st.booleans()), min_size=1, max_size=40),
    st.randoms(use_true_random=False),
)
def test_a_restart_redelivers_exactly_what_is_not_acknowledged(
    steps: list[tuple[int, bool]], random: object
) -> None:
    """In any order of acknowledgements, after any of them; a second restart forgets nothing."""
    progress, offset, waiting = PartitionProgress(), 0, []
    offsets = []
    for gap, is_delivered in steps:
        offset += gap
        offsets.append(offset)
        assert progress.read(offset) is Reading.NEW
        if is_delivered:
            progress.deliver(offset)
            waiting.append(offset)
    random.shuffle(waiting)  # type: ignore[attr-defined]
    while waiting:
        assert progress.committable == min(waiting)
        next_one = restarted(progress)
        next_one.read(min(waiting))
        next_one.deliver(min(waiting))
        second = restarted(next_one)
        read = [each for each in offsets if each >= min(waiting)]
        assert [each for each in read if second.read(each) is Reading.NEW] == sorted(waiting)
        progress.acknowledge(waiting.pop())
    assert progress.committable == offset + 1


def test_a_log_that_was_cut_makes_remembered_offsets_void() -> None:
    """They may name other records now."""
    progress = PartitionProgress(10, [range(11, 20)])
    assert progress.read(3) is Reading.NEW
    assert progress.read(12) is Reading.NEW


def test_returned_records_come_again_once_they_are_due() -> None:
    """In one pass, which passes what was read before; a second pass waits for something else."""
    progress = delivered(1, 2, 3, 4)
    progress.return_at(2, due_s=5.0)
    progress.return_at(4, due_s=6.0)
    assert progress.begin_pass(4.9) is None
    assert progress.begin_pass(6.0) == 2
    assert [progress.read(offset) for offset in (2, 3, 4)] == [
        Reading.RETURNED,
        Reading.KNOWN,
        Reading.RETURNED,
    ]
    progress.return_at(2, due_s=0.0)
    assert progress.begin_pass(7.0) is None
    progress.nothing_left()
    assert progress.begin_pass(7.0) == 2
    assert progress.read(2) is Reading.RETURNED
    assert progress.read(5) is Reading.NEW
    assert progress.committable == 1


def test_a_record_that_is_returned_again_and_again_does_not_stop_the_others() -> None:
    progress = delivered(1)
    for offset in (2, 3, 4):
        progress.return_at(1, due_s=0.0)
        assert progress.begin_pass(1.0) == 1
        assert progress.read(1) is Reading.RETURNED
        progress.return_at(1, due_s=0.0)
        assert progress.begin_pass(1.0) is None
        assert progress.read(offset) is Reading.NEW


def test_an_acknowledgement_ends_a_return() -> None:
    """Before it is due, and during the pass; returning what is acknowledged does nothing."""
    progress = delivered(1, 2)
    progress.return_at(1, due_s=0.0)
    progress.acknowledge(1)
    progress.return_at(1, due_s=0.0)
    assert progress.begin_pass(1.0) is None
    progress.return_at(2, due_s=0.0)
    assert progress.begin_pass(1.0) == 2
    progress.acknowledge(2)
    assert progress.read(2) is Reading.KNOWN
    assert progress.committable == 3


def test_a_returned_record_that_was_deleted_counts_as_acknowledged() -> None:
    """Whether another record comes, or the end of the partition."""
    progress = delivered(1, 2, 3)
    progress.return_at(1, due_s=0.0)
    assert progress.begin_pass(1.0) == 1
    assert progress.read(2) is Reading.KNOWN
    assert progress.committable == 2
    progress.nothing_left()
    progress.return_at(2, due_s=0.0)
    assert progress.begin_pass(1.0) == 2
    progress.pass_to(4)
    assert progress.committable == 3
