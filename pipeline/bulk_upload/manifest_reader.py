"""Read a manifest as a stream: one image per row, with its account.

CSV with a header line, or one JSON object per line (`.jsonl`, `.ndjson`).  Columns: `path`
(relative to the manifest's folder), `account`, and optionally `reference` and
`idempotency_key`; empty means absent.

* Every line that is not blank is one row, readable or not.  So a quoted field contains no line
  feed, and a quotation mark that is never closed costs its own row and no other.
* The same bytes always give the same rows with the same numbers: the checkpoint relies on it.
"""

import csv
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from erasestream.schemas.errors import Refused

COLUMNS = ("path", "account", "reference", "idempotency_key")
REQUIRED = ("path", "account")

_JSON_LINES = (".jsonl", ".ndjson")
_BLANK = " \t\r\n"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One image.  `number` counts rows from 1, without the header and blank lines."""

    number: int
    path: Path
    account: str
    reference: str | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """A row that cannot be read."""

    number: int


def sha256_of(manifest: Path) -> str:
    """Hash the whole file.  Raises `Refused` if it cannot be read."""
    try:
        with manifest.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Refused(f"the manifest cannot be read: {error.strerror}") from error


def read_rows(manifest: Path) -> Iterator[Row | BadRow]:
    """Yield every row.  Raises `Refused` for a CSV whose header names other columns."""
    # Bytes that are not UTF-8 are preserved: a path may have any; elsewhere the row is bad.
    with manifest.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        cells = _json_rows(file) if manifest.suffix.lower() in _JSON_LINES else _csv_rows(file)
        for number, row in enumerate(cells, start=1):
            yield _row(number, row, manifest.parent)


def _row(number: int, cells: dict[str, str] | None, folder: Path) -> Row | BadRow:
    if cells is None or not all(cells.get(name) for name in REQUIRED):
        return BadRow(number=number)
    return Row(
        number=number,
        path=folder / cells["path"],
        account=cells["account"],
        reference=cells.get("reference") or None,
        idempotency_key=cells.get("idempotency_key") or None,
    )


def _csv_rows(file: TextIO) -> Iterator[dict[str, str] | None]:
    header = _cells(file.readline()) or []
    unknown = [name for name in header if name not in COLUMNS]
    missing = [name for name in REQUIRED if name not in header]
    if unknown or missing or len(set(header)) != len(header):
        known = ", ".join(COLUMNS)
        raise Refused(f"the manifest's first line names its columns, each once, of: {known}")
    for line in file:
        if line.strip(_BLANK):
            cells = _cells(line) or ()
            yield dict(zip(header, cells, strict=True)) if len(cells) == len(header) else None


def _cells(line: str) -> list[str] | None:
    """Return the fields of a line; None if it cannot be parsed."""
    # A reader for each line: one for all would take the next lines for the rest of a quoted field.
    try:
        return next(csv.reader((line,), strict=True), None)
    except csv.Error:
        return None


def _json_rows(file: TextIO) -> Iterator[dict[str, str] | None]:
    for line in file:
        if line.strip(_BLANK):
            yield _members(line)


def _members(line: str) -> dict[str, str] | None:
    """Return the members of a line; None if it is not an object of our columns."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or not all(
        name in COLUMNS and isinstance(value, str | None) for name, value in row.items()
    ):
        return None
    return {name: value or "" for name, value in row.items()}
