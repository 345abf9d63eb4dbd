"""A call is made once for all threads that wait for its answer."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from erasestream.sinks.keys.shared_calls import SharedCalls
from tests.flow.waiting import eventually

THREADS = 8


class Key:
    """A key that counts how often it was looked up."""

    lookups = 0

    def __hash__(self) -> int:
        self.lookups += 1
        return 1


class Fetch:
    """Waits until it may answer; its first call may fail."""

    def __init__(self, *, fails: bool) -> None:
        self.calls = 0
        self.gate = threading.Event()
        self._fails = fails

    def __call__(self) -> int:
        self.calls += 1
        assert self.gate.wait(60)
        if self._fails and self.calls == 1:
            raise KeyError
        return self.calls


@pytest.mark.parametrize("fails", [False, True])
def test_threads_that_need_the_same_answer_share_a_call(fails: bool) -> None:
    """And what it raises; the next call is made again."""
    shared, key = SharedCalls[Key, int](), Key()
    fetch = Fetch(fails=fails)

    def ask(_: int) -> int:
        try:
            return shared.call(key, fetch)
        except KeyError:
            return 0

    with ThreadPoolExecutor(THREADS) as pool:
        answers = pool.map(ask, range(THREADS))
        # The first thread looks it up once more, to set it.
        eventually("all have asked", lambda: key.lookups == THREADS + 1)
        assert shared.call(Key(), lambda: 7) == 7
        fetch.gate.set()
        assert list(answers) == [0 if fails else 1] * THREADS
    assert shared.call(key, fetch) == 2
