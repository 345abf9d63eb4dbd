"""Every stage closes what it opened: after a failure while it is built, and in the end.

Threads, sockets and files are counted before and after; on a real broker and a real bucket.
"""

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from erasestream.pipeline.bootstrap.encryption import encryption_stage, sink_decisions
from erasestream.pipeline.bootstrap.erasure import eraser_stage
from erasestream.pipeline.bootstrap.purge import purger_stage
from erasestream.pipeline.bootstrap.routing import router_decisions, router_stage
from erasestream.pipeline.runtime.kept import Kept
from erasestream.pipeline.runtime.runner import EX_OK, EX_SOFTWARE, Stage, StageRunner
from erasestream.pipeline.settings import Settings
from erasestream.pipeline.stages.encryption.stage import EncryptionStage
from erasestream.pipeline.stages.erasure.grant_eraser import GrantEraser
from erasestream.pipeline.stages.erasure.stage import EraserStage
from erasestream.pipeline.stages.purge.stage import PurgerStage
from erasestream.pipeline.stages.routing.router import Router
from erasestream.pipeline.stages.routing.stage import RouterStage
from erasestream.schemas.errors import InvariantBroken, Refused, Unavailable
from erasestream.sinks.buckets.gcs import GcsObjectStore
from erasestream.sinks.images.image_writer import EncryptionSink
from erasestream.sinks.keys.key_vault import KeyVault
from erasestream.sinks.keys.local_keyring import LocalKeyring
from erasestream.topics.consent.compaction_heartbeat import CompactionHeartbeat
from erasestream.topics.consent.ledger_findings import LedgerFindings
from erasestream.topics.consent.view import ConsentView
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.group_offsets import GroupOffsets
from erasestream.topics.kafka.transaction.loop import TransactionalLoop
from tests.flow.waiting import eventually
from tests.leaks import ConstructionFault, check_each_construction_fails, no_leak

Open = Callable[[Settings, threading.Event], AbstractContextManager[Stage]]

STAGES: dict[str, Open] = {
    "route": router_stage,
    "sink": encryption_stage,
    "purge": purger_stage,
    "erase": eraser_stage,
}
CLIENTS = (AdminClient, Consumer, Producer, ThreadPoolExecutor)
PARTS = (
    GcsObjectStore,
    LocalKeyring,
    KeyVault,
    EncryptionSink,
    LedgerFindings,
    CompactionHeartbeat,
    Router,
    GrantEraser,
    RouterStage,
    EncryptionStage,
    PurgerStage,
    EraserStage,
)
STEPS = [
    ("route", Admin, "check_rights"),
    ("route", GroupOffsets, "check"),
    ("route", ConsentView, "load"),
    ("route", TransactionalLoop, "start"),
    ("sink", GcsObjectStore, "check"),
    ("sink", ConsentView, "load"),
    ("erase", GcsObjectStore, "check"),
]


@pytest.fixture(params=STAGES)
def open_stage(request: pytest.FixtureRequest) -> Open:
    return STAGES[request.param]


def test_each_construction_that_fails_closes_those_before_it(
    open_stage: Open, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = ConstructionFault(monkeypatch, *CLIENTS, *PARTS)

    def build() -> ExitStack:
        with ExitStack() as opened:
            opened.enter_context(open_stage(settings, threading.Event()))
            return opened.pop_all()

    assert check_each_construction_fails(fault, build) > 2


@pytest.mark.parametrize(("name", "part", "step"), STEPS)
def test_a_step_that_fails_closes_everything(
    name: str, part: type, step: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    perform = getattr(part, step)

    def fail(*arguments: object, **named: object) -> None:
        perform(*arguments, **named)
        raise Unavailable(step)

    monkeypatch.setattr(part, step, fail)
    with (
        no_leak(),
        pytest.raises(Unavailable, match=step),
        STAGES[name](settings, threading.Event()),
    ):
        pass


def runner(
    open_stage: Open, settings: Settings, renewed: Callable[[], bool] = lambda: False
) -> StageRunner:
    return StageRunner(
        "test",
        lambda stopping: open_stage(settings, stopping),
        ready_deadline=timedelta(seconds=60),
        renewed=renewed,
    )


STAGE_CLASSES = (RouterStage, EncryptionStage, PurgerStage, EraserStage)


def test_an_error_in_run_once_closes_the_stage_and_its_parts(
    open_stage: Open, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []

    def fail(*_: object) -> None:
        raise InvariantBroken("test")

    for stage in STAGE_CLASSES:
        monkeypatch.setattr(stage, "run_once", fail)
        monkeypatch.setattr(stage, "close", _noting(stage.close, closed))
    with no_leak():
        assert runner(open_stage, settings).run() == EX_SOFTWARE
    assert closed == ["closed"]


def test_a_renewed_certificate_closes_the_parts_of_before(
    open_stage: Open, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages: list[object] = []
    closed: list[str] = []
    renewals = iter([False, True, False])

    def run_once(stage: object, _timeout_s: float) -> None:
        stages.append(stage)
        if len(stages) == 2:
            running.stop()

    for stage in STAGE_CLASSES:
        monkeypatch.setattr(stage, "run_once", run_once)
        monkeypatch.setattr(stage, "close", _noting(stage.close, closed))
    with no_leak():
        running = runner(open_stage, settings, lambda: next(renewals))
        assert running.run() == EX_OK
    first, second = stages
    assert first is not second
    assert closed == ["closed", "closed"]


def test_a_sink_is_ready_only_while_it_can_read_its_master_key(
    settings: Settings, tmp_path: Path
) -> None:
    """With a key that it may not use it does not start, rather than end with the first picture."""
    assert settings.storage
    keyring = tmp_path / "keyring"
    shutil.copytree(settings.storage.keyring, keyring)
    (key,) = keyring.iterdir()
    storage = settings.storage.model_copy(update={"keyring": keyring})
    own = settings.model_copy(update={"storage": storage})
    with encryption_stage(own, threading.Event()) as stage:
        eventually("it is ready", lambda: stage.run_once() or stage.is_ready(), poll_s=0)
        key.chmod(0o644)
        assert not stage.is_ready()
        key.chmod(0o600)
        assert stage.is_ready()
        key.chmod(0o644)
    with pytest.raises(Refused, match=key.name), encryption_stage(own, threading.Event()):
        pass


@pytest.mark.parametrize(
    ("open_stage", "open_decisions"),
    [(router_stage, router_decisions), (encryption_stage, sink_decisions)],
)
def test_a_renewed_certificate_loads_no_decisions_again(
    open_stage: Callable[..., AbstractContextManager[Stage]],
    open_decisions: Callable[..., AbstractContextManager[object]],
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The stage is built again, with the view that there was."""
    loads: list[object] = []
    renewals = iter([True, False])

    def run_once(_stage: object, _timeout_s: float) -> None:
        running.stop()

    def load(view: ConsentView, **how: float) -> None:
        loads.append(view)
        real_load(view, **how)

    real_load = ConsentView.load
    monkeypatch.setattr(ConsentView, "load", load)
    for stage in STAGE_CLASSES:
        monkeypatch.setattr(stage, "run_once", run_once)
    with no_leak(), closing(Kept(partial(open_decisions, settings))) as decisions:
        build = partial(open_stage, decisions=decisions)
        running = runner(build, settings, lambda: next(renewals))
        assert running.run() == EX_OK
    assert len(loads) == 1


def _noting(close: Callable[[object], None], closed: list[str]) -> Callable[[object], None]:
    def noted(stage: object) -> None:
        closed.append("closed")
        close(stage)

    return noted
