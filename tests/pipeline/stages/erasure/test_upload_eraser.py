"""Erasing single uploads, in the order of an erasure; on a real broker."""

import threading
from collections import Counter

import pytest

from erasestream.pipeline.runtime.retry import RETRY_S
from erasestream.pipeline.stages.erasure import upload_eraser
from erasestream.pipeline.stages.erasure.stage import EraserStage
from erasestream.schemas.codec.cloudevents import from_wire, type_of
from erasestream.schemas.events.ledger import UploadErased, UploadErasureState
from erasestream.schemas.ids import AccountId, Lane, UploadId
from erasestream.topics.catalog.topic_names import erasures_of
from tests.kafka_fixture import KafkaFixture
from tests.pipeline.stages.erasure.eraser_harness import ManualClock, run_until
from tests.pipeline.stages.erasure.test_stage import read_all
from tests.topics.consent.consent_harness import (
    ACCOUNT,
    OWNER,
    SETTLE_S,
    FakeVault,
    HeldUploads,
    eraser,
    kept_as,
    writer,
)
from tests.topics.consent.test_erasure_requests import requests

UPLOAD = UploadId("listing-4711")


def entries(kafka: KafkaFixture, lane: Lane) -> list[UploadErased]:
    """Return what the eraser wrote about uploads of the lane."""
    return [
        from_wire(UploadErased, each.headers, each.value)
        for each in read_all(kafka, erasures_of(lane))
        if type_of(each.headers) is UploadErased
    ]


def states(kafka: KafkaFixture, lane: Lane) -> Counter[tuple[str, UploadErasureState]]:
    return Counter((each.request, each.state) for each in entries(kafka, lane))


@pytest.fixture
def held() -> HeldUploads:
    return HeldUploads()


def test_it_ends_once_a_late_look_finds_nothing(
    kafka: KafkaFixture, lane: Lane, vault: FakeVault, held: HeldUploads, clock: ManualClock
) -> None:
    """An object that a racing sink stored after the tombstone is deleted and counted, too."""
    kept = kept_as(lane, AccountId(ACCOUNT), UPLOAD)
    held.objects[kept] = 2
    opened = requests(kafka, lane)
    recorded = opened.request(ACCOUNT, UPLOAD, **OWNER)
    opened.close()
    with eraser(kafka, lane, vault, threading.Event(), clock=clock, held=held) as stage:
        run_until("confirmed", stage, lambda: _tick(clock) and entries(kafka, lane))
        assert (held.gone[kept], len(held.marked)) == (2, 1)
        held.objects[kept] = 1
        clock.now += SETTLE_S
        run_until("done", stage, lambda: _tick(clock) and _is_idle(stage))
    confirmed, gone = entries(kafka, lane)
    assert (confirmed.state, confirmed.objects) == (UploadErasureState.CONFIRMED, 2)
    assert (gone.state, gone.objects) == (UploadErasureState.GONE, 3)
    assert confirmed.request == gone.request == recorded.id
    assert confirmed.recorded == gone.recorded == recorded.at
    assert gone.stored_as == kept.stored_as


def test_the_next_eraser_goes_on(
    kafka: KafkaFixture, lane: Lane, vault: FakeVault, held: HeldUploads, clock: ManualClock
) -> None:
    """It repeats a request that is only confirmed, leaves out none, and reads none that is done."""
    opened = requests(kafka, lane)
    first = opened.request(ACCOUNT, UPLOAD, **OWNER)
    with eraser(kafka, lane, vault, threading.Event(), clock=clock, held=held) as stage:
        run_until("confirmed", stage, lambda: _tick(clock) and entries(kafka, lane))
    second = opened.request(ACCOUNT, UploadId("another"), **OWNER)
    opened.close()
    with eraser(kafka, lane, vault, threading.Event(), clock=clock, held=held) as stage:

        def all_gone() -> bool:
            clock.now += SETTLE_S
            found = states(kafka, lane)
            return all((each.id, UploadErasureState.GONE) in found for each in (first, second))

        run_until("both are gone", stage, all_gone)
        run_until("and done", stage, lambda: _tick(clock) and _is_idle(stage))
        run_until("and committed", stage, lambda: True)
    held.marked.clear()
    with eraser(kafka, lane, vault, threading.Event(), clock=clock, held=held) as stage:
        run_until("it has joined", stage, lambda: _tick(clock) and stage.is_ready())
        for _ in range(3):
            _tick(clock)
            stage.run_once()
        assert _is_idle(stage)
    gone = [key for key in states(kafka, lane) if key[1] is UploadErasureState.GONE]
    assert len(gone) == 2


def test_many_requests_hold_up_no_revocation(
    kafka: KafkaFixture,
    lane: Lane,
    vault: FakeVault,
    held: HeldUploads,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beyond its limit a lane's requests wait in the topic; all are done in the end."""
    monkeypatch.setattr(upload_eraser, "MAX_REQUESTS", 2)
    writes, opened = writer(kafka, lane), requests(kafka, lane)
    grant = writes.grant(ACCOUNT, **OWNER).grant
    asked = [opened.request(ACCOUNT, f"upload-{n}", **OWNER).id for n in range(6)]
    held.is_unavailable = True
    with eraser(kafka, lane, vault, threading.Event(), clock=clock, held=held) as stage:
        run_until("they are read", stage, lambda: _tick(clock) and not _is_idle(stage))
        writes.revoke(ACCOUNT, **OWNER)
        run_until("it is marked", stage, lambda: _tick(clock) and grant in vault.marked)
        held.is_unavailable = False

        def all_gone() -> bool:
            clock.now += SETTLE_S
            found = states(kafka, lane)
            return all((each, UploadErasureState.GONE) in found for each in asked)

        run_until("all are gone", stage, all_gone)


def _tick(clock: ManualClock) -> bool:
    """Let time pass."""
    clock.now += RETRY_S
    return True


def _is_idle(stage: EraserStage) -> bool:
    return not list(stage.uploads.pending)
