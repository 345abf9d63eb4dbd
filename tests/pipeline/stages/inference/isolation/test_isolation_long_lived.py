"""What hostile code can do in a process that works on one image after another.

One filter, and no end with the image: what is wider than in a child of its own image is named
here, each of it; all else is refused the same.
"""

from typing import Any

import pytest

from erasestream.pipeline.stages.inference.models.store import Installed
from erasestream.pipeline.stages.inference.sandbox.restrictions import Isolation
from tests.pipeline.stages.inference.isolation.escapes import USERS, report_of
from tests.pipeline.stages.inference.isolation.hostile_zygote import ENDS, ESCAPES
from tests.pipeline.stages.inference.isolation.test_isolation import EXPECTED_ENDS

WIDER = {
    # A library that compiles for a GPU needs such memory.
    "executable memory": "succeeded",
    "executable later": "ENOMEM",  # nothing is mapped where this one tries
    "pipe": "succeeded",
}


@pytest.fixture(scope="module", params=USERS)
def report(request: pytest.FixtureRequest, tiny_model: Installed) -> dict[str, Any]:
    """What came of every attack, as this user."""
    return report_of(tiny_model, user=request.param, isolation=Isolation.LONG_LIVED)


@pytest.mark.parametrize("name", [name for name in ESCAPES if name not in WIDER])
def test_an_escape_is_refused(report: dict[str, Any], name: str) -> None:
    """No file, no network, no program, no other process, and nothing that the worker relies on."""
    assert report["outcomes"][name] in {"EPERM", "EBADF", "ENOSYS"}


@pytest.mark.parametrize("name", WIDER)
def test_what_is_wider_is_known(report: dict[str, Any], name: str) -> None:
    """Memory that can be executed and pipes to itself: neither leads out of the process."""
    assert report["outcomes"][name] == WIDER[name]


def test_an_image_can_leave_something_for_the_next(report: dict[str, Any]) -> None:
    """The price of this mode: one process, and what is in its memory stays there."""
    assert len(set(report["children"])) == 1
    assert report["memory"] == ["", "remember"]


@pytest.mark.parametrize("name", ENDS)
def test_what_ends_the_process_is_one_failed_result(report: dict[str, Any], name: str) -> None:
    """And the next image is worked on by another process."""
    assert report["outcomes"][name] == EXPECTED_ENDS[name]


def test_it_is_restricted_before_its_first_image(report: dict[str, Any]) -> None:
    """One thread, a filter, no new privileges, no capability, and the user that it should be."""
    status = report["status"]
    assert (status["Threads"], status["Seccomp"], status["NoNewPrivs"]) == ("1", "2", "1")
    assert status["Uid"].split() == [str(report["uid"])] * 4
    for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(status[kind], 16) == 0
    assert report["outlives_escapes"]
    assert not report["outlives_ends"]
    assert report["left"] == 0
