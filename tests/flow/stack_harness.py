"""A stack of a test's own: servers, stages as processes, and the lines that they log."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from erasestream.pipeline.devstack.kafka.java_launcher import SHORT_LIVED
from erasestream.pipeline.devstack.stack import Stack
from erasestream.pipeline.runtime.runner import EX_SOFTWARE, EX_UNAVAILABLE
from erasestream.pipeline.settings import LaneSettings
from erasestream.schemas.ids import Lane
from erasestream.topics.admin.provisioning import provision
from erasestream.topics.catalog.acl import rights
from erasestream.topics.catalog.lane_spec import Sealing
from erasestream.topics.kafka.admin import Admin
from tests.flow.waiting import eventually
from tests.kafka_administration import rights_in_effect
from tests.paths import CACHE
from tests.pipeline.stages.inference.tiny_model import build_tiny_model

SHOP = Lane("shop")
BULK = Lane("bulk")
PARTITIONS: Mapping[Lane, int] = {SHOP: 2, BULK: 1}
SEALING: Mapping[Lane, Sealing] = {SHOP: Sealing.ACCEPTED, BULK: Sealing.REQUIRED}
"""Clients that cannot seal send to the first lane only; the gateway serves the second."""
STAGES = ("infer", "route", "sink")


class StackHarness:
    """A stack with two lanes and a tiny model.

    `options` are those of `Stack.create`; `lane_settings` are of both lanes.
    """

    def __init__(
        self,
        directory: Path,
        *,
        options: Mapping[str, Any] = MappingProxyType({}),
        **lane_settings: object,
    ) -> None:
        self.stack = Stack(directory / "stack", cache=CACHE)
        build_tiny_model(directory / "models")
        lanes = {
            lane: LaneSettings.model_validate(
                {
                    "partitions": count,
                    "sealing": SEALING[lane],
                    "gateway": lane == BULK,
                    **lane_settings,
                }
            )
            for lane, count in PARTITIONS.items()
        }
        self.stack.create(
            models=directory / "models",
            model="tiny",
            lanes=lanes,
            java_options=SHORT_LIVED,
            **options,
        )

    def start(self, stages: Iterable[str] = STAGES) -> None:
        """Start the servers, create topics and rights, then start the stages."""
        self.stack.start_servers()
        with Admin(self.stack.admin()) as admin:
            provision(admin, self.stack.catalog(), show=lambda _plan: None)
            declared = rights(self.stack.catalog())
            eventually("the rights are in effect", lambda: declared <= rights_in_effect(admin))
        self.start_stages(stages)

    def stop(self) -> None:
        """Stop every process."""
        self.stack.stop()

    def start_stages(self, names: Iterable[str] = STAGES, **environment: str) -> None:
        """Start the stages that do not run, in parallel, and wait until they are ready."""
        started = [name for name in names if self.stack.stage(name).process_id is None]
        for name in started:
            self.stack.start_stage(name, **environment)
        for name in started:
            self.wait_for_event(name, "ready")

    def restart(self, name: str) -> None:
        """Start a stage that has ended, and wait until it is ready."""
        self.stack.start_stage(name)
        self.wait_for_event(name, "ready")

    def restart_ended(self, names: Iterable[str] = STAGES) -> None:
        """Restart the stages that gave up while a broker was down, as a supervisor would."""
        for name in names:
            if self.stack.stage(name).process_id is None:
                assert self.exit_code(name) in (EX_SOFTWARE, EX_UNAVAILABLE)
                self.restart(name)

    def lines(self, name: str, *events: str) -> list[dict[str, object]]:
        """Return what a stage has logged since its start, or only its lines of these events."""
        text = self.stack.log_of(name).read_text()
        lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        return [line for line in lines if not events or line["event"] in events]

    def wait_for_event(self, name: str, event: str) -> dict[str, object]:
        """Return the first line of this event; fail if the stage ends without it."""

        def first_line() -> dict[str, object] | None:
            has_ended = self.stack.stage(name).process_id is None
            for line in self.lines(name, event):
                return line
            assert not has_ended, self.stack.log_of(name).read_text()
            return None

        return eventually(f"{name}: {event}", first_line)

    def exit_code(self, name: str) -> int:
        """Wait until a stage ends and return its exit status."""
        child = self.stack.stage(name)
        eventually(f"{name} ends", lambda: child.exit_code is not None)
        assert child.exit_code is not None
        return child.exit_code
