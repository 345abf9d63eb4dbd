"""Uploads with an Idempotency-Key: what was asked for under a key, and where its result is.

* The same key with the same image and options: the same result, which is fetched again.
* With others: `idempotency_key_reused`.  While the first runs: `in_progress`.
* Once the day of the first is over, and with it its result: `key_expired`, as long as the upload
  is remembered.

Image and options are remembered as a digest, which the upload carries as its reference: so each
gateway learns from the result of an upload, whichever sent it.  An upload that was perhaps not
appended is sent again under the same id; the first of its results counts.

Pure; for one event loop.
"""

import hashlib
from collections import OrderedDict
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import NamedTuple

from erasestream.pipeline.gateway.problems import HttpCode, Problem, problem, reused_key
from erasestream.pipeline.gateway.waiting_results import Result
from erasestream.schemas.ids import AccountId, UploadId
from erasestream.schemas.options import CutoutOptions
from erasestream.topics.client.delivered_results import ResultKey

MAX_KNOWN = 200_000
"""Uploads that are remembered, about 400 bytes each; the oldest go first."""
DAY = timedelta(hours=24)


class Place(NamedTuple):
    """Where a result is in the lane's topic of results."""

    partition: int
    offset: int


class KnownUpload(NamedTuple):
    """One upload; `place` is None before it has a result."""

    digest: str
    began_at: datetime
    is_running: bool
    place: Place | None = None


_PREFIX = "sha256:"


def digest_of(image: bytes, options: CutoutOptions, *, never_retain: bool = False) -> str:
    """Return a digest of image, options and wish, as the reference of their upload."""
    wish = b"never retain\0" if never_retain else b""
    digest = hashlib.sha256(options.to_json().encode() + b"\0" + wish)
    digest.update(image)
    return f"{_PREFIX}{digest.hexdigest()}"


class KnownUploads:
    """Uploads by account and id; the id follows from the key."""

    def __init__(self, most: int = MAX_KNOWN) -> None:
        self._most = most
        self._uploads: OrderedDict[ResultKey, KnownUpload] = OrderedDict()

    def begin(
        self, account: AccountId, upload_id: UploadId, digest: str, now: datetime
    ) -> Place | None:
        """Remember an upload that begins; return where its result is if it was made before.

        Raises `Problem` (idempotency_key_reused, in_progress, key_expired).
        """
        key = ResultKey.of(account, upload_id)
        known = self._uploads.get(key)
        if known is None:
            self._add(key, KnownUpload(digest, now, is_running=True))
            return None
        if known.digest != digest:
            raise reused_key()
        if now >= known.began_at + DAY:
            raise expired_key()
        if known.place is None and known.is_running:
            raise problem(HTTPStatus.CONFLICT, HttpCode.IN_PROGRESS)
        if known.place is None:
            self._uploads[key] = known._replace(is_running=True)
        return known.place

    def finish(self, result: Result, place: Place) -> None:
        """Remember where the result of an upload is, if it has a key; the first one counts.

        It may be that of another image, which another gateway has sent: then the key is of that.
        """
        if result.reference is None or not result.reference.startswith(_PREFIX):
            return
        key = ResultKey.of(result.account, result.id)
        known = self._uploads.get(key)
        if known is None:
            known = KnownUpload(result.reference, result.uploaded_at, is_running=False)
            self._add(key, known)
        if known.place is None:
            self._uploads[key] = known._replace(digest=result.reference, place=place)

    def release(self, account: AccountId, upload_id: UploadId) -> None:
        """Note that an upload may have to be sent again: it was perhaps not appended."""
        key = ResultKey.of(account, upload_id)
        if (known := self._uploads.get(key)) is not None:
            self._uploads[key] = known._replace(is_running=False)

    def forget(self, account: AccountId, upload_id: UploadId) -> None:
        """Forget an upload that was refused before it was sent."""
        self._uploads.pop(ResultKey.of(account, upload_id), None)

    def _add(self, key: ResultKey, upload: KnownUpload) -> None:
        self._uploads[key] = upload
        if len(self._uploads) > self._most:
            self._uploads.popitem(last=False)


def expired_key() -> Problem:
    """Return the problem of a key whose day is over."""
    return problem(HTTPStatus.CONFLICT, HttpCode.KEY_EXPIRED)
