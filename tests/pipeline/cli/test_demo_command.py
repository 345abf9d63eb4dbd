"""The end of `erasestream demo`: whom its gateway waits for, and how to use it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from erasestream.pipeline.cli.demo import serve_until_interrupted
from erasestream.pipeline.demo.run import Outcome, Serving
from erasestream.pipeline.demo.visitors import Invitation
from erasestream.schemas.errors import Refused

ASK = """
import sys
from erasestream.pipeline.cli.demo import is_attended
sys.exit(int(is_attended()))
"""


def serving(ends: BaseException) -> Serving:
    """Return a demo that serves until it is checked, when this is raised."""

    def check() -> None:
        raise ends

    invitation = Invitation("https://127.0.0.4:8443", Path("ca.crt"), "es_image_1", "es_owner_2")
    return Serving(Outcome(Path("report.html"), (), 1.0), invitation, check)


def test_it_shows_address_and_keys_and_ends_at_ctrl_c(capsys: pytest.CaptureFixture[str]) -> None:
    serve_until_interrupted(serving(KeyboardInterrupt()))
    shown = capsys.readouterr().out
    assert "https://127.0.0.4:8443/account\n" in shown
    assert "Key of the owner, to sign in: es_owner_2\n" in shown
    assert "Key for images: es_image_1\n" in shown
    assert "--cacert ca.crt --header 'x-api-key: es_image_1'" in shown


def test_it_ends_when_a_stage_does() -> None:
    with pytest.raises(Refused, match="gateway ended"):
        serve_until_interrupted(serving(Refused("the stage gateway ended")))


@pytest.mark.parametrize(
    ("variables", "has_terminal", "is_attended"), [({}, 1, 1), ({"CI": ""}, 1, 0), ({}, 0, 0)]
)
def test_it_waits_for_a_person_at_a_terminal_only(
    variables: dict[str, str], has_terminal: int, is_attended: int
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "CI"} | variables
    master, terminal = os.openpty()
    try:
        ran = subprocess.run(
            [sys.executable, "-c", ASK],
            stdin=terminal,
            stdout=terminal if has_terminal else subprocess.DEVNULL,
            env=environment,
            check=False,
        )
    finally:
        os.close(master)
        os.close(terminal)
    assert ran.returncode == is_attended
