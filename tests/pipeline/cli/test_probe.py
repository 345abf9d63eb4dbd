"""`erasestream probe`: the exit status by which a supervisor knows a stage."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from erasestream.pipeline.cli.app import app_for
from erasestream.pipeline.cli.probe import StageName
from erasestream.pipeline.runtime.health import Health
from erasestream.schemas.errors import Refused

SETTINGS = """
[kafka]
bootstrap_servers = ["127.0.0.1:1"]
identities = "identities"
[lanes.shop]
"""


@pytest.fixture
def readiness() -> dict[str, bool]:
    return {"ready": False}


@pytest.fixture
def health(
    readiness: dict[str, bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Health]:
    """Serve the health checks of a router, on the port that the settings name."""
    with_port = Health(port=0, ready=lambda: readiness["ready"], stage="route")
    settings = tmp_path / "erasestream.toml"
    settings.write_text(SETTINGS)
    monkeypatch.setenv("ERASESTREAM_SETTINGS", str(settings))
    monkeypatch.setenv("ERASESTREAM_STAGE__HEALTH_PORT", str(with_port.port))
    yield with_port
    with_port.close()


def run(*arguments: str) -> tuple[int, str]:
    """Return exit status and standard error of a probe."""
    ran = CliRunner().invoke(app_for(["probe"]), ["probe", *arguments])
    return ran.exit_code, ran.stderr


def test_a_stage_that_answers_is_alive_before_it_is_ready(
    health: Health, readiness: dict[str, bool]
) -> None:
    assert run("route") == (0, "")
    assert run("route", "--ready") == (1, "route is not ready.\n")
    readiness["ready"] = True
    assert run("route", "--ready") == (0, "")


def test_every_stage_can_be_probed() -> None:
    """A stage that the command does not know would be killed by its supervisor again and again."""
    commands = {
        command.callback.__name__
        for command in app_for().registered_commands
        if command.rich_help_panel == "Stages" and command.callback is not None
    }
    assert commands - {"probe"} == {*StageName}


def test_another_stage_on_the_port_is_not_mistaken_for_it(health: Health) -> None:
    """Stages of one pod share the loopback."""
    status, error = run("sink")
    assert (status, error) == (1, f"Another program than sink answers on port {health.port}.\n")


def test_a_stage_that_does_not_answer_fails_the_probe(
    health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ERASESTREAM_STAGE__HEALTH_PORT", "1")
    assert run("route") == (1, "route does not answer on port 1.\n")


def test_a_port_chosen_at_random_cannot_be_probed(
    health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ERASESTREAM_STAGE__HEALTH_PORT", "0")
    ran = CliRunner().invoke(app_for(["probe"]), ["probe", "route"])
    assert isinstance(ran.exception, Refused)
    assert "stage.health_port" in str(ran.exception)
