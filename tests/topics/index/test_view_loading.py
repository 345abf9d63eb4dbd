"""The index is loaded partition by partition."""

from collections.abc import Iterable
from datetime import UTC, datetime
from types import SimpleNamespace

from erasestream.schemas.ids import Lane
from erasestream.topics.index.view import ImageIndexView
from erasestream.topics.kafka.records import Partition

NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Scripted:
    """A compacted view: the test sets what is applied, and how far it gets."""

    def __init__(self) -> None:
        self.applied = dict[Partition, int]()
        self.reached = set[Partition]()

    def assign(self, partitions: Iterable[Partition], _apply: object) -> None:
        self.applied = dict.fromkeys(partitions, 0)

    def catch_up_reachable(self, asked: set[Partition], *, deadline_s: float) -> set[Partition]:
        assert deadline_s > 0
        return asked & self.reached


def test_what_arrives_in_loaded_partitions_is_no_progress() -> None:
    """Otherwise a partition that cannot be read would be waited for as long as there is traffic."""
    scripted = Scripted()
    index = ImageIndexView(
        scripted,  # type: ignore[arg-type]
        SimpleNamespace(),  # type: ignore[arg-type]
        Lane("shop"),
        partitions=2,
        now=lambda: NOW,
    )
    unreadable, *others = scripted.applied
    scripted.applied = dict.fromkeys(scripted.applied, 10)
    assert index.loading == 30
    scripted.reached = set(others)
    index.follow(0)
    assert (index.loading, index.is_loaded) == (10, False)
    scripted.applied |= dict.fromkeys(others, 10_000)
    assert index.loading == 10
    scripted.reached = {unreadable}
    index.follow(0)
    assert (index.loading, index.is_loaded) == (0, True)
