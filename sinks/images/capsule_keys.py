"""Keys of the capsules of sealed pictures: which epoch's, and what it means that there is none.

Rules, all of them:

* A capsule names its epoch, which is not authenticated: nothing follows from it but a question to
  the key service.
* While the service does not answer, or its clock is a little behind, the key is unavailable: retry.
* A dead key is `KeyDead`: nothing opens the picture any more.
* Every other answer, and every capsule that does not open, is `SealBroken`, which the sink reports
  as `PictureBroken`: it concerns this picture alone.
"""

from typing import ClassVar, NamedTuple, Protocol

from erasestream.schemas.clocks import WallClock, utc_now
from erasestream.schemas.errors import Code, ErasestreamError, SealBroken, Unavailable
from erasestream.schemas.events.images import Retained
from erasestream.schemas.sealing.capsule import epoch_of, open_capsule
from erasestream.schemas.sealing.envelope import upload_digest
from erasestream.schemas.sealing.recipients import Epoch, EpochOpener
from erasestream.topics.catalog.epochs import EpochTimes
from erasestream.topics.catalog.purposes import KEPT
from erasestream.topics.keys.answers import NoKey

KEY_TIMEOUT_S = 2.0
"""Longest wait for one answer; the stage retries."""


class KeyDead(ErasestreamError):
    """The key of the picture's hour is destroyed: drop the picture, nothing opens it any more."""

    default: ClassVar[Code] = Code.EXPIRED


class PictureBroken(SealBroken):
    """A sealed picture and its capsule do not belong together; another picture may well open."""


class KeySource(Protocol):
    """Private keys of epochs (`KeyClient`)."""

    def opening_key(self, purpose: str, epoch: int, *, timeout_s: float) -> bytes | NoKey:
        """Return the raw private key, or why there is none.  Raises `Unavailable`."""

    def drop_dead(self) -> None:
        """Drop every private key that has died."""


class _CachedOpener(NamedTuple):
    key: bytes
    opener: EpochOpener


class CapsuleKeys:
    """Opens capsules.  Thread-safe if its source is."""

    def __init__(self, source: KeySource, *, times: EpochTimes, now: WallClock = utc_now) -> None:
        self._source = source
        self._times = times
        self._now = now
        self._last: _CachedOpener | None = None

    def is_available(self) -> bool:
        """Return whether the service answers now; an answer that it has given is kept."""
        try:
            self._source.opening_key(KEPT, self._times.number(self._now()), timeout_s=0)
        except Unavailable:
            return False
        return True

    def drop_dead(self) -> None:
        """Drop every key that has died."""
        self._source.drop_dead()
        last = self._last
        if last and self._times.is_due(last.opener.epoch.number, self._now()):
            self._last = None

    def data_key(self, event: Retained, sha256: bytes) -> bytes:
        """Return the data key of a sealed picture, whose value has this SHA-256.

        Raises `Unavailable`, `KeyDead`, or `SealBroken` if the capsule is not this picture's.
        """
        if event.capsule is None:
            raise SealBroken
        epoch = epoch_of(event.capsule)
        key = self._source.opening_key(epoch.purpose, epoch.number, timeout_s=KEY_TIMEOUT_S)
        if isinstance(key, NoKey):
            raise self._refusal(key, epoch)
        upload = upload_digest(event.lane, event.account, event.id)
        capsule = open_capsule(event.capsule, upload, self._opener(epoch, key))
        return capsule.data_key_of(event.part, sha256)

    def _opener(self, epoch: Epoch, key: bytes) -> EpochOpener:
        """Return what opens capsules of an epoch; making one costs as much as a small picture."""
        last = self._last
        if last is None or (last.opener.epoch, last.key) != (epoch, key):
            self._last = last = _CachedOpener(key, EpochOpener.of(epoch, key))
        return last.opener

    def _refusal(self, answer: NoKey, epoch: Epoch) -> ErasestreamError:
        if answer is NoKey.EXPIRED:
            return KeyDead()
        # The worker has compared the epoch with the upload's time: only clocks can differ.
        ahead_s = epoch.number * self._times.length_s - self._now().timestamp()
        if answer is NoKey.FUTURE and ahead_s <= 2 * self._times.clock_error_s:
            return Unavailable("an epoch begins soon", Code.KEYS_UNAVAILABLE)
        return SealBroken()
