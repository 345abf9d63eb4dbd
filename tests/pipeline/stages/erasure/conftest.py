"""An eraser whose vault, clock and ledger the test controls."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from erasestream.pipeline.stages.erasure.stage import EraserStage
from erasestream.schemas.ids import Lane
from tests.kafka_fixture import KafkaFixture
from tests.pipeline.stages.erasure.eraser_harness import ManualClock, OutdatedLedger, Start
from tests.topics.consent.consent_harness import FakeVault, eraser


@pytest.fixture
def vault() -> FakeVault:
    """Return an available vault."""
    vault = FakeVault()
    vault.is_unavailable = False
    return vault


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def start(
    kafka: KafkaFixture,
    lane: Lane,
    vault: FakeVault,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Start]:
    """Return a function that closes the last eraser and opens one with an outdated ledger."""
    monkeypatch.setattr(OutdatedLedger, "is_outdated", True)
    with ExitStack() as running:

        def started() -> EraserStage:
            running.close()
            stopping = threading.Event()
            return running.enter_context(
                eraser(kafka, lane, vault, stopping, view_of=OutdatedLedger, clock=clock)
            )

        yield started
