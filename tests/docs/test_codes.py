"""docs/codes.md is current, and an outage names what is out of reach."""

import ast
import re

import pytest
from typer.testing import CliRunner

from erasestream.pipeline.cli.app import app_for
from erasestream.schemas import errors
from erasestream.schemas.error_reference import document
from erasestream.schemas.errors import FAILURE_CODES, SENTENCES, Code, ErasestreamError
from tests.paths import ROOT

DOCUMENT = ROOT / "docs/codes.md"


def _advice() -> list[str]:
    """Return the sentences of errors that have one of their own."""
    kinds = [each for each in vars(errors).values() if isinstance(each, type)]
    return [each.advice for each in kinds if issubclass(each, ErasestreamError) and each.advice]


def test_the_table_of_codes_is_current() -> None:
    """`erasestream codes > docs/codes.md` writes it."""
    assert DOCUMENT.read_text() == document()
    assert CliRunner().invoke(app_for(["codes"]), ["codes"]).output == document()


def test_every_code_is_there_once_and_those_of_customers_come_first() -> None:
    customers, _, others = document().partition("## Errors of processes")
    for code in Code:
        row = f"| `{code}` | {SENTENCES[code]} |\n"
        assert document().count(row) == 1
        assert row in (customers if code in FAILURE_CODES else others)


@pytest.mark.parametrize("sentence", [*SENTENCES.values(), *_advice()])
def test_a_sentence_names_the_cause_and_then_the_remedy(sentence: str) -> None:
    cause, remedy, *_ = re.split(r"[:;.] ", sentence)
    assert cause
    assert remedy


def test_an_outage_of_storage_never_advises_to_check_the_brokers() -> None:
    """`Unavailable` means the brokers by default: buckets and keyrings name a code of their own."""
    raised = {
        f"{path.name}:{call.lineno}": [*call.args[1:], *call.keywords]
        for path in (ROOT / "sinks").rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "Unavailable"
    }
    assert raised
    assert {at for at, code in raised.items() if not code} == set()
