"""Rotators of one vault and one keyring, on clocks that only the test advances."""

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from erasestream.pipeline.stages.rotation.destruction_report import DestructionReport
from erasestream.pipeline.stages.rotation.stage import RotationStage
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.events.ledger import MasterDestroyed
from erasestream.schemas.ids import GrantId
from erasestream.sinks.buckets.access_policy import MASTERS
from erasestream.sinks.buckets.object_store import ObjectStore
from erasestream.sinks.keys.key_rewrap import KeyRewrapper
from erasestream.sinks.keys.key_vault import (
    MAX_WRAPPED_BYTES,
    OCTETS,
    KeyVaultReader,
    key_prefix,
    mark_erased,
)
from erasestream.sinks.keys.keyring import Keyring, VersionState, split_keys
from tests.sinks.mortal_store import Lives, MortalStore
from tests.sinks.retention_harness import ManualClock

SETTLE_S = 90.0
WEEK = timedelta(days=7)
PLENTY = 1_000_000
MOST_TURNS = 400


class MortalKeyring:
    """A keyring whose user is killed right after a number of operations."""

    def __init__(self, keyring: Keyring, lives: Lives) -> None:
        self._keyring = keyring
        self._lives = lives

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._keyring, name)
        return lambda *arguments: self._lives.spend(lambda: method(*arguments))


class RotationHarness:
    """Parts that all rotators of a test share: vault, keyring, ledger and time."""

    def __init__(
        self, store: ObjectStore, keyring: Keyring, pass_time: Callable[[timedelta], None]
    ) -> None:
        self.store = store
        self.keyring = keyring
        self.clock = ManualClock()
        self.now = datetime(2026, 5, 6, 7, 8, tzinfo=UTC)
        self.entries: list[MasterDestroyed] = []
        self.ledger_is_available = True
        self._pass_time = pass_time

    def advance(self, time: timedelta) -> None:
        """Advance all clocks: of rotators, and of Cloud KMS."""
        self.clock.now += time.total_seconds()
        self.now += time
        self._pass_time(time)

    def create_key(self, grant: GrantId | None = None) -> tuple[GrantId, bytes]:
        """Create a grant's key under the newest version, as a sink does."""
        grant = grant or GrantId(str(uuid.uuid4()))
        key = uuid.uuid4().bytes + uuid.uuid4().bytes
        version, raw = self.keyring.wrap(key, grant.encode())
        self.store.create(key_prefix(grant) + version, raw, OCTETS)
        return grant, key

    def erase(self, grant: GrantId) -> None:
        """Mark a grant as erased; its key is left, as by an eraser that was killed."""
        mark_erased(self.store, grant)

    def keys_of(self, grant: GrantId) -> set[bytes]:
        """Return the keys that a reader finds."""
        reader = KeyVaultReader(store=self.store, keyring=self.keyring, clock=lambda: 0.0)
        return set(reader.keys(grant))

    def names_of(self, grant: GrantId) -> list[str]:
        """Return the versions of which the vault has names."""
        prefix = key_prefix(grant)
        return [info.name.removeprefix(prefix) for info in self.store.list(prefix)]

    def stored_key(self, grant: GrantId, version: str) -> set[bytes]:
        """Return the keys below one name."""
        raw = self.store.read(key_prefix(grant) + version, MAX_WRAPPED_BYTES)
        return set(split_keys(self.keyring.unwrap(version, raw, grant.encode())))

    def states(self) -> list[VersionState]:
        """Return the states of all versions, oldest first."""
        return [each.state for each in self.keyring.history()]

    def noted(self) -> list[str]:
        """Return the versions with a note in the vault."""
        return [info.name.removeprefix(MASTERS) for info in self.store.list(MASTERS)]

    def reported(self) -> list[str]:
        """Return the versions in the ledger, in order, each once."""
        assert len({each.id for each in self.entries}) == len({e.master for e in self.entries})
        return list(dict.fromkeys(each.master for each in self.entries))

    @contextmanager
    def rotator(self, lives: int = PLENTY) -> Iterator[RotationStage]:
        """Start a rotator, which is killed after so many operations."""
        left = Lives(lives)

        def record(entry: MasterDestroyed) -> None:
            if not self.ledger_is_available:
                raise Unavailable("the brokers")
            self.entries.append(entry)

        store: Any = MortalStore(self.store, left)
        keyring: Any = MortalKeyring(self.keyring, left)
        stage = RotationStage(
            keyring=keyring,
            rewrapper=KeyRewrapper(store=store, keyring=keyring, clock=self.clock),
            report=DestructionReport(
                store=store,
                record=lambda entry: left.spend(lambda: record(entry)),
                now=lambda: self.now,
            ),
            interval=WEEK,
            settle_s=SETTLE_S,
            stopping=threading.Event(),
            now=lambda: self.now,
            clock=self.clock,
        )
        with closing(stage):
            yield stage

    def run(self, stage: RotationStage, until: Callable[[], bool]) -> None:
        """Run a rotator until a condition holds, a minute between its turns."""
        for _ in range(MOST_TURNS):
            if until():
                return
            stage.run_once(0)
            self.advance(timedelta(minutes=1))
        raise AssertionError("the condition does not come to hold")

    def rest(self, stage: RotationStage, turns: int = 10) -> None:
        """Run a rotator for some minutes."""
        for _ in range(turns):
            stage.run_once(0)
            self.advance(timedelta(minutes=1))
