"""A private bucket of Google Cloud Storage, or a local one, through the real client.

Rules, all of them:

* An object goes up in one request (above 8 MiB the client would open a session that lives a
  week) and under `if_generation_match=0`: created once, or `AlreadyExists`.
* Checksums both ways: the bucket checks ours on the way in and we check its answer; what was
  read must have the CRC32C that the bucket reports, and it must report one.
* Every operation has a deadline.  No byte of a put leaves after its deadline has passed, so
  whoever erases knows when the last put that began before it has ended.
* No retries of the library's own: the caller retries, and decides again first.
* The library's errors end here.  Its messages hold URLs, so they are not passed on.
"""

import base64
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

import google.auth
import google_crc32c
import requests
import urllib3.exceptions
from google.api_core.exceptions import GoogleAPICallError
from google.auth.credentials import Credentials
from google.auth.exceptions import DefaultCredentialsError, RefreshError, TransportError
from google.auth.transport.requests import AuthorizedSession
from google.cloud import storage
from google.cloud.storage import blob as client_blob
from google.cloud.storage.exceptions import DataCorruption

from erasestream.schemas.errors import (
    AlreadyExists,
    BucketAccessDenied,
    CertificateRefused,
    Code,
    ErasestreamError,
    InvariantBroken,
    MissingBucket,
    NotAuthenticated,
    NotFound,
    Refused,
    Unavailable,
)
from erasestream.sinks.buckets.http_transport import Buffer, Clock, Deadline, mount, tls_problem
from erasestream.sinks.buckets.object_store import ObjectInfo
from erasestream.sinks.images.envelope import MAX_SEALED_BYTES

GOOGLE = "https://storage.googleapis.com"
SCOPES = ("https://www.googleapis.com/auth/devstorage.read_write",)

PUT_DEADLINE_S = 20.0
"""After this a put sends nothing more.  An erasure waits for it (design, section 6)."""
OPERATION_DEADLINE_S = 60.0
"""The same for reading, and for each page of a listing."""
TIMEOUT_S = (5.0, 20.0)
"""Longest silence of the other side: while connecting or taking bytes, while answering."""
PAGE = 1000

MISSING_BUCKET = "bucket does not exist"
"""How Cloud Storage tells a missing bucket from a missing object; both are 404."""

Transient = (
    DataCorruption,
    TransportError,
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    OSError,
)


class GcsSettings(NamedTuple):
    """Which bucket, where, and as whom."""

    bucket: str
    endpoint: str = GOOGLE
    ca_file: Path | None = None
    """The only authority that is trusted; without it, the public ones."""
    token_file: Path | None = None
    """This role's bearer token; without it, Application Default Credentials."""


class _TokenFile(Credentials):
    """A bearer token from a file, which is read again when the server refuses it."""

    def __init__(self, path: Path) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._path = path

    def refresh(self, _: object) -> None:
        try:
            self.token = self._path.read_text().strip()
        except OSError as error:
            raise Refused(f"the token file {self._path.name} can not be read") from error


class GcsObjectStore:
    """An `ObjectStore` (see `store.py`) over one bucket.  Thread-safe."""

    def __init__(self, settings: GcsSettings, *, clock: Clock = time.monotonic) -> None:
        """Connects to nothing yet.  Raises `Refused` for settings that can not work."""
        if not settings.endpoint.startswith("https://"):
            raise Refused("the bucket's endpoint must begin with https://")
        _send_in_one_request(MAX_SEALED_BYTES)
        self._deadline = Deadline(clock)
        credentials = _credentials(settings.token_file)
        session = AuthorizedSession(credentials, max_refresh_attempts=1)  # type: ignore[no-untyped-call]
        mount(session, settings.ca_file, self._deadline)
        self._client = storage.Client(
            project=None,
            credentials=credentials,
            _http=session,
            client_options={"api_endpoint": settings.endpoint},
        )
        # The client would get the bucket's metadata for its traces in threads of its own,
        # without deadline and with a right that our roles do not have.
        self._client._bucket_metadata_cache = None
        self._bucket = self._client.bucket(settings.bucket)

    def check(self, permissions: Iterable[str]) -> None:
        """Whether the bucket is there and grants this role what it needs; for the start.

        Raises `Refused` with what is missing, `Unavailable` if the bucket can not be reached.
        """
        needed = sorted(permissions)
        with self._operation(OPERATION_DEADLINE_S, absent=self._missing()):
            held = self._bucket.test_iam_permissions(needed, timeout=TIMEOUT_S, retry=None)
        if missing := sorted(set(needed) - set(held)):
            detail = f"bucket {self._bucket.name}: {', '.join(missing)}"
            raise BucketAccessDenied(detail)

    def create(self, name: str, data: bytes, content_type: str) -> None:
        """Create the object, or raise `AlreadyExists`; ended or given up within 20 s."""
        if len(data) > MAX_SEALED_BYTES:
            raise InvariantBroken("more bytes than an object of ours may have")
        blob = self._bucket.blob(name)
        with self._operation(PUT_DEADLINE_S, absent=self._missing()):
            blob.upload_from_string(
                data,
                content_type=content_type,
                if_generation_match=0,
                checksum="crc32c",
                timeout=TIMEOUT_S,
                retry=None,
            )
        if (blob.crc32c, blob.size) != (_crc32c(data), len(data)):
            raise InvariantBroken("the bucket took other bytes than were sent")

    def read(self, name: str, max_bytes: int) -> bytes:
        """All bytes of an object, or `NotFound`."""
        blob = self._bucket.blob(name)
        with self._operation(OPERATION_DEADLINE_S, absent=NotFound()):
            buffer = Buffer(max_bytes, self._deadline)
            blob.download_to_file(
                buffer, raw_download=True, checksum="crc32c", timeout=TIMEOUT_S, retry=None
            )
        data = buffer.getvalue()
        if blob.crc32c != _crc32c(data):
            raise Unavailable("checksum of what was read", code=Code.BUCKET_UNAVAILABLE)
        return data

    def exists(self, name: str) -> bool:
        """Whether the object exists, as of now."""
        with self._operation(OPERATION_DEADLINE_S, absent=NotFound()):
            # The client's own exists() would take a missing bucket for a missing object.
            try:
                self._bucket.blob(name).reload(timeout=TIMEOUT_S, retry=None)
            except GoogleAPICallError as error:
                if error.code == requests.codes.not_found and MISSING_BUCKET not in str(error):
                    return False
                raise
        return True

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """The objects whose name begins with `prefix`, in the order of their names."""
        pages = self._client.list_blobs(
            self._bucket,
            prefix=prefix,
            fields="items(name,size),nextPageToken",
            page_size=PAGE,
            timeout=TIMEOUT_S,
            retry=None,
        ).pages
        while True:
            with self._operation(OPERATION_DEADLINE_S, absent=self._missing()):
                page = next(pages, None)
            if page is None:
                return
            for blob in page:
                yield ObjectInfo(blob.name, blob.size)

    def delete(self, name: str) -> None:
        """Delete the object, or raise `NotFound`."""
        with self._operation(OPERATION_DEADLINE_S, absent=NotFound()):
            self._bucket.blob(name).delete(timeout=TIMEOUT_S, retry=None)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _missing(self) -> ErasestreamError:
        return MissingBucket(f"bucket {self._bucket.name}")

    @contextmanager
    def _operation(self, seconds: float, *, absent: ErasestreamError) -> Iterator[None]:
        """Run requests within a deadline and translate what they raise; 404 is `absent`."""
        self._deadline.start(seconds)
        try:
            yield
        except GoogleAPICallError as error:
            if error.code == requests.codes.not_found and MISSING_BUCKET in str(error):
                raise self._missing() from error
            raise self._answer(error.code, absent) from error
        except (RefreshError, DefaultCredentialsError) as error:
            raise NotAuthenticated("credentials") from error
        except Transient as error:
            if tls_problem(error):
                raise CertificateRefused("of the bucket") from error
            raise Unavailable(
                f"bucket {self._bucket.name}", code=Code.BUCKET_UNAVAILABLE
            ) from error

    def _answer(self, status: int | None, absent: ErasestreamError) -> ErasestreamError:
        """What an HTTP status means."""
        bucket = f"bucket {self._bucket.name}"
        match status:
            case 401:
                return NotAuthenticated(bucket)
            case 403:
                return BucketAccessDenied(bucket)
            case 404:
                return absent
            case 412:
                return AlreadyExists()
            case 408 | 409 | 429 | 500 | 502 | 503 | 504:
                return Unavailable(bucket, code=Code.BUCKET_UNAVAILABLE)
            case _:
                return InvariantBroken(f"{bucket} answered {status}")


def _credentials(token_file: Path | None) -> Credentials:
    if token_file:
        token = _TokenFile(token_file)
        token.refresh(None)
        return token
    try:
        found, _ = google.auth.default(scopes=SCOPES)
    except DefaultCredentialsError as error:
        raise NotAuthenticated("no credentials for Google Cloud") from error
    return found


def _send_in_one_request(max_bytes: int) -> None:
    """Raise the client's private limit, and make sure that it is still where it was.

    Raises `Refused` for a release of the client that decides otherwise.
    """
    limit = getattr(client_blob, "_MAX_MULTIPART_SIZE", None)
    if not isinstance(limit, int):
        raise Refused("this release of google-cloud-storage may open upload sessions")
    client_blob._MAX_MULTIPART_SIZE = max(limit, max_bytes)


def _crc32c(data: bytes) -> str:
    """A CRC32C as the JSON API writes it."""
    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()
