"""Read a manifest as a stream: one image per row, with its account.

CSV with a header line, or one JSON object per line (`.jsonl`, `.ndjson`).  Columns: `path`
(relative to the manifest's folder), `account`, and optionally `reference` and
`idempotency_key`; empty means absent.  The same bytes always give the same rows with the same
numbers, unreadable rows included: the checkpoint relies on it.
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


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """Identifies a manifest by its bytes; `lines` hints at the number of rows."""

    sha256: str
    lines: int


def fingerprint(manifest: Path) -> Fingerprint:
    """Hash the whole file.  Raises `Refused` if it cannot be read."""
    digest, lines = hashlib.sha256(), 0
    try:
        with manifest.open("rb") as file:
            for block in _blocks(file):
                digest.update(block)
                lines += block.count(b"\n")
    except OSError as error:
        raise Refused(f"the manifest cannot be read: {error.strerror}") from error
    return Fingerprint(sha256=digest.hexdigest(), lines=lines)


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
            yield None  # the reader continues with the next line
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
