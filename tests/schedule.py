"""Pack the tests for several workers, and estimate how long they take.

A worker takes a unit at a time: the tests of one file, or of a folder whose tests share a running
pipeline, which would otherwise be started once in each worker.  `tests/durations.json`
holds seconds per unit, as `make durations` measured them with five workers on two cores.  It
decides the order and the estimate and nothing else.  Rules:

* Longest units first; a unit that is not in the file counts as longest.
* At most one busy unit (`BUSY`) for each core at a time, as long as there are others: most tests
  wait most of the time, and run beside it.  A storm of faults beside three more pipelines takes
  four times as long, and more of the processor.
"""

import contextlib
import json
import os
from collections import Counter
from typing import cast

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

from tests.paths import ROOT

DURATIONS = ROOT / "tests" / "durations.json"
SHARED_FIXTURES = (
    "tests/flow/shared",
    "tests/flow/fragile",
    "tests/flow/bare",
)
"""Folders whose tests share a pipeline that no other test uses."""
BUSY = frozenset(
    {
        *SHARED_FIXTURES,
        "tests/flow/test_managed_kafka.py",
        "tests/flow/test_storm.py",
        "tests/flow/test_workers.py",
        "tests/pipeline/demo/test_demo.py",
        "tests/pipeline/devstack/kafka/test_broker.py",
        "tests/pipeline/stages/inference/isolation/test_hostile.py",
        "tests/pipeline/stages/routing/test_join.py",
        "tests/test_package.py",
        "tests/test_readme.py",
        "tests/topics/client/test_broker_restarts.py",
    }
)
"""Units that keep a core busy: with a pipeline of their own, or brokers that they restart."""


def unit_of(nodeid: str) -> str:
    """Return the unit that a test belongs to: its folder if that shares a pipeline, or its file."""
    path = nodeid.partition("::")[0]
    folder = path.rpartition("/")[0]
    return folder if folder in SHARED_FIXTURES else path


def known_durations() -> dict[str, float]:
    """Return the seconds per unit that were measured last."""
    return cast("dict[str, float]", json.loads(DURATIONS.read_text()))


class UnitScheduling(LoadScopeScheduling):
    """Hand out whole units, in the order of the collection but for busy ones."""

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)

    def _assign_work_unit(self, node: WorkerController) -> None:
        """Hand out the first unit that is busy, or the first that is not, whichever is wanted."""
        running = {unit for other in self.nodes for unit in self._left_to(other)}
        wants_busy = len(running & BUSY) < (os.cpu_count() or 1)
        for unit in self.workqueue:
            if (unit in BUSY) == wants_busy:
                self.workqueue.move_to_end(unit, last=False)
                break
        with contextlib.suppress(OSError):  # it just crashed: `remove_node` takes the unit back
            super()._assign_work_unit(node)

    def remove_node(self, node: WorkerController) -> str | None:
        """Forget a worker; return the test that it crashed in, and let others run what it had left.

        The method of xdist hands out finished units again.  A worker keeps its last test until it
        has the next one, so that an empty unit in place of work makes it wait forever.
        """
        left = self._left_to(node)
        self.assigned_work[node] = {}
        super().remove_node(node)
        if not left:
            return None
        crashed = next(iter(next(iter(left.values()))))
        del left[unit_of(crashed)][crashed]
        for unit, tests in left.items():
            if tests:
                self.workqueue[unit] = tests
        for other in self.nodes:
            self._reschedule(other)
        return crashed

    def _left_to(self, node: WorkerController) -> dict[str, dict[str, bool]]:
        """Return the tests that this worker has not finished, by unit."""
        assigned = self.assigned_work[node]
        left = {
            unit: {test: False for test, is_done in tests.items() if not is_done}
            for unit, tests in assigned.items()
        }
        return {unit: tests for unit, tests in left.items() if tests}


class Schedule:
    """The hooks: order, scheduler, estimate, and the record of durations."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._seconds: Counter[str] = Counter()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Put long units first; tests keep their order within a unit."""
        known = known_durations()
        first: dict[str, int] = {}
        for number, item in enumerate(items):
            first.setdefault(unit_of(item.nodeid), number)

        def key(item: pytest.Item) -> tuple[float, int]:
            unit = unit_of(item.nodeid)
            return -known.get(unit, float("inf")), first[unit]

        items.sort(key=key)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(
        self, config: pytest.Config, log: Producer
    ) -> LoadScopeScheduling:
        """Replace the scheduler that `--dist` names."""
        return UnitScheduling(config, log)

    def pytest_report_header(self) -> str | None:
        """Estimate the minutes, where the whole suite runs."""
        workers = self._config.getoption("numprocesses", None)
        if not workers or self._config.args != self._config.getini("testpaths"):
            return None
        minutes = sum(known_durations().values()) / workers / 60
        return f"about {minutes:.0f} minutes with {workers} workers on two cores"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add up what each unit takes."""
        self._seconds[unit_of(report.nodeid)] += report.duration  # type: ignore[assignment]

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Write the durations down, if asked to and nothing failed."""
        is_controller = not hasattr(self._config, "workerinput")
        is_asked = self._config.getoption("record_durations")
        if is_controller and is_asked and exitstatus == pytest.ExitCode.OK:
            rounded = {unit: round(seconds, 1) for unit, seconds in self._seconds.most_common()}
            DURATIONS.write_text(json.dumps(rounded, indent=2) + "\n")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--record-durations`."""
    parser.addoption("--record-durations", action="store_true", help="write tests/durations.json")


def pytest_configure(config: pytest.Config) -> None:
    """Register the hooks, in the controller and in each worker."""
    config.pluginmanager.register(Schedule(config), "schedule")
