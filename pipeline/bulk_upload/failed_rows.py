"""The failed rows of a run, and the file beside the checkpoint that lists them.

CSV with the columns `row`, `reference`, `code` and `sentence`.  A row is in the file as soon as it
has failed, so a kill loses none.  The file is of one run: the next one tries failed rows again and
begins another file.  Without a failure there is no file.  It holds no account, key or pixel, and
only its owner can read it.
"""

import csv
import os
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self, TextIO

from erasestream.schemas.errors import CheckpointRefused, Code


class FailedRow(NamedTuple):
    """A row at fault.  `number` counts rows from 1, without the header and blank lines."""

    number: int
    reference: str | None
    """None as well if the row cannot be read."""
    code: Code
    sentence: str


class FailureFile:
    """Lists failed rows.  Deletes the file of an earlier run when it is made.

    Raises `Refused` (checkpoint_refused) if that is impossible.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: TextIO | None = None
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise CheckpointRefused(f"{path.name}: {error.strerror}") from error

    @classmethod
    def beside(cls, checkpoint: Path) -> Self:
        """Return the file of the upload that has this checkpoint."""
        stem = checkpoint.name.removesuffix(".checkpoint")
        return cls(checkpoint.with_name(f"{stem}.failures"))

    def add(self, failed: FailedRow) -> None:
        """Append a row.  Raises `OSError`."""
        if self._file is None:
            self._file = self._begin()
        csv.writer(self._file).writerow(
            (failed.number, failed.reference, failed.code, failed.sentence)
        )

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _begin(self) -> TextIO:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        # Line by line.  A reference may hold bytes that are not UTF-8.
        file = os.fdopen(
            descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", newline=""
        )
        csv.writer(file).writerow(("row", "reference", "code", "sentence"))
        return file
