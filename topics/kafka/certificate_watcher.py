"""Notice that the certificate of a role was renewed.

Client libraries read the files once, when a client is made.  A connection that stands outlives
its certificate, but the next one would be refused.  So whoever holds clients looks now and
then whether the files are others than those that its clients were made with, and makes them
anew.  Renew well before the old certificate expires; a minute is enough.

Key and certificate are two files, and are not replaced at the same moment: as long as they do
not fit each other nothing is due.
"""

import hashlib
import ssl
import threading
import time
from collections.abc import Callable

from erasestream.topics.kafka.tls import Identity

LOOK_EVERY_S = 5.0


class CertificateWatcher:
    """What the clients of one identity were made with, and what lies there now.  Thread-safe."""

    def __init__(
        self,
        identity: Identity,
        *,
        look_every_s: float = LOOK_EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._identity = identity
        self._look_every_s = look_every_s
        self._clock = clock
        self._lock = threading.Lock()
        self._known = _fingerprint(identity)
        self._next_s = clock() + look_every_s

    def is_due(self) -> bool:
        """Whether other files lie there: once for each change; then make your clients anew.

        Looks at the disk at most every `look_every_s`.
        """
        if self._clock() < self._next_s:
            return False
        with self._lock:
            self._next_s = self._clock() + self._look_every_s
            now = _fingerprint(self._identity)
            if now is None or now == self._known:
                return False
            # Known before the clients are made: a change in between is noticed the next time.
            self._known = now
            return True


def _fingerprint(identity: Identity) -> bytes | None:
    """Of what lies there; None if that is no key with its certificate."""
    try:
        identity.ssl_context()
        parts = (identity.ca, identity.certificate, identity.key)
        digests = (hashlib.sha256(path.read_bytes()).digest() for path in parts)
        return b"".join(digests)
    except (OSError, ssl.SSLError):
        return None
