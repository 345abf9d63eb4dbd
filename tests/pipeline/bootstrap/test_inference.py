"""The inference stage as bootstrap opens it, on a real broker."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import get_args

import pytest
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient

from erasestream.pipeline.bootstrap.inference import enforcement_of, inference_stage
from erasestream.pipeline.runtime.sandbox.restrictions import Enforcement, Isolation
from erasestream.pipeline.settings import InferenceSettings, Settings
from erasestream.pipeline.stages.inference.isolation.process_pool import ProcessPool
from erasestream.pipeline.stages.inference.stage import InferenceStage
from erasestream.pipeline.stages.inference.worker.result_builder import ResultBuilder
from tests.leaks import ConstructionFault, check_each_construction_fails
from tests.pipeline.stages.inference.tiny_model import build_tiny_model


def test_isolation_is_required_unless_dangerously_set_otherwise() -> None:
    settings = InferenceSettings(models=Path("models"))
    assert enforcement_of(settings) is Enforcement.REQUIRED
    assert Isolation(settings.isolation) is Isolation.PER_IMAGE
    allowed = InferenceSettings(models=Path("models"), dangerously_run_without_isolation=True)
    assert enforcement_of(allowed) is Enforcement.AS_FAR_AS_POSSIBLE
    assert Isolation(allowed.isolation) is Isolation.PER_IMAGE


def test_settings_name_every_degree_of_isolation() -> None:
    field = InferenceSettings.model_fields["isolation"]
    assert set(get_args(field.annotation)) == {str(each) for each in Isolation}


@pytest.fixture
def event_loop_of_faust() -> Iterator[None]:
    """Set the thread's event loop: Faust would create it for the process and never close it."""
    with closing(asyncio.new_event_loop()) as loop:
        asyncio.set_event_loop(loop)
        yield
        asyncio.set_event_loop(None)


@pytest.mark.usefixtures("event_loop_of_faust")
def test_each_construction_that_fails_closes_those_before_it(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_tiny_model(tmp_path)
    inference = InferenceSettings(models=tmp_path, model="tiny")
    parts = (AdminClient, Consumer, ProcessPool, ResultBuilder, InferenceStage, threading.Thread)
    fault = ConstructionFault(monkeypatch, *parts)

    def build() -> ExitStack:
        with ExitStack() as opened:
            stage = inference_stage(settings.model_copy(update={"inference": inference}))
            opened.enter_context(stage)
            return opened.pop_all()

    assert check_each_construction_fails(fault, build) >= len(parts)
