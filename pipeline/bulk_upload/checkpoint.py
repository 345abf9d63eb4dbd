"""The rows of a manifest that were acknowledged, kept so that a kill at any moment loses none.

An append-only text file.  Its first line names the upload it belongs to, and the run's id and
time, from which the rows' ids are derived on every try.  Every other line is the number of a row,
written with one system call when its acknowledgement arrives and before the acknowledgement is
reported.  So after a kill a recorded row is not sent again; one whose acknowledgement was still
in flight is sent again with the same id, and readers of results keep one.  The file holds no
account, path or pixel.

* The first line is on disk before the first row is sent.
* A last line without its line feed was cut off by a kill: that row counts as not acknowledged.
* A second process with the same checkpoint is refused.
* Not covered: loss of power; then at most the last seconds of rows are sent again.
"""

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from erasestream.schemas.errors import CheckpointRefused, Refused

_SYNC_EVERY = 1000
_MOST_DIGITS = 10
"""Longer numbers are never written, and their bits would not fit into memory."""


class UploadRun(BaseModel):
    """The first line: the upload; ids of rows without a key are derived from `id` and `time`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[2] = 2
    """Release 1 numbered rows differently where a quoted field had a line feed."""
    lane: str
    manifest_sha256: str
    id: str
    time: AwareDatetime


class RowSet:
    """A set of row numbers, one bit each: ten million take 1.3 MB."""

    def __init__(self) -> None:
        self._bits = bytearray()
        self._count = 0

    def add(self, number: int) -> None:
        """Add a number."""
        byte, bit = divmod(number, 8)
        if byte >= len(self._bits):
            self._bits.extend(bytes(byte + 1 - len(self._bits)))
        if not self._bits[byte] >> bit & 1:
            self._bits[byte] |= 1 << bit
            self._count += 1

    def __contains__(self, number: int) -> bool:
        byte, bit = divmod(number, 8)
        return byte < len(self._bits) and bool(self._bits[byte] >> bit & 1)

    def __len__(self) -> int:
        return self._count


class Checkpoint:
    """An open checkpoint: `run`, the rows that were `acknowledged` before, and `record`."""

    def __init__(self, file: int, run: UploadRun, acknowledged: RowSet) -> None:
        self.run = run
        self.acknowledged = acknowledged
        self._file = file
        self._unsynced = 0
        self._lock = threading.Lock()

    @classmethod
    def begin(cls, path: Path, run: UploadRun) -> Self:
        """Begin a new checkpoint.  Raises `Refused` (checkpoint_refused) if the file has one."""
        with _opened(path) as file:
            if _has_first_line(file):
                raise _refused(f"{path.name} exists: resume it, or name another file")
            return cls(*_started(file, path, run))

    @classmethod
    def resume(cls, path: Path, run: UploadRun) -> Self:
        """Continue the checkpoint in the file, or begin one if there is none.

        Raises `Refused` (checkpoint_refused) if it belongs to another manifest or lane, cannot
        be read, or is in use.
        """
        with _opened(path) as file:
            if not _has_first_line(file):
                return cls(*_started(file, path, run))
            kept, acknowledged, end = _read(file, path)
            _check_same(kept, run)
            os.ftruncate(file, end)  # removes a line that a kill cut off
            return cls(os.dup(file), kept, acknowledged)

    def record(self, number: int) -> None:
        """Record that a row was acknowledged.  Thread-safe.

        Raises `OSError` (on a full disk, for example), and from then on always: a line appended
        to half a line would be read as another row.
        """
        with self._lock:
            if self._file < 0:
                raise OSError("the checkpoint is closed")
            try:
                _append(self._file, b"%d\n" % number)
                self._sync_every_so_often()
            except OSError:
                self._release()
                raise

    def close(self) -> None:
        """Sync and close the file."""
        with self._lock:
            if self._file >= 0:
                os.fsync(self._file)
                self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _sync_every_so_often(self) -> None:
        self._unsynced += 1
        if self._unsynced >= _SYNC_EVERY:
            self._unsynced = 0
            os.fdatasync(self._file)

    def _release(self) -> None:
        os.close(self._file)
        self._file = -1


def _refused(why: str) -> Refused:
    return CheckpointRefused(why)


def _started(file: int, path: Path, run: UploadRun) -> tuple[int, UploadRun, RowSet]:
    os.ftruncate(file, 0)  # half a first line: nothing was sent yet
    _append(file, run.model_dump_json().encode() + b"\n")
    os.fsync(file)
    _sync_folder(path)
    return os.dup(file), run, RowSet()


def new_run(*, lane: str, manifest_sha256: str, now: datetime, random: bytes) -> UploadRun:
    """Return a new run; its time in whole milliseconds, as ids encode it."""
    whole = now.astimezone(UTC).replace(microsecond=now.microsecond // 1000 * 1000)
    return UploadRun(lane=lane, manifest_sha256=manifest_sha256, id=random.hex(), time=whole)


def _check_same(kept: UploadRun, run: UploadRun) -> None:
    if kept.manifest_sha256 != run.manifest_sha256:
        why = "the manifest has changed since: restore it, or begin a new checkpoint"
    elif kept.lane != run.lane:
        why = f"it was begun for lane {kept.lane}"
    else:
        return
    raise _refused(why)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Open and lock the file; a duplicate of the descriptor keeps the lock."""
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        file = os.open(path, flags, 0o600)
    except OSError as error:
        raise _refused(f"{path.name}: {error.strerror}") from error
    try:
        _lock(file, path)
        yield file
    finally:
        os.close(file)


def _lock(file: int, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _refused(f"{path.name} is in use by another process") from None


def _has_first_line(file: int) -> bool:
    return b"\n" in os.pread(file, 4096, 0)


def _read(file: int, path: Path) -> tuple[UploadRun, RowSet, int]:
    """Return the run, its rows, and the end of the last whole line."""
    rows, end = RowSet(), 0
    with os.fdopen(os.dup(file), "rb") as lines:
        lines.seek(0)
        try:
            first = lines.readline()
            run = UploadRun.model_validate_json(first)
            end = len(first)
            for line in lines:
                if line.endswith(b"\n"):
                    rows.add(_number(line))
                    end += len(line)
        except (ValidationError, ValueError):
            raise _refused(f"{path.name} is not a checkpoint of this release") from None
    return run, rows, end


def _number(line: bytes) -> int:
    digits = line[:-1]
    if not digits.isdigit() or len(digits) > _MOST_DIGITS:
        raise ValueError("not a row's number")
    return int(digits)


def _append(file: int, line: bytes) -> None:
    # One call per line: with O_APPEND lines of several threads do not mix.
    if os.write(file, line) != len(line):
        raise OSError("the checkpoint could not be written completely")


def _sync_folder(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
