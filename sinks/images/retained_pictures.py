"""Iterate over retained pictures, for training: fetched in parallel, opened one by one.

Pictures that were fetched ahead are sealed until they are handed out.  Rules, all of them:

* Nothing is fetched of a grant that is erased, and nothing is handed out on evidence older than
  5 s: neither that its grant is not erased, nor that its object still exists.  So a picture that is
  erased meanwhile is skipped, also if it was fetched before.
* Photo and cut-out are opened together, once both have arrived.
* A picture that cannot be opened is skipped, and logged: it ends no training.
* Everything that is skipped is counted.
* While the bucket is unavailable, fetching is retried for `PATIENCE_S`.
"""

import logging
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from enum import StrEnum
from itertools import groupby, islice
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from erasestream.schemas.clocks import Clock, Deadline
from erasestream.schemas.errors import Code, Erased, NotFound, SealBroken, Unavailable
from erasestream.schemas.events.images import Part
from erasestream.schemas.ids import GrantId, UploadId
from erasestream.schemas.sealing.envelope import Opened
from erasestream.sinks.images.prefetch import prefetched
from erasestream.sinks.keys.key_vault import CACHE_LIMIT_S
from erasestream.topics.kafka.backoff import retry

T = TypeVar("T")

if TYPE_CHECKING:
    from erasestream.sinks.images.decoding import Picture

log: logging.Logger = logging.getLogger(__name__)

PATIENCE_S = 300.0


class RetainedObject(NamedTuple):
    """A retained picture in a listing; `size` is that of the sealed object, in bytes."""

    name: str
    grant: GrantId
    upload_id: UploadId
    part: Part
    size: int
    stored: datetime


class Selection(NamedTuple):
    """Which pictures: by grant, by when they were stored, and a share of the uploads."""

    grants: frozenset[GrantId] | None = None
    """None: all grants."""
    since: datetime | None = None
    """Stored then or later."""
    before: datetime | None = None
    """Stored before then."""
    share: tuple[int, int] = (0, 1)
    """The number of a share and how many there are; the parts of an upload are in one share."""

    def includes(self, found: RetainedObject) -> bool:
        """Return whether a picture is selected."""
        number, shares = self.share
        return (
            (self.grants is None or found.grant in self.grants)
            and (self.since is None or self.since <= found.stored)
            and (self.before is None or found.stored < self.before)
            and zlib.crc32(found.upload_id.encode()) % shares == number
        )


class RetainedPicture(NamedTuple):
    """An opened picture."""

    name: str
    grant: GrantId
    upload_id: UploadId
    part: Part
    content_type: str
    data: bytes

    def image(self) -> "Picture":
        """Return the picture decoded, upright (needs Pillow).

        An uploader made the file: decode it where you would decode any stranger's.
        """
        from erasestream.sinks.images.decoding import upright_image  # noqa: PLC0415

        return upright_image(self.data)


class RetainedPair(NamedTuple):
    """Photo and cut-out of one upload."""

    photo: RetainedPicture
    cutout: RetainedPicture


class Skipped(StrEnum):
    """Why a picture is skipped; also the name of a count."""

    ERASED = "erased"
    """Its grant, or its upload, is."""
    GONE = "gone"
    """Its object was deleted, and neither its grant nor its upload is erased."""
    BROKEN = "broken"
    """The object is not the picture that its name denotes."""
    UNPAIRED = "unpaired"
    """Of pairs: the other part of its upload is missing or was skipped, or there are several."""


class Source(Protocol):
    """Where pictures come from.  All methods raise `Erased`, `NotFound`, `Unavailable`."""

    def fetch(self, found: RetainedObject) -> bytes:
        """Return a sealed picture whose grant was not erased 5 s ago.  Thread-safe."""

    def verify_kept(self, found: RetainedObject) -> None:
        """Raise `NotFound` unless the object exists, as of now."""

    def unseal(self, found: RetainedObject, sealed: bytes) -> Opened:
        """Open a picture whose grant was not erased 5 s ago.  Raises `SealBroken`, too."""


class _Fetched(NamedTuple):
    sealed: bytes
    since_s: float


_Answer = tuple[RetainedObject, _Fetched | Skipped]


class RetainedPictures:
    """The selected pictures.  Iterate once, in one thread."""

    def __init__(
        self,
        listed: Iterable[RetainedObject],
        source: Source,
        *,
        threads: int,
        max_bytes: int,
        clock: Clock,
    ) -> None:
        self._listed = listed
        self._source = source
        self._threads = threads
        self._max_bytes = max_bytes
        self._clock = clock
        self._stopping = threading.Event()
        """Whether nothing more is fetched."""
        self.counts: Counter[str] = Counter()
        """Number of pictures that were `opened`, and of those skipped for each reason."""

    def __iter__(self) -> Iterator[RetainedPicture]:
        """Yield the pictures in the order of their names.

        Raises `Unavailable` if the buckets do not answer for `PATIENCE_S`.
        """
        for each in self._fetched():
            yield from self._opened([each])

    def pairs(self) -> Iterator[RetainedPair]:
        """Yield photo and cut-out of each upload that has both, and each once."""
        for _, parts in groupby(self._fetched(), key=_upload_of):
            few = list(islice(parts, len(Part) + 1))
            if len(few) > len(Part):  # a lane may use one id for any number of uploads: keep none
                self.counts[Skipped.UNPAIRED] += len(few) + sum(1 for _ in parts)
                continue
            opened = self._opened(few)
            found = {each.part: each for each in opened}
            if len(opened) == len(found) == len(Part):
                yield RetainedPair(found[Part.ORIGINAL], found[Part.CUTOUT])
            else:
                self.counts[Skipped.UNPAIRED] += len(opened)

    def _fetched(self) -> Iterator[_Answer]:
        return prefetched(
            self._listed,
            self._fetch,
            threads=self._threads,
            max_bytes=self._max_bytes,
            stop=self._stopping.set,
        )

    def _opened(self, answers: list[_Answer]) -> list[RetainedPicture]:
        """Open what was fetched, all of it on evidence of the last 5 s, and count it."""

        def attempt() -> list[Opened | Skipped]:
            begun_s = self._clock()
            opened = [
                answer if isinstance(answer, Skipped) else self._open(found, answer)
                for found, answer in answers
            ]
            if self._clock() - begun_s >= CACHE_LIMIT_S:
                detail = "the buckets answer too slowly: their answers are out of date"
                raise Unavailable(detail, Code.BUCKET_UNAVAILABLE)
            return opened

        opened = self._retry(attempt)
        self.counts.update(each if isinstance(each, Skipped) else "opened" for each in opened)
        return [
            _picture(found, each)
            for (found, _), each in zip(answers, opened, strict=True)
            if not isinstance(each, Skipped)
        ]

    def _fetch(self, found: RetainedObject) -> _Fetched | Skipped:
        def fetch() -> _Fetched:
            since_s = self._clock()
            return _Fetched(self._source.fetch(found), since_s)

        return self._unless_skipped(found, fetch, stopping=self._stopping)

    def _open(self, found: RetainedObject, fetched: _Fetched) -> Opened | Skipped:
        def open_fetched() -> Opened:
            if self._clock() - fetched.since_s >= CACHE_LIMIT_S:
                self._source.verify_kept(found)
            return self._source.unseal(found, fetched.sealed)

        return self._unless_skipped(found, open_fetched)

    def _unless_skipped(
        self,
        found: RetainedObject,
        attempt: Callable[[], T],
        *,
        stopping: threading.Event | None = None,
    ) -> T | Skipped:
        try:
            return self._retry(attempt, stopping)
        except Erased:
            return Skipped.ERASED
        except NotFound:
            return Skipped.GONE
        except SealBroken as error:
            fields = {"code": error.code, "reason": f"upload {found.upload_id}"}
            log.error("retained_broken", extra=fields)  # noqa: TRY400 (its trace says nothing)
            return Skipped.BROKEN

    def _retry(self, attempt: Callable[[], T], stopping: threading.Event | None = None) -> T:
        deadline = Deadline(PATIENCE_S, self._clock)
        return retry(attempt, deadline=deadline, stopping=stopping, event="waiting")


def _upload_of(answer: _Answer) -> tuple[GrantId, UploadId]:
    found, _ = answer
    return found.grant, found.upload_id


def _picture(found: RetainedObject, opened: Opened) -> RetainedPicture:
    return RetainedPicture(
        found.name,
        found.grant,
        found.upload_id,
        found.part,
        opened.content_type,
        opened.plaintext,
    )
