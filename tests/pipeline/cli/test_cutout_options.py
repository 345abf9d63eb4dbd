"""The command line has the model's options, and refuses what the model refuses."""

import pytest
from typer.testing import CliRunner

from erasestream.pipeline.cli.app import app_for
from erasestream.schemas.errors import Code, InvalidEvent
from erasestream.schemas.options import CutoutOptions


@pytest.mark.parametrize(
    "arguments",
    [
        ["--quality", "90"],
        ["--crop-margin", "5px"],
        ["--crop", "--crop-margin", "5em"],
        ["--bg-color", "blurple"],
        ["--size", "hd", "--max-dimension", "100"],
    ],
    ids=" ".join,
)
def test_options_that_the_model_refuses_end_the_command_before_settings_are_read(
    arguments: list[str],
) -> None:
    result = CliRunner().invoke(
        app_for(["upload"]), ["upload", "--lane", "shop", "photo.jpg", *arguments]
    )
    assert isinstance(result.exception, InvalidEvent)
    assert result.exception.code is Code.INVALID_OPTIONS


@pytest.mark.parametrize("arguments", [["--colour", "red"], ["--format", "gif"]], ids=" ".join)
def test_an_unknown_option_is_a_usage_error(arguments: list[str]) -> None:
    result = CliRunner().invoke(
        app_for(["upload"]), ["upload", "--lane", "shop", "photo.jpg", *arguments]
    )
    assert result.exit_code == 2


def test_every_option_of_the_model_is_on_the_command_line() -> None:
    shown = CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(
        app_for(["upload"]), ["upload", "--help"]
    )
    for name in CutoutOptions.model_fields:
        assert f"--{name.replace('_', '-')}" in shown.output
