"""Commits and duplicates of results."""

from erasestream.schemas.ids import AccountId, UploadId
from erasestream.topics.client.ack_tracker import DeliveryTracker, ResultState
from erasestream.topics.client.delivered_results import ResultKey
from erasestream.topics.kafka.consumer.offset_committer import Commits, DueCommit
from erasestream.topics.kafka.records import Partition

A, B = Partition("ephemeral.shop", 0), Partition("ephemeral.shop", 1)


def key(name: str, account: str = "acct") -> ResultKey:
    return ResultKey.of(AccountId(account), UploadId(name))


def offsets(commits: Commits) -> dict[Partition, int]:
    return {at: each.offset for at, each in commits.items()}


def test_a_second_result_of_an_upload_is_a_duplicate() -> None:
    """Failure or cut-out; the same id of another account is another result."""
    tracker = DeliveryTracker(remember=10)
    assert tracker.track(A, 0, key("u")) is ResultState.NEW
    assert tracker.track(B, 7, key("u")) is ResultState.DUPLICATE
    assert tracker.track(B, 8, key("u", "other")) is ResultState.NEW
    tracker.acknowledge(A, 0, key("u"))
    assert tracker.track(A, 1, key("u")) is ResultState.DUPLICATE
    assert offsets(tracker.to_commit()) == {A: 2, B: 8}


def test_a_redelivered_record_still_waits_for_its_acknowledgement() -> None:
    """After a rebalance it is neither delivered twice nor committed."""
    tracker = DeliveryTracker(remember=10)
    tracker.track(A, 3, key("u"))
    tracker.revoke([A])
    assert tracker.to_commit() == {}
    assert tracker.track(A, 3, key("u")) is ResultState.DUPLICATE
    assert offsets(tracker.to_commit()) == {A: 3}
    tracker.acknowledge(A, 3, key("u"))
    assert offsets(tracker.to_commit()) == {A: 4}


def test_an_acknowledgement_while_the_partition_is_revoked_counts() -> None:
    tracker = DeliveryTracker(remember=10)
    tracker.track(A, 3, key("u"))
    tracker.revoke([A])
    tracker.acknowledge(A, 3, key("u"))
    assert tracker.track(A, 3, key("u")) is ResultState.DUPLICATE
    assert offsets(tracker.to_commit()) == {A: 4}


def test_remembered_results_are_bounded() -> None:
    """The oldest are dropped first; then they would be delivered again."""
    tracker = DeliveryTracker(remember=2)
    for offset, name in enumerate("abc"):
        tracker.track(A, offset, key(name))
    assert tracker.track(A, 3, key("c")) is ResultState.DUPLICATE
    assert tracker.track(A, 4, key("a")) is ResultState.NEW


def test_committed_offsets_are_not_committed_again() -> None:
    """An idle reader sends no commits."""
    tracker = DeliveryTracker(remember=10)
    tracker.skip(A, 0)
    assert offsets(tracker.to_commit()) == {A: 1}
    tracker.mark_committed(tracker.to_commit() | {B: DueCommit(5, "", 0, 0)})
    assert tracker.to_commit() == {}
    tracker.skip(A, 1)
    assert offsets(tracker.to_commit([A, B])) == {A: 2}


def test_a_restart_does_not_commit_again_what_it_found() -> None:
    """An acknowledgement beyond the offset is committed, as metadata; without it, none is due."""
    tracker = DeliveryTracker(remember=10)
    for offset, name in enumerate("abc"):
        tracker.track(A, offset, key(name))
    tracker.acknowledge(A, 1, key("b"))
    (due,) = tracker.to_commit().values()
    assert (due.offset, due.unsaved) == (0, 1)
    after = DeliveryTracker(remember=10)
    after.resume(A, due.offset, due.metadata)
    assert after.to_commit() == {}
    states = [after.track(A, offset, key(name)) for offset, name in enumerate("abc")]
    assert states == [ResultState.NEW, ResultState.KNOWN, ResultState.NEW]
    tracker.omit_metadata()
    assert tracker.to_commit()[A].metadata == ""


def test_acknowledgements_are_counted_until_they_are_committed() -> None:
    tracker = DeliveryTracker(remember=10)
    for offset, name in enumerate("abc"):
        tracker.track(A, offset, key(name))
    for offset, name in enumerate("ab"):
        assert tracker.acknowledge(A, offset, key(name))
        assert not tracker.acknowledge(A, offset, key(name))
    assert tracker.uncommitted == 2
    tracker.mark_committed(tracker.to_commit())
    assert tracker.uncommitted == 0
    tracker.acknowledge(A, 2, key("c"))
    assert tracker.revoke()[A].unsaved == 1
    assert tracker.uncommitted == 0


def test_a_returned_result_is_delivered_again() -> None:
    """Alone, and to this session; the next owner of a revoked partition gets it anyway."""
    tracker = DeliveryTracker(remember=10)
    for offset, name in enumerate("ab"):
        tracker.track(A, offset, key(name))
    tracker.return_at(A, 0, due_s=1.0)
    tracker.return_at(B, 0, due_s=1.0)
    assert tracker.begin_passes(0.5) == {}
    assert tracker.begin_passes(1.0) == {A: 0}
    states = [tracker.track(A, offset, key(name)) for offset, name in enumerate("ab")]
    assert states == [ResultState.NEW, ResultState.KNOWN]
    assert offsets(tracker.to_commit()) == {A: 0}


def test_a_seek_back_delivers_acknowledged_results_again() -> None:
    """And all before it needs no acknowledgement any more, once it is read from there."""
    tracker = DeliveryTracker(remember=10)
    for offset, name in enumerate("abc"):
        tracker.track(A, offset, key(name))
    tracker.acknowledge(A, 2, key("c"))
    tracker.seek(A, 1)
    assert tracker.to_commit() == {}
    states = [tracker.track(A, offset, key(name)) for offset, name in ((1, "b"), (2, "c"))]
    assert states == [ResultState.NEW, ResultState.NEW]
    assert offsets(tracker.to_commit()) == {A: 1}


def test_a_seek_beyond_the_end_hides_nothing() -> None:
    """The client then begins with the oldest record."""
    tracker = DeliveryTracker(remember=10)
    tracker.track(A, 7, key("a"))
    tracker.seek(A, 1000)
    assert tracker.track(A, 3, key("b")) is ResultState.NEW
    assert offsets(tracker.to_commit()) == {A: 3}
