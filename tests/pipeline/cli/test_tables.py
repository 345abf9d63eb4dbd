"""Tables of values that customers have written."""

import pytest

from erasestream.pipeline.cli.tables import print_rows


@pytest.mark.parametrize(
    ("written", "shown"),
    [("[/bold]", "[/bold]"), ("[red]shop", "[red]shop"), ("\x1b[2Jshop", "\ufffd[2Jshop")],
)
def test_values_are_shown_and_never_obeyed(
    capsys: pytest.CaptureFixture[str], written: str, shown: str
) -> None:
    print_rows(("label",), [(written,)])
    assert capsys.readouterr().out.splitlines()[1].rstrip() == shown
