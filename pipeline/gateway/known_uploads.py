"""Uploads with an Idempotency-Key: what was asked for under a key, and where its result is.

* The same key with the same image and options: the same result, which is fetched again.
* With others: `idempotency_key_reused`.  While the first runs: `in_progress`.
* Once the day of the first is over, and with it its result: `key_expired`, for another day.
* Once its image is deleted: `image_deleted`.

Image and options are remembered as a digest, which the upload carries as its reference: so the
index tells each gateway of it once there is a result, whichever sent it.  Uploads that run are
remembered here, and marked for the other gateways (`accepted_marks.py`).  One that was perhaps not
appended is sent again under the same id; the first of its results counts.

Pure; for one event loop.
"""

import hashlib
from collections import OrderedDict
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import NamedTuple

from erasestream.pipeline.gateway.problems import (
    HttpCode,
    Problem,
    deleted_image,
    problem,
    reused_key,
)
from erasestream.pipeline.gateway.waiting_results import short_reference
from erasestream.schemas.options import CutoutOptions
from erasestream.topics.index.table import Image

MAX_RUNNING = 200_000
"""Uploads without a result that are remembered, about 300 bytes each; the oldest go first."""
DAY = timedelta(hours=24)


class _Running(NamedTuple):
    digest: str
    began_at: datetime
    is_running: bool


def digest_of(image: bytes, options: CutoutOptions, *, never_retain: bool = False) -> str:
    """Return a digest of image, options and wish, as the reference of their upload."""
    wish = b"never retain\0" if never_retain else b""
    digest = hashlib.sha256(options.to_json().encode() + b"\0" + wish)
    digest.update(image)
    return f"sha256:{digest.hexdigest()}"


class KnownUploads:
    """Uploads by the keys of their images; the id follows from the Idempotency-Key."""

    def __init__(self, most: int = MAX_RUNNING) -> None:
        self._most = most
        self._running: OrderedDict[bytes, _Running] = OrderedDict()

    def begin(self, key: bytes, digest: str, now: datetime, *, image: Image | None) -> Image | None:
        """Remember an upload that begins; return the image if it has a result.

        `image` is what the index knows of it.  Raises `Problem` (idempotency_key_reused,
        in_progress, key_expired, image_deleted).
        """
        if image is not None and image.place is not None:
            if image.reference != short_reference(digest):
                raise reused_key()
            if now >= image.uploaded_at + DAY:
                raise expired_key()
        if image is not None and image.is_deleted:
            raise deleted_image()
        if image is not None and image.place is not None:
            return image
        known = self._running.get(key, _Running(digest, now, is_running=False))
        if known.digest != digest:
            raise reused_key()
        if now >= (image.uploaded_at if image else known.began_at) + DAY:
            raise expired_key()
        if known.is_running or image is not None:  # with a mark, it is on the brokers
            raise problem(HTTPStatus.CONFLICT, HttpCode.IN_PROGRESS)
        self._running[key] = known._replace(is_running=True)
        if len(self._running) > self._most:
            self._running.popitem(last=False)
        return None

    def finish(self, key: bytes) -> None:
        """Note that an image has a result, which the index knows."""
        self._running.pop(key, None)

    def release(self, key: bytes) -> None:
        """Note that an upload may have to be sent again: it was perhaps not appended."""
        if (known := self._running.get(key)) is not None:
            self._running[key] = known._replace(is_running=False)

    def forget(self, key: bytes) -> None:
        """Forget an upload that was refused before it was sent."""
        self._running.pop(key, None)


def expired_key() -> Problem:
    """Return the problem of a key whose day is over."""
    return problem(HTTPStatus.CONFLICT, HttpCode.KEY_EXPIRED)
