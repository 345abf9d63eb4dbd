"""One operation on a bucket: within a deadline, and with errors of this project only.

The library's errors end here.  Its messages contain URLs, so they are not passed on.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import requests
import urllib3.exceptions
from google.api_core.exceptions import GoogleAPICallError
from google.auth.exceptions import DefaultCredentialsError, RefreshError, TransportError
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
    Unavailable,
)
from erasestream.sinks.buckets.http_transport import OperationDeadline, is_permanent_tls_error

_MISSING_OBJECT = "No such object"
"""Text by which Cloud Storage tells a missing object from a missing bucket; both are 404.

Only this text is believed: another server's 404, or a proxy's, does not make a marker absent.
"""

RETRIED = frozenset({408, 409, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed later."""

Transient = (
    DataCorruption,
    TransportError,
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    OSError,
)


class BucketOperations:
    """Runs operations on one bucket.  Thread-safe."""

    def __init__(self, name: str, deadline: OperationDeadline) -> None:
        """`name`: the bucket's, for errors; `deadline` is the transport's."""
        self._name = name
        self._deadline = deadline

    def missing(self) -> ErasestreamError:
        """Return the error of a bucket that does not exist."""
        return MissingBucket(f"bucket {self._name}")

    @contextmanager
    def run(self, timeout_s: float, *, absent: Callable[[], ErasestreamError]) -> Iterator[None]:
        """Run requests within a deadline and translate their errors; 404 is what `absent` returns.

        It is made when it is raised: an error that a frame of its own traceback holds would keep
        the request's connection open until garbage is collected.
        """
        self._deadline.start(timeout_s)
        try:
            yield
        except GoogleAPICallError as error:
            if is_not_found(error) and not is_missing_object(error):
                raise self.missing() from error
            raise self._error_of(error.code, absent) from error
        except (RefreshError, DefaultCredentialsError) as error:
            raise NotAuthenticated("credentials") from error
        except Transient as error:
            if is_permanent_tls_error(error):
                raise CertificateRefused("of the bucket") from error
            raise Unavailable(f"bucket {self._name}", code=Code.BUCKET_UNAVAILABLE) from error

    def _error_of(
        self, status: int | None, absent: Callable[[], ErasestreamError]
    ) -> ErasestreamError:
        """Translate an HTTP status."""
        bucket = f"bucket {self._name}"
        match status:
            case 401:
                return NotAuthenticated(bucket)
            case 403:
                return BucketAccessDenied(bucket)
            case 404:
                return absent()
            case 412:
                return AlreadyExists()
            case _ if status in RETRIED:
                return Unavailable(bucket, code=Code.BUCKET_UNAVAILABLE)
            case _:
                return InvariantBroken(f"{bucket} answered {status}")


def is_not_found(error: GoogleAPICallError) -> bool:
    """Return whether the bucket, or an object in it, does not exist."""
    return bool(error.code == requests.codes.not_found)


def is_missing_object(error: GoogleAPICallError) -> bool:
    """Return whether an object does not exist, in a bucket that does."""
    return is_not_found(error) and _MISSING_OBJECT in str(error)
