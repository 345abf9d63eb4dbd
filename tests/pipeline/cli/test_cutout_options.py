"""The options of a cut-out on the command line: the same names, and the same refusals."""

import pytest
from typer.testing import CliRunner

from erasestream.pipeline.cli.app import app
from erasestream.schemas.errors import Code, InvalidEvent
from erasestream.schemas.options import CutoutOptions


@pytest.mark.parametrize(
    "asked",
    [
        ["--quality", "90"],
        ["--crop-margin", "5px"],
        ["--crop", "--crop-margin", "5em"],
        ["--bg-color", "blurple"],
        ["--size", "hd", "--max-dimension", "100"],
    ],
    ids=" ".join,
)
def test_options_that_the_model_refuses_end_the_command_with_their_code(asked: list[str]) -> None:
    """Before any setting is read and anything is sent."""
    result = CliRunner().invoke(app, ["upload", "--lane", "shop", "photo.jpg", *asked])
    assert isinstance(result.exception, InvalidEvent)
    assert result.exception.code is Code.INVALID_OPTIONS


@pytest.mark.parametrize("asked", [["--colour", "red"], ["--format", "gif"]], ids=" ".join)
def test_an_unknown_option_is_a_wrong_use_of_the_command(asked: list[str]) -> None:
    """The command line's own status for it, 2."""
    result = CliRunner().invoke(app, ["upload", "--lane", "shop", "photo.jpg", *asked])
    assert result.exit_code == 2


def test_every_option_of_the_model_can_be_given() -> None:
    """None is missing on the command line."""
    shown = CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(app, ["upload", "--help"])
    for name in CutoutOptions.model_fields:
        assert f"--{name.replace('_', '-')}" in shown.output
