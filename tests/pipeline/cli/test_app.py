"""A process imports the subcommand that it runs, and no other."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from erasestream.pipeline.cli.app import app_for

LIST = """
import json, sys
from erasestream.pipeline.cli.app import app_for
app_for(sys.argv[1:])
print(json.dumps([name.rpartition(".")[2] for name in sys.modules if ".pipeline.cli." in name]))
"""


@pytest.mark.parametrize(
    ("arguments", "imported"),
    [
        (["route"], {"app", "stages"}),
        (["probe", "route"], {"app", "probe"}),
        (["upload", "--help"], {"app", "images", "manifest", "cutout_options", "console"}),
    ],
)
def test_only_the_named_subcommand_is_imported(arguments: list[str], imported: set[str]) -> None:
    command = [sys.executable, "-c", LIST, *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert set(json.loads(ran.stdout)) == imported


def test_only_subcommand_keeps_its_name() -> None:
    shown = CliRunner().invoke(app_for(["probe"]), ["probe", "--help"]).output
    assert "root probe [OPTIONS]" in shown


@pytest.mark.parametrize("arguments", [[], ["--help"], ["nowhere"], ["nowhere", "probe"]])
def test_help_and_mistakes_know_all_subcommands(arguments: list[str]) -> None:
    shown = CliRunner().invoke(app_for(arguments), ["--help"]).output
    for name in ("route", "upload", "provision", "consent", "dev"):
        assert f" {name} " in shown
