"""The bound on the bytes that wait to be sent."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasestream.topics.client.byte_budget import ByteBudget


def test_free_room_is_granted_at_once() -> None:
    budget = ByteBudget(10)
    assert budget.reserve(4).done()
    assert budget.reserve(6).done()
    assert budget.used == 10


def test_a_large_request_is_not_overtaken() -> None:
    """A later request waits behind it even if it would fit."""
    budget = ByteBudget(10)
    budget.reserve(6)
    large, small = budget.reserve(8), budget.reserve(1)
    assert not large.done()
    assert not small.done()
    budget.release(6)
    assert large.done()
    assert small.done()
    assert budget.used == 9


def test_a_withdrawn_request_holds_nothing_up() -> None:
    budget = ByteBudget(10)
    budget.reserve(6)
    large, small = budget.reserve(8), budget.reserve(1)
    budget.withdraw(large, 8)
    assert small.done()
    assert budget.used == 7


def test_withdrawing_granted_room_releases_it() -> None:
    """The race between a timeout and the grant loses no room."""
    budget = ByteBudget(10)
    room = budget.reserve(6)
    budget.withdraw(room, 6)
    assert budget.used == 0


@pytest.mark.parametrize("size", [0, -1, 11])
def test_a_request_above_the_bound_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="never"):
        ByteBudget(10).reserve(size)


def test_wait_empty_ends_with_the_last_release() -> None:
    budget = ByteBudget(10)
    budget.reserve(3)
    assert not budget.wait_empty(0.0)
    release = threading.Thread(target=budget.release, args=(3,))
    release.start()
    assert budget.wait_empty(10.0)
    release.join()


@given(st.lists(st.tuples(st.integers(1, 10), st.booleans()), max_size=60))
def test_the_bound_holds_and_no_room_is_lost(steps: list[tuple[int, bool]]) -> None:
    """For any sequence of requests, withdrawals and releases."""
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
        assert room.done(), "free room was not granted"
        budget.release(size)
    assert budget.used == 0
