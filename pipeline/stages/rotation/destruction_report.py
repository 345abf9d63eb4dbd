"""Report destroyed versions of the master key: to the ledger, and as notes in the vault.

    masters/<version>    the version was seen destroyed, and the ledger has it

Rules, all of them:

* Only a version that the keyring reports as destroyed is reported, once it does.
* In their order: a grant's key may have been wrapped under any version before its last one.  So
  a reported version vouches for all before it as well.
* The ledger first, then the note.  An entry's id follows from the version: if the process is killed
  in between, the repetition is seen.
"""

import hashlib
from collections.abc import Callable, Iterable
from contextlib import suppress

from erasestream.schemas.clocks import WallClock
from erasestream.schemas.errors import AlreadyExists
from erasestream.schemas.events.ledger import MasterDestroyed
from erasestream.schemas.ids import derived_uuid
from erasestream.sinks.buckets.access_policy import MASTERS
from erasestream.sinks.buckets.object_store import ObjectStore
from erasestream.sinks.keys.key_vault import OCTETS, destroyed_masters
from erasestream.sinks.keys.keyring import MasterVersion, VersionState


class DestructionReport:
    """Reports each version once."""

    def __init__(
        self, *, store: ObjectStore, record: Callable[[MasterDestroyed], None], now: WallClock
    ) -> None:
        """`record` writes an entry, and returns once it is acknowledged."""
        self._store = store
        self._record = record
        self._now = now

    def report(self, history: Iterable[MasterVersion]) -> list[str]:
        """Report what can be; return the versions that were.  Raises `Unavailable`."""
        noted = destroyed_masters(self._store)
        reported = list[str]()
        for version in history:
            if version.state is not VersionState.DESTROYED:
                break
            if version.name not in noted:
                self._record(_entry(version.name, self._now))
                with suppress(AlreadyExists):
                    self._store.create(f"{MASTERS}{version.name}", b"", OCTETS)
                reported.append(version.name)
        return reported


def _entry(name: str, now: WallClock) -> MasterDestroyed:
    digest = hashlib.sha256(b"master\0" + name.encode()).digest()
    return MasterDestroyed(id=derived_uuid(digest), time=now(), master=name)
