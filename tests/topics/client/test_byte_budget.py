"""The bound on what waits to be sent."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasestream.topics.client.byte_budget import ByteBudget


def test_room_is_granted_at_once_while_there_is_some() -> None:
    """What fits needs no waiting."""
    budget = ByteBudget(10)
    assert budget.reserve(4).done()
    assert budget.reserve(6).done()
    assert budget.used == 10


def test_a_large_request_is_not_overtaken() -> None:
    """Who asks later waits behind who asked earlier, even if it would fit."""
    budget = ByteBudget(10)
    budget.reserve(6)
    large, small = budget.reserve(8), budget.reserve(1)
    assert not large.done()
    assert not small.done()
    budget.release(6)
    assert large.done()
    assert small.done()
    assert budget.used == 9


def test_giving_up_lets_the_next_one_go() -> None:
    """A request that is withdrawn before it was granted holds nothing up."""
    budget = ByteBudget(10)
    budget.reserve(6)
    large, small = budget.reserve(8), budget.reserve(1)
    budget.withdraw(large, 8)
    assert small.done()
    assert budget.used == 7


def test_giving_up_what_was_granted_gives_it_back() -> None:
    """The race between a timeout and the grant loses no room."""
    budget = ByteBudget(10)
    room = budget.reserve(6)
    budget.withdraw(room, 6)
    assert budget.used == 0


@pytest.mark.parametrize("size", [0, -1, 11])
def test_what_can_never_fit_is_refused(size: int) -> None:
    """A request above the bound would wait for ever, so it raises."""
    with pytest.raises(ValueError, match="never"):
        ByteBudget(10).reserve(size)


def test_waiting_for_empty_ends_when_all_is_released() -> None:
    """A flush is woken by the last release, and says so when there is none."""
    budget = ByteBudget(10)
    budget.reserve(3)
    assert not budget.wait_empty(0.0)
    release = threading.Thread(target=budget.release, args=(3,))
    release.start()
    assert budget.wait_empty(10.0)
    release.join()


@given(st.lists(st.tuples(st.integers(1, 10), st.booleans()), max_size=60))
def test_the_bound_holds_and_nothing_is_lost(steps: list[tuple[int, bool]]) -> None:
    """Whatever is asked for, given up and given back: never above the bound, empty at the end."""
    budget = ByteBudget(10)
    rooms = []
    for size, give_up in steps:
        room = budget.reserve(size)
        if give_up:
            budget.withdraw(room, size)
        else:
            rooms.append((room, size))
        assert budget.used <= budget.max_bytes
        granted = [r for r, _ in rooms]
        done = [r.done() for r in granted]
        assert done == sorted(done, reverse=True), "granted out of order"
        if done and done[0] and len(done) > 3:
            first, first_size = rooms.pop(0)
            assert first.done()
            budget.release(first_size)
    for room, size in rooms:
        assert room.done(), "room was free and nobody got it"
        budget.release(size)
    assert budget.used == 0
