"""Detect that the certificate or the password of a role was renewed.

Client libraries read the files once, when a client is constructed.  An open connection outlives
its certificate, but the next one would be refused.  So the owner of clients checks regularly
whether the files differ from those that its clients were constructed with, and replaces them.
Renew well before the old certificate expires; a minute is enough.

Key and certificate are two files, and are not replaced at the same moment: as long as they do
not match each other nothing is due.  A token is not watched: clients read it again by themselves.
"""

import threading
import time

from erasestream.schemas.clocks import Clock, Deadline
from erasestream.topics.kafka.tls import Identity

LOOK_EVERY_S = 5.0


class CertificateWatcher:
    """Fingerprint of the files that the clients of one identity were made with.  Thread-safe."""

    def __init__(
        self,
        identity: Identity,
        *,
        look_every_s: float = LOOK_EVERY_S,
        clock: Clock = time.monotonic,
    ) -> None:
        self._identity = identity
        self._look_every_s = look_every_s
        self._clock = clock
        self._lock = threading.Lock()
        self._known = identity.fingerprint()
        self._next_look = Deadline(look_every_s, clock)

    def is_due(self) -> bool:
        """Return whether the clients must be replaced; true once for each change of the files.

        Reads the files at most every `look_every_s`.
        """
        if not self._next_look.has_passed:
            return False
        with self._lock:
            self._next_look = Deadline(self._look_every_s, self._clock)
            now = self._identity.fingerprint()
            if now is None or now == self._known:
                return False
            # Set before the clients are replaced: a change meanwhile is noticed at the next look.
            self._known = now
            return True
