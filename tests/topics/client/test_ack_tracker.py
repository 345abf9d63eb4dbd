"""What may be committed, and what is a duplicate."""

from hypothesis import given
from hypothesis import strategies as st

from erasestream.schemas.ids import AccountId, UploadId
from erasestream.topics.client.ack_tracker import DeliveryTracker, Progress, ResultKey, Seen
from erasestream.topics.kafka.records import Partition

A, B = Partition("ephemeral.shop", 0), Partition("ephemeral.shop", 1)


def key(name: str, account: str = "acct") -> ResultKey:
    """The key of a result."""
    return ResultKey.of(AccountId(account), UploadId(name))


def test_nothing_is_committed_before_the_first_record() -> None:
    """A partition that gave no record yet is left where it was."""
    assert Progress().committable is None


def test_a_hole_holds_the_commit_back() -> None:
    """The offset stays at the first result that is not acknowledged."""
    progress = Progress()
    for offset in (5, 6, 9):
        progress.hand_out(offset)
    progress.acknowledge(6)
    progress.acknowledge(9)
    assert progress.committable == 5
    progress.acknowledge(5)
    assert progress.committable == 10


@given(
    st.lists(st.tuples(st.integers(1, 3), st.booleans()), min_size=1, max_size=40),
    st.randoms(use_true_random=False),
)
def test_no_unacknowledged_result_lies_below_the_commit(
    steps: list[tuple[int, bool]], random: object
) -> None:
    """In any order of acknowledgements: never past an open result, and at the end behind all."""
    progress, offset, open_offsets = Progress(), 0, []
    for gap, handed_out in steps:
        offset += gap
        if handed_out:
            progress.hand_out(offset)
            open_offsets.append(offset)
        else:
            progress.read(offset)
    random.shuffle(open_offsets)  # type: ignore[attr-defined]
    while open_offsets:
        assert progress.committable == min(open_offsets)
        progress.acknowledge(open_offsets.pop())
    assert progress.committable == offset + 1


def test_a_second_result_of_an_upload_is_a_duplicate() -> None:
    """The same account and id are handed out once, be it failure or cut-out.

    Another account's id is another result.
    """
    session = DeliveryTracker(remember=10)
    assert session.see(A, 0, key("u")) is Seen.NEW
    assert session.see(B, 7, key("u")) is Seen.HANDED_OUT
    assert session.see(B, 8, key("u", "other")) is Seen.NEW
    session.acknowledge(A, 0, key("u"))
    assert session.see(A, 1, key("u")) is Seen.DONE
    assert session.to_commit() == {A: 2, B: 8}


def test_a_record_that_comes_again_still_waits_for_its_acknowledgement() -> None:
    """After a rebalance the same record is not handed out twice, nor committed unacknowledged."""
    session = DeliveryTracker(remember=10)
    session.see(A, 3, key("u"))
    session.lose([A])
    assert session.to_commit() == {}
    assert session.see(A, 3, key("u")) is Seen.HANDED_OUT
    assert session.to_commit() == {A: 3}
    session.acknowledge(A, 3, key("u"))
    assert session.to_commit() == {A: 4}


def test_an_acknowledgement_while_the_partition_is_elsewhere_counts() -> None:
    """What was acknowledged meanwhile is done when the partition comes back."""
    session = DeliveryTracker(remember=10)
    session.see(A, 3, key("u"))
    session.lose([A])
    session.acknowledge(A, 3, key("u"))
    assert session.see(A, 3, key("u")) is Seen.DONE
    assert session.to_commit() == {A: 4}


def test_what_is_remembered_is_bounded() -> None:
    """The oldest results are forgotten first; then they would be handed out again."""
    session = DeliveryTracker(remember=2)
    for offset, name in enumerate("abc"):
        session.see(A, offset, key(name))
    assert session.see(A, 3, key("c")) is Seen.HANDED_OUT
    assert session.see(A, 4, key("a")) is Seen.NEW


def test_what_was_committed_is_not_committed_again() -> None:
    """An idle reader sends no commits."""
    session = DeliveryTracker(remember=10)
    session.skip(A, 0)
    assert session.to_commit() == {A: 1}
    session.committed({A: 1, B: 5})
    assert session.to_commit() == {}
    session.skip(A, 1)
    assert session.to_commit([A, B]) == {A: 2}
