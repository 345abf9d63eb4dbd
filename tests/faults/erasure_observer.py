"""Look at keys, objects and the log during a storm, with the auditor's rights.

The auditor looks and cosigns all the time: a receipt before its deed is refused.
"""

import threading
from collections import Counter
from contextlib import ExitStack
from datetime import datetime

from erasestream.pipeline.bootstrap.receipts import cosigner
from erasestream.pipeline.bootstrap.storage import open_images, open_vault, storage_of
from erasestream.pipeline.settings import Settings
from erasestream.schemas.clocks import utc_now
from erasestream.schemas.errors import ProofRefused, Unavailable
from erasestream.schemas.ids import UploadId
from erasestream.sinks.images.object_names import StoredName
from erasestream.topics.catalog.roles import AUDITOR

EVERY_S = 0.5
KEYS = "keys/"


class ErasureObserver:
    """Notes when something was last seen to exist; run it in a thread of its own."""

    def __init__(self, settings: Settings) -> None:
        self._stopping = threading.Event()
        self.last_seen: dict[str, datetime] = {}
        """By grant, and by upload: the beginning of the last listing that had a key or object."""
        self.refused: Counter[str] = Counter()
        """Receipts that the auditor refused, by its sentences."""
        self.grown: int = 0
        """Number of checkpoints that were cosigned."""
        with ExitStack() as opened:
            storage = storage_of(settings)
            self._images = opened.enter_context(open_images(storage, AUDITOR))
            self._vault = opened.enter_context(open_vault(storage, AUDITOR))
            self._cosigner = opened.enter_context(cosigner(settings))
            self._opened = opened.pop_all()

    def run(self) -> None:
        """Look until `stop`."""
        while not self._stopping.wait(EVERY_S):
            try:
                self.objects()
                self.grants_with_keys()
                self.cosign()
            except Unavailable:
                continue

    def objects(self) -> list[StoredName]:
        """List all objects."""
        begun = _now()
        names = [StoredName.parse(info.name) for info in self._images.list("")]
        for name in names:
            self.last_seen[name.grant] = self.last_seen[name.upload_id] = begun
        return names

    def grants_with_keys(self) -> Counter[str]:
        """Return which grants have how many keys."""
        begun = _now()
        found = Counter(info.name.split("/")[1] for info in self._vault.list(KEYS))
        self.last_seen |= dict.fromkeys(found, begun)
        return found

    def cosign(self) -> None:
        """Cosign the log as it is now, after a look."""
        try:
            self.grown += self._cosigner.cosign() is not None
        except ProofRefused as error:
            self.refused[error.detail] += 1

    def saw(self, what: str | UploadId, since: datetime) -> bool:
        """Return whether a listing that began after this time had it."""
        return what in self.last_seen and self.last_seen[what] > since

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()

    def close(self) -> None:
        """Disconnect."""
        self._opened.close()


def _now() -> datetime:
    """Return the time as leaves have it, in whole milliseconds."""
    now = utc_now()
    return now.replace(microsecond=now.microsecond // 1000 * 1000)
