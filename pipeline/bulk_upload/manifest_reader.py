"""A manifest: which file is whose, one image a row, read as a stream.

CSV with a header line, or one JSON object a line (`.jsonl`, `.ndjson`).  Columns: `path`
(relative to the manifest's folder), `account`, and optionally `reference` and
`idempotency_key`; empty is absent.  The same bytes always give the same rows with the same
numbers, also the rows that can not be read: the checkpoint stands on it.
"""

import csv
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TextIO

from erasestream.schemas.errors import Refused

COLUMNS = ("path", "account", "reference", "idempotency_key")
REQUIRED = ("path", "account")

_JSON_LINES = (".jsonl", ".ndjson")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One image: `number` counts rows from 1, without the header and blank lines."""

    number: int
    path: Path
    account: str
    reference: str | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """A row that can not be read."""

    number: int


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """Which manifest this is, by its bytes; `lines` is a hint of how many rows there are."""

    sha256: str
    lines: int


def fingerprint(manifest: Path) -> Fingerprint:
    """Read the whole file once.  Raises `Refused` if it can not be read."""
    digest, lines = hashlib.sha256(), 0
    try:
        with manifest.open("rb") as file:
            for block in _blocks(file):
                digest.update(block)
                lines += block.count(b"\n")
    except OSError as error:
        raise Refused(f"the manifest can not be read: {error.strerror}") from error
    return Fingerprint(sha256=digest.hexdigest(), lines=lines)


def read_rows(manifest: Path) -> Iterator[Row | BadRow]:
    """Every row.  Raises `Refused` for a CSV whose header names other columns."""
    # What is not UTF-8 is kept as it is: a path may be any bytes, anything else is a bad row.
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
    reader = csv.reader(file, strict=True)
    try:
        header = next(reader, [])
    except csv.Error:
        header = []
    unknown = [name for name in header if name not in COLUMNS]
    missing = [name for name in REQUIRED if name not in header]
    if unknown or missing or len(set(header)) != len(header):
        known = ", ".join(COLUMNS)
        raise Refused(f"the manifest's first line names its columns, each once, of: {known}")
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield None  # the reader goes on with the next line
            continue
        if cells:
            yield dict(zip(header, cells, strict=True)) if len(cells) == len(header) else None


def _json_rows(file: TextIO) -> Iterator[dict[str, str] | None]:
    for line in file:
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            yield None
            continue
        well_formed = isinstance(row, dict) and all(
            name in COLUMNS and isinstance(value, str | None) for name, value in row.items()
        )
        yield {name: value or "" for name, value in row.items()} if well_formed else None


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(1 << 20):
        yield block
