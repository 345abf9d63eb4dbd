"""Each step of a stage's construction fails once; nothing may stay open."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from erasestream.pipeline.bootstrap.keys import key_service_stage
from erasestream.pipeline.bootstrap.receipts import cosigner, receipt_stage
from erasestream.pipeline.bootstrap.rotation import rotation_stage
from erasestream.pipeline.settings import KeySettings, Settings
from erasestream.pipeline.settings_sections import ReceiptSettings
from erasestream.sinks.log.key_files import make_keys
from erasestream.topics.catalog.roles import KEYS
from tests.failing_steps import check_each_step_fails
from tests.kafka_fixture import KafkaFixture

HOST = "127.0.0.2"
Open = Callable[[Settings, threading.Event], AbstractContextManager[object]]

STAGES: dict[str, Open] = {
    "attest": receipt_stage,
    "cosign": lambda settings, _stopping: cosigner(settings),
    "rotate": rotation_stage,
    "keys": key_service_stage,
}


@pytest.fixture
def complete(settings: Settings, kafka: KafkaFixture, tmp_path: Path) -> Settings:
    """Return settings with the sections of every stage here."""
    kafka.authority.issue_stage_server(KEYS, kafka.identities, hosts=[HOST])
    (tmp_path / "masters").mkdir(mode=0o700)
    made = make_keys(tmp_path / "keys", log="log.test", auditor="auditor.test")
    own = {"folder": tmp_path / "log", "log_key": str(tmp_path / "keys" / "log.pub")}
    return settings.model_copy(
        update={
            "keys": KeySettings(
                endpoints=(f"https://{HOST}:1",),
                masters=tmp_path / "masters",
                listen_host=HOST,
                listen_port=0,
            ),
            "receipts": ReceiptSettings.model_validate({**made, **own}),
        }
    )


@pytest.mark.parametrize("name", STAGES)
def test_a_step_that_fails_closes_what_was_opened_before(name: str, complete: Settings) -> None:
    def build() -> ExitStack:
        with ExitStack() as opened:
            opened.enter_context(STAGES[name](complete, threading.Event()))
            return opened.pop_all()

    assert check_each_step_fails(build) > 1
