"""HTTPS to a bucket: whom it trusts, and until when it sends.  Knows nothing of buckets.

* Chain and host name are verified; TLS 1.2 is the least, with authenticated encryption and
  forward secrecy only, and 1.3 where the only authority is one of our own.
* An operation has a deadline; after it not one more block of a request's body leaves, so the
  other side never gets the whole of it.  A socket's timeout alone would not do: it starts
  again with every block.
"""

import io
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
import requests.adapters

from erasestream.schemas.errors import MissingCertificate, SealBroken

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2; TLS 1.3 has no others."""

BLOCK_BYTES = 256 * 1024
"""What is sent between two looks at the clock."""

CONNECTIONS = 16

Clock = Callable[[], float]
"""Seconds that only grow."""


def context(ca_file: Path | None) -> ssl.SSLContext:
    """What a connection must satisfy.  `ca_file` is the only authority; None: the public ones.

    Raises `Refused` (missing_certificate) if the file can not be read.
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
    except OSError as error:
        raise MissingCertificate("the bucket's CA") from error
    return private


class Deadline(threading.local):
    """Until when the operation of this thread may go on, by its clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.until = 0.0

    def start(self, seconds: float) -> None:
        """Begin an operation."""
        self.until = self.clock() + seconds

    def check(self) -> None:
        """Raises `requests.Timeout` if the time is up."""
        if self.clock() > self.until:
            raise requests.Timeout("the deadline of the operation has passed")


class _Body:
    """The body of a request, handed out block by block while there is time."""

    def __init__(self, data: bytes, deadline: Deadline) -> None:
        self._data = memoryview(data)
        self._deadline = deadline

    def read(self, size: int) -> memoryview:
        self._deadline.check()
        block, self._data = self._data[:size], self._data[size:]
        return block


class Buffer(io.BytesIO):
    """What is received, up to a limit and while there is time."""

    def __init__(self, max_bytes: int, deadline: Deadline) -> None:
        super().__init__()
        self._max_bytes = max_bytes
        self._deadline = deadline

    def write(self, data: Any, /) -> int:
        """Raises `SealBroken` above the limit, `requests.Timeout` after the deadline."""
        if self.tell() + len(data) > self._max_bytes:
            raise SealBroken
        self._deadline.check()
        return super().write(data)


class Adapter(requests.adapters.HTTPAdapter):
    """Connections of one TLS context, requests within the deadline, no retries."""

    def __init__(self, tls: ssl.SSLContext, deadline: Deadline) -> None:
        self._tls = tls
        self._deadline = deadline
        super().__init__(pool_maxsize=CONNECTIONS, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Pools whose connections use the TLS context."""
        kwargs |= {"ssl_context": self._tls, "blocksize": BLOCK_BYTES}
        super().init_poolmanager(*args, **kwargs)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> Any:
        """Send a request while there is time."""
        self._deadline.check()
        if isinstance(request.body, bytes):
            body: Any = _Body(request.body, self._deadline)
            request.body = body
        return super().send(request, *args, **kwargs)


def mount(session: requests.Session, ca_file: Path | None, deadline: Deadline) -> None:
    """Make a session use this transport and no other.

    Neither environment variables nor `.netrc` change where a request goes, whom it trusts or
    who it says it is; a redirect is an error; there is no plaintext.
    """
    session.trust_env = False
    session.max_redirects = 0
    # requests adds roots of its own to the context unless it is told which file to add.
    session.verify = str(ca_file) if ca_file else True
    session.adapters.clear()
    session.mount("https://", Adapter(context(ca_file), deadline))


def tls_problem(error: BaseException) -> bool:
    """Whether a handshake failed for a reason that trying again does not mend."""
    seen: list[BaseException] = [error]
    for current in seen:
        if isinstance(current, ssl.SSLCertVerificationError):
            return True
        if isinstance(current, ssl.SSLError) and "VERSION" in (current.reason or ""):
            return True
        inner = (current.__cause__, current.__context__, getattr(current, "reason", None))
        seen += [e for e in (*inner, *current.args) if _is_new(e, seen)]
    return False


def _is_new(error: object, seen: list[BaseException]) -> bool:
    return isinstance(error, BaseException) and all(error is not other for other in seen)
