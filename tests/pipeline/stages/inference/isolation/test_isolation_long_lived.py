"""Hostile code in a process that works on one image after another.

It has one filter, and does not end with its image.  Everything that it may do beyond a child of
one image is listed here; all other attacks are refused.
"""

from typing import Any

import pytest

from erasestream.pipeline.runtime.sandbox.restrictions import Isolation
from erasestream.pipeline.stages.inference.models.store import Installed
from tests.pipeline.stages.inference.isolation.escapes import USERS, report_of
from tests.pipeline.stages.inference.isolation.hostile_zygote import ENDS, ESCAPES
from tests.pipeline.stages.inference.isolation.test_isolation import EXPECTED_ENDS

EXCEPTIONS = {
    # Libraries that compile for a GPU need such memory.
    "executable memory": "succeeded",
    "executable later": "ENOMEM",  # nothing is mapped where this one tries
    "pipe": "succeeded",
}


@pytest.fixture(scope="module", params=USERS)
def report(request: pytest.FixtureRequest, tiny_model: Installed) -> dict[str, Any]:
    """Return the outcomes of all attacks, as this user."""
    return report_of(tiny_model, user=request.param, isolation=Isolation.LONG_LIVED)


@pytest.mark.parametrize("name", [name for name in ESCAPES if name not in EXCEPTIONS])
def test_an_escape_is_refused(report: dict[str, Any], name: str) -> None:
    """No file, network, program or other process, and nothing that the parent relies on."""
    assert report["outcomes"][name] in {"EPERM", "EBADF", "ENOSYS"}


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_known_exceptions_succeed(report: dict[str, Any], name: str) -> None:
    """Executable memory and pipes to itself: neither leads out of the process."""
    assert report["outcomes"][name] == EXCEPTIONS[name]


def test_an_image_can_leave_data_for_the_next(report: dict[str, Any]) -> None:
    """The price of this mode: its memory stays."""
    assert len(set(report["children"])) == 1
    assert report["memory"] == ["", "remember"]


@pytest.mark.parametrize("name", ENDS)
def test_an_attack_that_ends_the_process_is_one_failed_result(
    report: dict[str, Any], name: str
) -> None:
    """Another process works on the next image."""
    assert report["outcomes"][name] == EXPECTED_ENDS[name]


def test_it_is_restricted_before_its_first_image(report: dict[str, Any]) -> None:
    """One thread, a filter, no new privileges, no capability, the expected user."""
    status = report["status"]
    assert (status["Threads"], status["Seccomp"], status["NoNewPrivs"]) == ("1", "2", "1")
    assert status["Uid"].split() == [str(report["uid"])] * 4
    for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(status[kind], 16) == 0
    assert report["outlives_escapes"]
    assert not report["outlives_ends"]
    assert report["left"] == 0
