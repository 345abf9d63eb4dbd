"""The stage's turns: none waits for a broker that does not answer."""

from collections import deque
from concurrent.futures import Future
from datetime import date
from types import SimpleNamespace

import pytest

from erasestream.pipeline.gateway.stage import MAX_RECORDING, GatewayStage, UsedKeys
from erasestream.pipeline.runtime.heartbeat_schedule import HeartbeatSchedule
from erasestream.schemas.errors import Refused, Unavailable
from erasestream.topics.kafka.producer.acknowledged_writer import Written

TODAY = date(2026, 3, 1)


class Records:
    """Records whose brokers answer when the test wants it."""

    def __init__(self) -> None:
        self.begun = list[Future[Written]]()
        self.outcomes = deque[BaseException | None]()

    def begin_use(self, _key_id: str, _day: date) -> Future[Written]:
        self.begun.append(Future())
        return self.begun[-1]

    def poll(self, answers: list[Future[Written]]) -> None:
        for answer in list(answers):
            if not self.outcomes:
                return
            if (error := self.outcomes.popleft()) is None:
                answer.set_result(Written(None, 0))  # type: ignore[arg-type]
            else:
                answer.set_exception(error)


class Turns:
    """A stage without a server; counts how often it has followed the keys, and its heartbeats."""

    def __init__(self) -> None:
        self.records, self.used = Records(), UsedKeys()
        self.followed = self.beats = 0
        self.keys = SimpleNamespace(follow=self.follow, is_fresh=False, applied=7)
        self.core = SimpleNamespace(failure=None, index=SimpleNamespace(loading=100))
        self.stage = GatewayStage(
            server=SimpleNamespace(port=1),  # type: ignore[arg-type]
            serving=Future(),
            core=self.core,  # type: ignore[arg-type]
            keys=self.keys,  # type: ignore[arg-type]
            records=self.records,
            used=self.used,
            heartbeats=HeartbeatSchedule(beat=self.beat, every_s=60, clock=lambda: 0.0),
            tls=SimpleNamespace(renew=lambda: False),  # type: ignore[arg-type]
        )

    def follow(self, _timeout_s: float) -> None:
        self.followed += 1

    def beat(self) -> None:
        self.beats += 1
        raise Unavailable("brokers")


@pytest.fixture
def turns() -> Turns:
    return Turns()


def test_the_keys_are_followed_while_uses_wait_for_a_broker(turns: Turns) -> None:
    for n in range(MAX_RECORDING + 10):
        turns.used.note(f"key-{n}", TODAY)
        turns.used.note(f"key-{n}", TODAY)
    for _ in range(3):
        turns.stage.run_once(0)
    assert (turns.followed, turns.beats) == (3, 1)
    assert len(turns.records.begun) == MAX_RECORDING
    turns.records.outcomes.extend([None] * 5 + [Unavailable("brokers")] * 5)
    turns.stage.run_once(0)
    turns.stage.run_once(0)
    assert len(turns.records.begun) == MAX_RECORDING + 10


def test_a_refused_use_ends_the_stage(turns: Turns) -> None:
    turns.used.note("key", TODAY)
    turns.records.outcomes.append(Refused("no right to write"))
    with pytest.raises(Refused):
        turns.stage.run_once(0)


def test_keys_that_are_fresh_are_no_progress(turns: Turns) -> None:
    """Other gateways write to their topic: without end, if the index cannot be loaded."""
    assert turns.stage.loaded() == 107
    turns.keys.is_fresh = True
    assert turns.stage.loaded() == 100
