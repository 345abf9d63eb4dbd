"""Commits and duplicates of results."""

from hypothesis import given
from hypothesis import strategies as st

from erasestream.schemas.ids import AccountId, UploadId
from erasestream.topics.client.ack_tracker import (
    DeliveryTracker,
    PartitionProgress,
    ResultKey,
    ResultState,
)
from erasestream.topics.kafka.records import Partition

A, B = Partition("ephemeral.shop", 0), Partition("ephemeral.shop", 1)


def key(name: str, account: str = "acct") -> ResultKey:
    return ResultKey.of(AccountId(account), UploadId(name))


def test_nothing_is_committed_before_the_first_record() -> None:
    assert PartitionProgress().committable is None


def test_an_unacknowledged_record_holds_the_commit_back() -> None:
    progress = PartitionProgress()
    for offset in (5, 6, 9):
        progress.deliver(offset)
    progress.acknowledge(6)
    progress.acknowledge(9)
    assert progress.committable == 5
    progress.acknowledge(5)
    assert progress.committable == 10


@given(
    st.lists(st.tuples(st.integers(1, 3), st.booleans()), min_size=1, max_size=40),
    st.randoms(use_true_random=False),
)
def test_no_unacknowledged_result_is_below_the_commit(
    steps: list[tuple[int, bool]], random: object
) -> None:
    """In any order of acknowledgements; at the end everything is committed."""
    progress, offset, open_offsets = PartitionProgress(), 0, []
    for gap, handed_out in steps:
        offset += gap
        if handed_out:
            progress.deliver(offset)
            open_offsets.append(offset)
        else:
            progress.skip(offset)
    random.shuffle(open_offsets)  # type: ignore[attr-defined]
    while open_offsets:
        assert progress.committable == min(open_offsets)
        progress.acknowledge(open_offsets.pop())
    assert progress.committable == offset + 1


def test_a_second_result_of_an_upload_is_a_duplicate() -> None:
    """Failure or cut-out; the same id of another account is another result."""
    tracker = DeliveryTracker(remember=10)
    assert tracker.track(A, 0, key("u")) is ResultState.NEW
    assert tracker.track(B, 7, key("u")) is ResultState.DELIVERED
    assert tracker.track(B, 8, key("u", "other")) is ResultState.NEW
    tracker.acknowledge(A, 0, key("u"))
    assert tracker.track(A, 1, key("u")) is ResultState.ACKNOWLEDGED
    assert tracker.to_commit() == {A: 2, B: 8}


def test_a_redelivered_record_still_waits_for_its_acknowledgement() -> None:
    """After a rebalance it is neither delivered twice nor committed."""
    tracker = DeliveryTracker(remember=10)
    tracker.track(A, 3, key("u"))
    tracker.revoke([A])
    assert tracker.to_commit() == {}
    assert tracker.track(A, 3, key("u")) is ResultState.DELIVERED
    assert tracker.to_commit() == {A: 3}
    tracker.acknowledge(A, 3, key("u"))
    assert tracker.to_commit() == {A: 4}


def test_an_acknowledgement_while_the_partition_is_revoked_counts() -> None:
    tracker = DeliveryTracker(remember=10)
    tracker.track(A, 3, key("u"))
    tracker.revoke([A])
    tracker.acknowledge(A, 3, key("u"))
    assert tracker.track(A, 3, key("u")) is ResultState.ACKNOWLEDGED
    assert tracker.to_commit() == {A: 4}


def test_remembered_results_are_bounded() -> None:
    """The oldest are dropped first; then they would be delivered again."""
    tracker = DeliveryTracker(remember=2)
    for offset, name in enumerate("abc"):
        tracker.track(A, offset, key(name))
    assert tracker.track(A, 3, key("c")) is ResultState.DELIVERED
    assert tracker.track(A, 4, key("a")) is ResultState.NEW


def test_committed_offsets_are_not_committed_again() -> None:
    """An idle reader sends no commits."""
    tracker = DeliveryTracker(remember=10)
    tracker.skip(A, 0)
    assert tracker.to_commit() == {A: 1}
    tracker.mark_committed({A: 1, B: 5})
    assert tracker.to_commit() == {}
    tracker.skip(A, 1)
    assert tracker.to_commit([A, B]) == {A: 2}
