"""When the router's stage writes findings, and what it closes."""

from typing import cast

import pytest

from erasestream.pipeline.runtime.quarantine import QuarantineRegistry
from erasestream.pipeline.stages.routing.stage import RouterStage
from erasestream.topics.consent.ledger_findings import LedgerFindings
from erasestream.topics.kafka.transaction.loop import TransactionalLoop


class FakeLoop:
    """A loop that only notes what it is asked for."""

    def __init__(self) -> None:
        self.is_open = False
        self.is_assigned = False
        self.timeouts_s: list[float] = []
        self.is_closed = False

    def run_once(self, timeout_s: float) -> int:
        self.timeouts_s.append(timeout_s)
        return 0

    def close(self) -> None:
        self.is_closed = True


class FakeFindings:
    """Findings that only count how often one is to be written."""

    def __init__(self) -> None:
        self.written = 0

    def write_one(self) -> None:
        self.written += 1


@pytest.fixture
def loop() -> FakeLoop:
    return FakeLoop()


@pytest.fixture
def findings() -> FakeFindings:
    return FakeFindings()


@pytest.fixture
def stage(loop: FakeLoop, findings: FakeFindings) -> RouterStage:
    return RouterStage(
        loop=cast("TransactionalLoop", loop),
        findings=cast("LedgerFindings", findings),
        quarantine=QuarantineRegistry(),
    )


def test_findings_are_written_between_transactions(
    stage: RouterStage, loop: FakeLoop, findings: FakeFindings
) -> None:
    loop.is_open = True
    stage.run_once(0.3)
    assert findings.written == 0
    loop.is_open = False
    stage.run_once(0.3)
    assert findings.written == 1
    assert loop.timeouts_s == [0.3, 0.3]


def test_ready_once_the_group_has_assigned(stage: RouterStage, loop: FakeLoop) -> None:
    assert not stage.is_ready()
    loop.is_assigned = True
    assert stage.is_ready()


def test_close_ends_the_loop(stage: RouterStage, loop: FakeLoop) -> None:
    stage.close()
    assert loop.is_closed
