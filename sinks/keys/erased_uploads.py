"""Tombstones of single uploads whose owners asked to erase them: nothing of them is kept again.

    erased/uploads/<owner>/<upload>    as in the names of its pictures (`object_names.py`)

The eraser creates a tombstone before it deletes the upload's pictures.  Sink and readers ask for
all tombstones of an owner at once, which are few or none, and rely on the answer for as long as on
absence of a grant's marker, counted from before it was requested.  A cached answer serves for half
of that time: a put that begins with it is not late because the answer was about to expire.  Of an
owner with many, each upload is asked about.
"""

import threading
from itertools import islice
from typing import NamedTuple

from erasestream.schemas.clocks import Clock
from erasestream.schemas.errors import Code, Erased, Unavailable
from erasestream.schemas.ids import UploadId
from erasestream.sinks.buckets.object_store import ObjectReader
from erasestream.sinks.keys.shared_calls import SharedCalls

UPLOADS = "erased/uploads/"
MANY = 1_000
"""Tombstones from which on an owner's are not listed: a page of a listing."""
MAX_OWNERS = 1_024


def tombstone_name(owner: str, upload: UploadId) -> str:
    """Return the name of an upload's tombstone; `owner` and `upload` as in pictures' names."""
    return f"{UPLOADS}{owner}/{upload}"


class _Held(NamedTuple):
    since_s: float
    uploads: frozenset[str] | None
    """None for an owner with many."""


class ErasedUploads:
    """The tombstones, as of some seconds ago at most.  Thread-safe."""

    def __init__(
        self, *, store: ObjectReader, limit_s: float, clock: Clock, most: int = MAX_OWNERS
    ) -> None:
        """`limit_s`: longest time until a tombstone is noticed; of `most` owners some are held."""
        self._store = store
        self._limit_s = limit_s
        self._clock = clock
        self._most = most
        self._held: dict[str, _Held] = {}
        self._lock = threading.Lock()
        self._fetches = SharedCalls[str, _Held]()

    def assert_kept(self, owner: str, upload: UploadId) -> float:
        """Raise `Erased` if there is a tombstone; return since when that is known.

        Raises `Unavailable` if the vault answers too slowly.
        """
        held = self._recent(owner) or self._fetches.call(owner, lambda: self._fetch(owner))
        if held.uploads is not None:
            is_erased = upload in held.uploads
            since_s = held.since_s
        else:
            since_s = self._clock()
            is_erased = self._store.exists(tombstone_name(owner, upload))
            self.assert_recent(since_s)
        if is_erased:
            raise Erased(f"upload {upload}")
        return since_s

    def assert_recent(self, since_s: float) -> None:
        """Raise `Unavailable` if what is known since then is out of date."""
        if self._clock() - since_s >= self._limit_s:
            detail = "the vault answers too slowly: its answer is already out of date"
            raise Unavailable(detail, Code.BUCKET_UNAVAILABLE)

    def _recent(self, owner: str) -> _Held | None:
        with self._lock:
            held = self._held.get(owner)
        if held is None or held.uploads is None:  # many stay many
            return held
        return held if self._clock() - held.since_s < self._limit_s / 2 else None

    def _fetch(self, owner: str) -> _Held:
        since_s = self._clock()
        prefix = tombstone_name(owner, UploadId(""))
        names = [info.name.removeprefix(prefix) for info in islice(self._store.list(prefix), MANY)]
        self.assert_recent(since_s)
        held = _Held(since_s, frozenset(names) if len(names) < MANY else None)
        with self._lock:
            self._held.pop(owner, None)
            self._held[owner] = held
            if len(self._held) > self._most:
                del self._held[next(iter(self._held))]
        return held
