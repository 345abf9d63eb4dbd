"""HTTPS to a bucket: which authorities it trusts, and until when it sends.

Knows nothing of buckets.

* Chain and host name are verified; the minimum is TLS 1.2 with authenticated encryption and
  forward secrecy, and TLS 1.3 where the only authority is our own.
* An operation has a deadline; after it not one more block of a request's body is sent, so the
  other side never receives all of it.  A socket timeout alone is not enough: it starts again
  with every block.
"""

import ssl
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import requests
import requests.adapters

from erasestream.schemas.clocks import Clock, Deadline
from erasestream.schemas.errors import CertificateRefused, MissingCertificate

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2; TLS 1.3 has no others."""

BLOCK_BYTES = 256 * 1024
"""Bytes sent, or received, between two checks of the deadline."""

CONNECTIONS = 64
"""Connections that are kept: as many as the sink may upload at the same time."""


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Return the TLS context of a connection.

    `ca_file` is the only trusted authority; None: the public ones.
    Raises `Refused` (missing_certificate, certificate_refused) naming the file.
    """
    if ca_file is None:
        public = ssl.create_default_context()
        public.minimum_version = ssl.TLSVersion.TLSv1_2
        public.set_ciphers(CIPHERS)
        return public
    private = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    private.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        private.load_verify_locations(ca_file)
    except FileNotFoundError:
        raise MissingCertificate(f"the bucket's CA: no file {ca_file}") from None
    except OSError:  # an error of ssl, too
        detail = f"the bucket's CA: {ca_file} holds no certificate in PEM form"
        raise CertificateRefused(detail) from None
    return private


class OperationDeadline(threading.local):
    """Deadline of the operation that the current thread runs."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._deadline = Deadline(0.0, clock)

    def start(self, timeout_s: float) -> None:
        """Begin an operation."""
        self._deadline = Deadline(timeout_s, self._clock)

    def check(self) -> None:
        """Raise `requests.Timeout` if the deadline has passed."""
        if self._deadline.has_passed:
            raise requests.Timeout("the deadline of the operation has passed")


class PartedBody:
    """Body of a request in parts, which are sent one after the other and never joined."""

    def __init__(self, *parts: bytes) -> None:
        self._parts = parts

    def __len__(self) -> int:
        """Return the number of bytes, for the request's `content-length`."""
        return sum(map(len, self._parts))

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over the parts; again and again, since a refused token repeats the request."""
        return iter(self._parts)


def _blocks(parts: Iterable[bytes], deadline: OperationDeadline) -> Iterator[memoryview]:
    """Yield the bytes of a body block by block, until the deadline."""
    for part in parts:
        view = memoryview(part)
        for at in range(0, len(view), BLOCK_BYTES):
            deadline.check()
            yield view[at : at + BLOCK_BYTES]


class DeadlineAdapter(requests.adapters.HTTPAdapter):
    """Connections of one TLS context; requests keep the deadline and are not retried."""

    def __init__(self, tls: ssl.SSLContext, deadline: OperationDeadline) -> None:
        self._tls = tls
        self._deadline = deadline
        super().__init__(pool_maxsize=CONNECTIONS, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Create pools whose connections use the TLS context."""
        kwargs |= {"ssl_context": self._tls}
        super().init_poolmanager(*args, **kwargs)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> Any:
        """Send a request, unless the deadline has passed."""
        self._deadline.check()
        if isinstance(request.body, PartedBody):
            blocks: Any = _blocks(request.body, self._deadline)
            request.body = blocks
        return super().send(request, *args, **kwargs)


def mount(session: requests.Session, ca_file: Path | None, deadline: OperationDeadline) -> None:
    """Make a session use this transport and no other.

    Neither environment variables nor `.netrc` change the address, the trusted authorities or
    the identity of a request; a redirect is an error; there is no plaintext.
    """
    session.trust_env = False
    session.max_redirects = 0
    # requests adds roots of its own to the context unless it is given the file to add.
    session.verify = str(ca_file) if ca_file else True
    session.adapters.clear()
    session.mount("https://", DeadlineAdapter(tls_context(ca_file), deadline))


def is_permanent_tls_error(error: BaseException) -> bool:
    """Return whether a handshake failed for a reason that a retry does not fix."""
    seen: list[BaseException] = [error]
    for current in seen:
        if isinstance(current, ssl.SSLCertVerificationError):
            return True
        if isinstance(current, ssl.SSLError) and "VERSION" in (current.reason or ""):
            return True
        inner = (current.__cause__, current.__context__, getattr(current, "reason", None))
        seen += [e for e in (*inner, *current.args) if _is_unseen(e, seen)]
    return False


def _is_unseen(error: object, seen: list[BaseException]) -> bool:
    return isinstance(error, BaseException) and all(error is not other for other in seen)
