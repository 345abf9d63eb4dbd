"""The end of `erasestream demo`: whom its gateway waits for, and how to use it."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from erasestream.pipeline.cli.demo import end_at_ctrl_c, serve_until_interrupted
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

    invitation = Invitation(
        url="https://127.0.0.4:8443",
        authority=Path("ca.crt"),
        image_key="es_image_1",
        owner_key="es_owner_2",
        photo=Path("my photos/cup.jpg"),
        log_key="log+1+A",
        auditor_key="auditor+2+B",
    )
    return Serving(
        Outcome(Path("report.html"), (), 1.0), invitation, check, issue_receipts=lambda: None
    )


def test_it_shows_address_and_keys_and_ends_at_ctrl_c(capsys: pytest.CaptureFixture[str]) -> None:
    """Each command works as it is: with the key, a photo that exists, the keys of the log."""
    serve_until_interrupted(serving(KeyboardInterrupt()))
    shown = capsys.readouterr().out
    assert "https://127.0.0.4:8443/account\n" in shown
    assert "Sign in with the owner's key: es_owner_2\n" in shown
    (curl,) = (shlex.split(line) for line in shown.splitlines() if "curl" in line)
    assert curl[curl.index("--cacert") + 1] == "ca.crt"
    assert curl[curl.index("--header") + 1] == "x-api-key: es_image_1"
    assert curl[curl.index("--form") + 1] == "image_file=@my photos/cup.jpg"
    assert "receipt verify RECEIPT --log-key log+1+A --auditor-key auditor+2+B\n" in shown


def test_it_ends_when_a_stage_does() -> None:
    with pytest.raises(Refused, match="gateway ended"):
        serve_until_interrupted(serving(Refused("the stage gateway ended")))


def test_a_second_ctrl_c_does_not_interrupt_the_stopping() -> None:
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        end_at_ctrl_c()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
