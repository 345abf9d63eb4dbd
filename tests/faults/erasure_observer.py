"""Look at keys, objects and the log during a storm, with the auditor's rights.

The auditor looks and cosigns all the time: a receipt before its deed is refused.
"""

import threading
from collections import Counter, defaultdict
from contextlib import ExitStack
from datetime import datetime

from erasestream.pipeline.bootstrap.receipts import cosigner
from erasestream.pipeline.bootstrap.storage import open_images, open_vault, storage_of
from erasestream.pipeline.settings import Settings
from erasestream.schemas.clocks import utc_now
from erasestream.schemas.errors import ProofRefused, Unavailable
from erasestream.schemas.ids import GrantId, is_uuid
from erasestream.sinks.images.object_names import StoredName
from erasestream.topics.catalog.roles import AUDITOR

EVERY_S = 0.5
KEYS, MARKERS = "keys/", "erased/"


class ErasureObserver:
    """Notes when something existed; run it in a thread of its own."""

    def __init__(self, settings: Settings) -> None:
        self._stopping = threading.Event()
        self.created: defaultdict[str, set[datetime]] = defaultdict(set)
        """By name, each time at which an object was created that a listing had."""
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
        begun, names = _now(), list[StoredName]()
        for info in self._images.list(""):
            name = StoredName.parse(info.name)
            self.created[info.name].add(info.created)
            self.last_seen[name.grant] = self.last_seen[name.upload_id] = begun
            names.append(name)
        return names

    def grants_with_keys(self) -> Counter[GrantId]:
        """Return which grants have how many keys."""
        begun = _now()
        found = Counter(GrantId(info.name.split("/")[1]) for info in self._vault.list(KEYS))
        self.last_seen |= dict.fromkeys(found, begun)
        return found

    def deleted_grants(self) -> set[GrantId]:
        """Return the grants that have a marker, and neither keys nor objects."""
        names = [info.name.removeprefix(MARKERS) for info in self._vault.list(MARKERS)]
        marked = {GrantId(name) for name in names if is_uuid(name)}
        marked -= self.grants_with_keys().keys()
        return marked - {name.grant for name in self.objects()} if marked else marked

    def cosign(self) -> None:
        """Cosign the log as it is now, after a look."""
        try:
            self.grown += self._cosigner.cosign() is not None
        except ProofRefused as error:
            self.refused[error.detail] += 1

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
