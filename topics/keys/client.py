"""Client of the key service, for producers, workers, the sink and consumers.

Rules, all of them:

* A public key is used until its epoch ends, by the client's own clock.  The next epoch's key is
  fetched with it, and used while the service is unavailable (`sealing_keys.py`).
* The key of a given epoch is dropped when it dies (`epoch_key_cache.py`).  A dead key is an
  answer, `NoKey.EXPIRED`, not an error.
* No key is used later than 24 hours from now, whatever the service answers.
"""

import threading
import time
from collections.abc import Sequence
from typing import Self

from erasestream.schemas.clocks import Clock, Deadline, WallClock, utc_now
from erasestream.schemas.errors import Code, Unavailable
from erasestream.topics.catalog.retention_budget import PROMISE_S
from erasestream.topics.catalog.roles import Role
from erasestream.topics.kafka.connection import Cluster
from erasestream.topics.kafka.tls import Identity
from erasestream.topics.keys.answers import (
    EpochKey,
    KeyHalf,
    KeyRequest,
    NoKey,
    SealingKey,
    SealingKeys,
)
from erasestream.topics.keys.endpoints import ATTEMPT_S, KeyEndpoints
from erasestream.topics.keys.epoch_key_cache import EpochKeyCache


class KeyClient:
    """Keys of epochs, cached.  Thread-safe."""

    def __init__(
        self,
        *,
        endpoints: Sequence[str],
        identity: Identity,
        now: WallClock = utc_now,
        clock: Clock = time.monotonic,
        attempt_s: float = ATTEMPT_S,
    ) -> None:
        """`endpoints`: `https://host:port`.  Raises `Refused` if one is not of this form."""
        self._endpoints = KeyEndpoints(endpoints, identity, attempt_s=attempt_s)
        self._now = now
        self._clock = clock
        self._lock = threading.Lock()
        self._sealing: dict[str, tuple[SealingKey, ...]] = {}
        self._of_epochs = EpochKeyCache(now)

    @classmethod
    def of(cls, cluster: Cluster, role: Role, *, now: WallClock = utc_now) -> Self:
        """Return the client of a role, for the key service of a cluster.

        It proves its role with a certificate, however brokers want that proven.  Raises `Refused`
        without endpoints, `MissingCertificate` or `CertificateRefused`.
        """
        identity = Identity.load(cluster.identities, role)
        return cls(endpoints=cluster.key_endpoints, identity=identity, now=now)

    def sealing_key(self, purpose: str, *, timeout_s: float) -> SealingKey:
        """Return the public key to seal with now: a known one, or as `fetch_sealing_keys` does."""
        known = self.known_sealing_keys(purpose)
        return (known or self.fetch_sealing_keys(purpose, timeout_s=timeout_s))[0]

    def known_sealing_keys(self, purpose: str) -> tuple[SealingKey, ...]:
        """Return the known public keys of this epoch and of later ones, without asking."""
        now_s = self._now().timestamp()
        with self._lock:
            return tuple(k for k in self._sealing.get(purpose, ()) if k.ends_s > now_s)

    def fetch_sealing_keys(self, purpose: str, *, timeout_s: float) -> tuple[SealingKey, ...]:
        """Fetch the public keys of this epoch and of the next.

        Raises `Unavailable` (keys_unavailable) if there is none at the deadline, `NotAuthorized` if
        the catalog does not let this role seal for the purpose, and `Refused` if it has none.
        """
        request = KeyRequest(KeyHalf.PUBLIC, purpose)
        deadline = Deadline(timeout_s, self._clock)
        answer = self._endpoints.ask(request, deadline, SealingKeys.parse)
        if isinstance(answer, NoKey):
            raise Unavailable("no keys of this epoch", Code.KEYS_UNAVAILABLE)
        latest_s = self._now().timestamp() + PROMISE_S
        with self._lock:
            self._sealing[purpose] = tuple(key.until(latest_s) for key in answer.keys)
        keys = self.known_sealing_keys(purpose)
        if not keys:
            raise Unavailable(
                "the epochs that the service offers have ended, by this clock",
                Code.KEYS_UNAVAILABLE,
            )
        return keys

    def public_key(self, purpose: str, epoch: int, *, timeout_s: float) -> bytes | NoKey:
        """Return the raw public key of an epoch, which may have ended, or why there is none.

        Raises as `opening_key` does.
        """
        return self._of_epoch(KeyRequest(KeyHalf.PUBLIC, purpose, epoch), timeout_s)

    def opening_key(self, purpose: str, epoch: int, *, timeout_s: float) -> bytes | NoKey:
        """Return the raw private key of an epoch, or why there is none.

        Raises `Unavailable` (keys_unavailable) if the service has not answered at the deadline,
        `NotAuthorized` if the catalog names another role for the purpose, and `Refused` if there is
        no such purpose.
        """
        return self._of_epoch(KeyRequest(KeyHalf.PRIVATE, purpose, epoch), timeout_s)

    def known_opening_key(self, purpose: str, epoch: int) -> bytes | NoKey | None:
        """Return what `opening_key` returns, without asking; None if it would have to ask."""
        return self._known(KeyRequest(KeyHalf.PRIVATE, purpose, epoch))

    def drop_dead(self) -> None:
        """Drop every private key that has died.  Call it regularly where no key is asked for."""
        with self._lock:
            self._of_epochs.drop_dead()

    def _of_epoch(self, request: KeyRequest, timeout_s: float) -> bytes | NoKey:
        if (known := self._known(request)) is not None:
            return known
        answer = self._endpoints.ask(request, Deadline(timeout_s, self._clock), EpochKey.parse)
        if isinstance(answer, EpochKey):
            answer = answer.until(self._now().timestamp() + PROMISE_S)
        with self._lock:
            return self._of_epochs.take(request, answer)

    def _known(self, request: KeyRequest) -> bytes | NoKey | None:
        with self._lock:
            return self._of_epochs.get(request)
