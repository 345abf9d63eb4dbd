"""No worker is idle while there are partitions for it, and few partitions move."""

from collections import Counter
from collections.abc import Iterable, Mapping

from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from erasestream.pipeline.stages.inference.worker.sticky_assignment import assign

TOPICS = [f"uploads.lane-{number}" for number in range(50)]
PARTITIONS = [TP(topic, number) for topic in TOPICS for number in range(4)]

Shares = dict[str, set[TP]]


def workers(count: int) -> list[str]:
    return [f"worker-{number}" for number in range(count)]


def assigned(members: Iterable[str], previous: Mapping[str, Iterable[TP]]) -> Shares:
    """Assign all partitions to members that subscribe to all topics."""
    subscriptions = dict.fromkeys(members, TOPICS)
    return assign(PARTITIONS, subscriptions=subscriptions, previous=previous)


def loads(shares: Shares) -> list[int]:
    return sorted(map(len, shares.values()))


def moved(before: Mapping[str, Iterable[TP]], after: Shares) -> int:
    """Count the partitions that another member has now."""
    return sum(len(set(owned) - after.get(member, set())) for member, owned in before.items())


def test_no_worker_is_idle() -> None:
    """Fifty lanes of four partitions: ten for each of 20 workers, one for each of 200."""
    assert loads(assigned(workers(20), {})) == [10] * 20
    assert loads(assigned(workers(200), {})) == [1] * 200


def test_only_the_partitions_of_a_worker_that_leaves_move() -> None:
    before = assigned(workers(20), {})
    after = assigned(workers(19), before)
    assert moved(before, after) == 10
    assert loads(after) == [10] * 9 + [11] * 10


def test_a_new_worker_gets_its_share_and_no_other_partition_moves() -> None:
    before = assigned(workers(19), {})
    after = assigned(workers(20), before)
    assert moved(before, after) == 10
    assert loads(after) == [10] * 20


def test_the_partitions_of_a_lane_are_spread_over_workers() -> None:
    """Also after the first worker had all of them."""
    shares = assigned(workers(1), {})
    for count in (2, 4):
        shares = assigned(workers(count), shares)
        for topic in TOPICS:
            have = Counter(
                member for member, owned in shares.items() for at in owned if at.topic == topic
            )
            assert sorted(have.values()) == [4 // count] * count


def test_partitions_move_along_a_chain_of_subscriptions() -> None:
    """A worker of an earlier configuration knows some of the lanes only."""
    shares = assign(
        [TP("x", 0), TP("y", 0), TP("y", 1)],
        subscriptions={"a": ["x"], "b": ["x", "y"], "c": ["y"]},
        previous={"b": [TP("x", 0)], "c": [TP("y", 0), TP("y", 1)]},
    )
    assert shares["a"] == {TP("x", 0)}
    assert loads(shares) == [1, 1, 1]


topics = st.sampled_from(["a", "b", "c"])
pairs = st.builds(TP, topics, st.integers(0, 5))
names = st.sampled_from(workers(6))
claims = st.dictionaries(names, st.lists(pairs))


@given(st.sets(pairs), st.sets(names, min_size=1), claims)
def test_equal_subscriptions(
    partitions: set[TP], members: set[str], previous: dict[str, list[TP]]
) -> None:
    """All is assigned, once and evenly, and no even assignment lets members keep more."""
    shares = assign(partitions, subscriptions=dict.fromkeys(members, "abc"), previous=previous)
    assert sorted(at for owned in shares.values() for at in owned) == sorted(partitions)
    assert shares.keys() == members
    assert max(loads(shares)) - min(loads(shares)) <= 1
    fewest, rest = divmod(len(partitions), len(members))
    had = _undisputed(partitions, members, previous)
    most_first = sorted(map(len, had.values()), reverse=True)
    keepable = sum(min(have, fewest + (n < rest)) for n, have in enumerate(most_first))
    kept = sum(len(owned & shares[member]) for member, owned in had.items())
    assert kept == keepable


def _undisputed(partitions: set[TP], members: set[str], previous: dict[str, list[TP]]) -> Shares:
    """Return what members had; of two that claim a partition, the first by name had it."""
    had: Shares = {}
    left = set(partitions)
    for member in sorted(members):
        had[member] = left.intersection(previous.get(member, ()))
        left -= had[member]
    return had


@given(st.sets(pairs), st.dictionaries(names, st.sets(topics)), claims)
def test_any_subscriptions(
    partitions: set[TP], subscriptions: dict[str, set[str]], previous: dict[str, list[TP]]
) -> None:
    """Each partition is a subscriber's, and no single move would even the numbers out further."""
    shares = assign(partitions, subscriptions=subscriptions, previous=previous)
    subscribed = set().union(*subscriptions.values())
    wanted = {at for at in partitions if at.topic in subscribed}
    assert sorted(at for owned in shares.values() for at in owned) == sorted(wanted)
    for member, owned in shares.items():
        for at in owned:
            assert at.topic in subscriptions[member]
            subscribers = [each for each, topics in subscriptions.items() if at.topic in topics]
            assert all(len(shares[each]) + 1 >= len(owned) for each in subscribers)
