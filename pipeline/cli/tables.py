"""Tables on the terminal and in pipes: no value is cut off, and a row is one line wherever it fits.

* Piped or in a file, each row is one line, as wide as it is.
* Values are shown as they are: brackets are no markup, and control characters are replaced, for
  customers have written some of them.
* A terminal that is too narrow for a table gets the narrower ones of the same rows, if there are
  any; values that are wider even than those continue on the next line.
"""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from erasestream.pipeline.cli.console import console

_UNBOUNDED = 10_000
"""Characters; wider than any row."""


def print_rows(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, narrow: Sequence[Sequence[str]] = ()
) -> None:
    """Print rows; `narrow` names the columns of the tables for a narrow terminal."""
    rows = list(rows)
    table = _table(columns, rows)
    unbounded = console.options.update(max_width=_UNBOUNDED)
    width = Measurement.get(console, unbounded, table).maximum
    if not console.is_terminal:
        Console(width=width).print(table)
    elif width <= console.width or not narrow:
        console.print(table)
    else:
        for names in narrow:
            places = [columns.index(name) for name in names]
            its = ([row[at] for at in places] for row in rows)
            console.print(_table(names, [row for row in its if any(row)]))
            console.print()


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(_cell, row))
    return table


def _cell(value: str) -> Text:
    return Text("".join(each if each.isprintable() or each == "\n" else "\ufffd" for each in value))
