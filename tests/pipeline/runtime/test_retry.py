"""Retries end when the dependency is back, the stage stops or the deadline passes."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from erasestream.pipeline.runtime.retry import OutageLog, PausedAttempts, RetryUntilStopped
from erasestream.schemas.clocks import Deadline
from erasestream.schemas.errors import Code, InvariantBroken, Unavailable
from tests.flow.waiting import eventually


class Dependency:
    """Fails the given number of times, then answers."""

    def __init__(self, failures: float, on_call: Callable[[int], object] = lambda _: None) -> None:
        self.failures = failures
        self.calls = 0
        self._on_call = on_call

    def __call__(self) -> str:
        self.calls += 1
        self._on_call(self.calls)
        if self.calls <= self.failures:
            raise Unavailable(f"call {self.calls}")
        return "answer"


@pytest.fixture
def stopping() -> threading.Event:
    return threading.Event()


@pytest.fixture
def waits(caplog: pytest.LogCaptureFixture) -> Callable[[], list[object]]:
    """Return the reasons of the outages that were logged."""
    return lambda: [record.__dict__["reason"] for record in caplog.records]


def test_retries_until_it_succeeds_and_logs_once(
    stopping: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    retry = RetryUntilStopped(stopping, retry_s=0, event="waiting_for_it")
    dependency = Dependency(failures=3)
    assert retry.call(dependency) == "answer"
    assert dependency.calls == 4
    (line,) = caplog.records
    assert (line.msg, line.__dict__["code"], line.__dict__["reason"]) == (
        "waiting_for_it",
        Code.BROKER_UNAVAILABLE,
        "call 1",
    )


def test_each_outage_is_logged(
    stopping: threading.Event, waits: Callable[[], list[object]]
) -> None:
    retry = RetryUntilStopped(stopping, retry_s=0)
    for _ in range(2):
        retry.call(Dependency(failures=2))
    assert waits() == ["call 1", "call 1"]


def test_other_errors_are_not_retried(
    stopping: threading.Event, waits: Callable[[], list[object]]
) -> None:
    calls = []

    def broken() -> None:
        calls.append(1)
        raise InvariantBroken

    with pytest.raises(InvariantBroken):
        RetryUntilStopped(stopping, retry_s=0).call(broken)
    assert (len(calls), waits()) == (1, [])


def test_raises_the_last_error_once_the_stage_is_to_stop(stopping: threading.Event) -> None:
    dependency = Dependency(float("inf"), lambda call: call == 3 and stopping.set())
    with pytest.raises(Unavailable, match="call 3"):
        RetryUntilStopped(stopping, retry_s=0).call(dependency)


def test_the_stopping_event_ends_a_pause(stopping: threading.Event) -> None:
    retry = RetryUntilStopped(stopping, retry_s=3600)
    dependency = Dependency(float("inf"))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(retry.call, dependency)
        eventually("the first attempt fails", lambda: dependency.calls)
        stopping.set()
        assert isinstance(answer.exception(60), Unavailable)


def test_pauses_grow_and_no_two_callers_wait_equally_long() -> None:
    """Each is between half and all of 1, 2, 4, then 5 s."""
    stopping = RecordedPauses()
    for _ in range(20):
        RetryUntilStopped(stopping).call(Dependency(failures=5))
    rounds = [stopping.waits_s[at : at + 5] for at in range(0, 100, 5)]
    for number, longest_s in enumerate((1, 2, 4, 5, 5)):
        pauses = [each[number] for each in rounds]
        assert all(longest_s / 2 <= pause_s <= longest_s for pause_s in pauses)
        assert len(set(pauses)) == len(pauses)


class RecordedPauses(threading.Event):
    """An event that ends each pause at once, and keeps how long it was to be."""

    def __init__(self) -> None:
        super().__init__()
        self.waits_s: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits_s.append(timeout or 0)
        return self.is_set()


def test_raises_once_the_deadline_has_passed(stopping: threading.Event) -> None:
    clock = iter([0.0, 1.0, 1.0, 9.0])
    deadline = Deadline(5, lambda: next(clock))
    dependency = Dependency(float("inf"))
    with pytest.raises(Unavailable, match="call 2"):
        RetryUntilStopped(stopping, retry_s=0).call(dependency, deadline=deadline)


def test_of_calls_that_wait_together_the_first_is_logged(
    stopping: threading.Event, waits: Callable[[], list[object]]
) -> None:
    retry = RetryUntilStopped(stopping, retry_s=3600)
    dependencies = [Dependency(float("inf")) for _ in range(4)]
    with ThreadPoolExecutor(len(dependencies)) as pool:
        answers = [pool.submit(retry.call, dependency) for dependency in dependencies]
        eventually("all wait", lambda: waits() and all(each.calls for each in dependencies))
        stopping.set()
        assert all(isinstance(answer.exception(60), Unavailable) for answer in answers)
    assert waits() == ["call 1"]


@pytest.fixture
def outage() -> OutageLog:
    return OutageLog()


def test_an_outage_over_several_rounds_is_logged_once(
    outage: OutageLog, waits: Callable[[], list[object]]
) -> None:
    for number in range(3):
        outage.report(Unavailable(f"round {number}"))
        outage.report(Unavailable(f"round {number}, another"))
        assert outage.end_round()
    assert waits() == ["round 0"]


def test_an_outage_ends_with_a_round_without_errors(
    outage: OutageLog, waits: Callable[[], list[object]]
) -> None:
    for _ in range(2):
        outage.report(Unavailable("broker"))
        assert outage.end_round()
        assert not outage.end_round()
    assert waits() == ["broker", "broker"]


class PausingLoop(asyncio.SelectorEventLoop):
    """Notes pauses, and does not wait for them."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        self.pauses.append(delay)
        return super().call_later(0, callback, *args, context=context)


async def attempts(most: int | None, succeeds_at: int | None) -> list[int]:
    numbers = list[int]()
    async for number in PausedAttempts(3.0, most=most):
        numbers.append(number)
        if number == succeeds_at:
            break
    return numbers


@pytest.mark.parametrize(
    ("most", "succeeds_at", "begun", "pauses"),
    [(None, 1, 1, 0), (None, 4, 4, 3), (3, 2, 2, 1), (3, None, 3, 3), (0, None, 0, 0)],
)
def test_a_pause_follows_each_attempt_that_failed(
    most: int | None, succeeds_at: int | None, begun: int, pauses: int
) -> None:
    with asyncio.Runner(loop_factory=PausingLoop) as runner:
        numbers = runner.run(attempts(most, succeeds_at))
        loop = runner.get_loop()
        assert isinstance(loop, PausingLoop)
        assert (numbers, loop.pauses) == ([*range(1, begun + 1)], [3.0] * pauses)
