"""Fetching in parallel: in order, bounded in bytes, and no longer than it is asked for."""

import threading
from typing import NamedTuple

import pytest

from erasestream.sinks.images.prefetch import prefetched
from tests.flow.waiting import eventually


class Thing(NamedTuple):
    """A thing to be fetched."""

    number: int
    size: int


def test_what_is_fetched_comes_in_the_order_of_the_list() -> None:
    """However long each takes."""
    gate = threading.Event()

    def fetch(thing: Thing) -> int:
        if thing.number == 3:
            gate.set()
        assert thing.number or gate.wait(60)
        return -thing.number

    things = [Thing(number, 1) for number in range(50)]
    found = list(prefetched(things, fetch, threads=4, max_bytes=1000, stop=gate.set))
    assert found == [(thing, -thing.number) for thing in things]


@pytest.mark.parametrize(("size", "ahead"), [(10, 3), (30, 1), (1000, 1)])
def test_bytes_ahead_are_bounded(size: int, ahead: int) -> None:
    """Of 30; one thing is always fetched, however large."""
    begun: list[int] = []
    things = (Thing(number, size) for number in range(8))
    fetched = prefetched(
        things,
        lambda thing: begun.append(thing.number),
        threads=8,
        max_bytes=30,
        stop=lambda: None,
    )
    for asked, _ in enumerate(fetched):
        assert len(begun) <= asked + ahead
    assert sorted(begun) == list(range(8))


def test_nothing_more_is_fetched_once_the_iteration_ends() -> None:
    """Its threads end, though one of them would retry for as long as a bucket is unavailable."""
    begun: list[int] = []
    stopped = threading.Event()

    def fetch(thing: Thing) -> None:
        begun.append(thing.number)
        assert thing.number == 0 or stopped.wait(60)

    things = (Thing(number, 1) for number in range(1000))
    fetched = prefetched(things, fetch, threads=2, max_bytes=100, stop=stopped.set)
    next(fetched)
    fetched.close()  # type: ignore[attr-defined]
    assert len(begun) <= 8
    eventually(
        "its threads have ended",
        lambda: not any(each.name.startswith("reader") for each in threading.enumerate()),
    )


def test_an_error_ends_the_iteration() -> None:
    def fetch(thing: Thing) -> int:
        return 1 // thing.number

    with pytest.raises(ZeroDivisionError):
        list(
            prefetched(
                [Thing(1, 1), Thing(0, 1)], fetch, threads=2, max_bytes=100, stop=lambda: None
            )
        )
