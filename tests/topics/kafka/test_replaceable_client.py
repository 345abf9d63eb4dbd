"""A client is closed when it was replaced, and never while a thread uses it."""

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from erasestream.schemas.errors import ClientClosed
from erasestream.topics.kafka.replaceable_client import ReplaceableClient


class Handle:
    """A client that counts its users' calls, and fails them once it is closed."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.closed = 0

    def call(self) -> int:
        assert not self.closed
        return self.number

    def close(self) -> None:
        self.closed += 1


class Opened:
    """Every handle that was opened, and the clients that lend them."""

    def __init__(self) -> None:
        self.handles: list[Handle] = []
        self.clients = ReplaceableClient(self._open, Handle.close)

    def _open(self) -> Handle:
        self.handles.append(Handle(len(self.handles)))
        return self.handles[-1]

    @property
    def closed(self) -> list[int]:
        return [handle.closed for handle in self.handles]


def test_a_replaced_client_is_closed_at_once_if_it_is_unused() -> None:
    opened = Opened()
    with opened.clients.use() as first:
        pass
    opened.clients.replace(first)
    assert opened.closed == [1, 0]
    with opened.clients.use() as second:
        assert second.call() == 1


def test_a_replaced_client_stays_open_while_it_is_used() -> None:
    opened = Opened()
    with opened.clients.use() as first, opened.clients.use() as again:
        opened.clients.replace(first)
        with opened.clients.use() as second:
            assert (first.call(), again.call(), second.call()) == (0, 0, 1)
        assert opened.closed == [0, 0]
    assert opened.closed == [1, 0]


def test_a_client_is_replaced_once_however_many_ask() -> None:
    opened = Opened()
    with opened.clients.use() as first:
        for _ in range(3):
            opened.clients.replace(first)
    assert opened.closed == [1, 0]


def test_a_used_client_is_closed_after_its_exception() -> None:
    opened = Opened()

    def fail() -> None:
        with opened.clients.use() as first:
            opened.clients.replace(first)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert opened.closed == [1, 0]


def test_nothing_is_lent_after_close() -> None:
    opened = Opened()
    with opened.clients.use() as first:
        opened.clients.close()
        opened.clients.close()
        assert first.call() == 0
        opened.clients.replace(first)
        with pytest.raises(ClientClosed), opened.clients.use():
            pass
    assert opened.closed == [1]


def test_the_current_client_stays_when_no_other_can_be_opened() -> None:
    numbers = count()

    def open_once() -> Handle:
        if (number := next(numbers)) > 0:
            raise ZeroDivisionError
        return Handle(number)

    clients = ReplaceableClient(open_once, Handle.close)
    with clients.use() as first, pytest.raises(ZeroDivisionError):
        clients.replace(first)
    with clients.use() as still:
        assert still.call() == 0


def test_threads_replace_and_use_at_once() -> None:
    opened = Opened()
    start = threading.Barrier(8)

    def work(number: int) -> None:
        start.wait()
        for turn in range(300):
            with opened.clients.use() as handle:
                handle.call()
                if turn % 8 == number:
                    opened.clients.replace(handle)
                handle.call()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    opened.clients.close()
    assert set(opened.closed) == {1}
