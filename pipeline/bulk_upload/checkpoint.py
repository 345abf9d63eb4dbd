"""Which rows of a manifest were acknowledged, kept so that a kill at any moment loses none.

A text file that only grows.  Its first line says which upload it belongs to, and holds what
makes the ids of its rows the same on every try: the run's id and time.  Every other line is
the number of a row, written with one system call when its acknowledgement arrives and
before anybody is told.  So after a kill a row that stands here is not sent again; one whose
acknowledgement was still under way is sent again with the same id, and readers of results
keep one.  No account, path or pixel is in it.

* The first line is on the disk before the first row is sent.
* A last line without its end was cut off by the kill: that row counts as not acknowledged.
* A second process at the same checkpoint is refused.
* Not survived: the machine losing power; then at most the last seconds of rows come again.
"""

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from erasestream.schemas.errors import CheckpointRefused, Refused

_SYNC_EVERY = 1000
_MOST_DIGITS = 10
"""A longer number was never written here, and its bit would not fit into memory."""


class Run(BaseModel):
    """What a checkpoint belongs to; `id` and `time` make the ids of rows without a key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = 1
    lane: str
    manifest_sha256: str
    id: str
    time: AwareDatetime


class Rows:
    """A set of row numbers, one bit each: ten million take 1.3 MB."""

    def __init__(self) -> None:
        self._bits = bytearray()
        self._count = 0

    def add(self, number: int) -> None:
        """Put a number in."""
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

    def __init__(self, file: int, run: Run, acknowledged: Rows) -> None:
        self.run = run
        self.acknowledged = acknowledged
        self._file = file
        self._unsynced = 0
        self._lock = threading.Lock()

    @classmethod
    def begin(cls, path: Path, run: Run) -> Self:
        """A new checkpoint.  Raises `Refused` (checkpoint_refused) if there is one already."""
        with _opened(path) as file:
            if _has_first_line(file):
                raise _refused(f"{path.name} exists: resume it, or name another file")
            return cls(*_started(file, path, run))

    @classmethod
    def resume(cls, path: Path, run: Run) -> Self:
        """The checkpoint that is there, or a new one if there is none.

        Raises `Refused` (checkpoint_refused) if it belongs to another manifest or lane, can
        not be read, or is in use.
        """
        with _opened(path) as file:
            if not _has_first_line(file):
                return cls(*_started(file, path, run))
            kept, acknowledged, end = _read(file, path)
            _check_same(kept, run)
            os.ftruncate(file, end)  # the row that the kill cut off
            return cls(os.dup(file), kept, acknowledged)

    def record(self, number: int) -> None:
        """This row was acknowledged.  Thread-safe.

        Raises `OSError` (a full disk, for one), and from then on always: what follows half a
        line would be read as another row.
        """
        with self._lock:
            if self._file < 0:
                raise OSError("the checkpoint is closed")
            try:
                _append(self._file, b"%d\n" % number)
                self._sync_now_and_then()
            except OSError:
                self._let_go()
                raise

    def close(self) -> None:
        """Bring everything to the disk and let go of the file."""
        with self._lock:
            if self._file >= 0:
                os.fsync(self._file)
                self._let_go()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _sync_now_and_then(self) -> None:
        self._unsynced += 1
        if self._unsynced >= _SYNC_EVERY:
            self._unsynced = 0
            os.fdatasync(self._file)

    def _let_go(self) -> None:
        os.close(self._file)
        self._file = -1


def _refused(why: str) -> Refused:
    return CheckpointRefused(why)


def _started(file: int, path: Path, run: Run) -> tuple[int, Run, Rows]:
    os.ftruncate(file, 0)  # a first line that was cut off: nothing was sent yet
    _append(file, run.model_dump_json().encode() + b"\n")
    os.fsync(file)
    _sync_folder(path)
    return os.dup(file), run, Rows()


def new_run(*, lane: str, manifest_sha256: str, now: datetime, random: bytes) -> Run:
    """A new run; its time in whole milliseconds, as ids carry it."""
    whole = now.astimezone(UTC).replace(microsecond=now.microsecond // 1000 * 1000)
    return Run(lane=lane, manifest_sha256=manifest_sha256, id=random.hex(), time=whole)


def _check_same(kept: Run, run: Run) -> None:
    if kept.manifest_sha256 != run.manifest_sha256:
        why = "the manifest has changed since: restore it, or begin a new checkpoint"
    elif kept.lane != run.lane:
        why = f"it was begun for lane {kept.lane}"
    else:
        return
    raise _refused(why)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """The file, locked; a duplicate of the descriptor keeps the lock."""
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


def _read(file: int, path: Path) -> tuple[Run, Rows, int]:
    """The run, its rows, and where the last whole line ends."""
    rows, end = Rows(), 0
    with os.fdopen(os.dup(file), "rb") as lines:
        lines.seek(0)
        try:
            first = lines.readline()
            run = Run.model_validate_json(first)
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
    # One call and one line: with O_APPEND lines of several threads do not mix.
    if os.write(file, line) != len(line):
        raise OSError("the checkpoint could not be written whole")


def _sync_folder(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
