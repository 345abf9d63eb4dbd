"""Issue and revoke API keys."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from datetime import date, datetime, timedelta

from erasestream.schemas.clocks import WallClock, utc_now
from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.errors import NotFound
from erasestream.schemas.events.base import TimedEvent
from erasestream.schemas.events.credentials import (
    CredentialKind,
    CredentialsClosed,
    CredentialSet,
    CredentialUsed,
)
from erasestream.schemas.ids import AccountId, Lane, new_event_id
from erasestream.topics.catalog.acl import Operation
from erasestream.topics.catalog.topic_names import credentials_of
from erasestream.topics.consent.compaction_heartbeat import CompactionHeartbeat
from erasestream.topics.consent.reader import validated
from erasestream.topics.credentials.table import Credential, closing_key, state_key, use_key
from erasestream.topics.credentials.token import Token, new_token
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter, Written
from erasestream.topics.kafka.records import Partition

WRITE_TIMEOUT_S = 20.0


class CredentialWriter:
    """Writes the keys of a lane, as its role `account`.  Thread-safe."""

    def __init__(
        self,
        writes: AcknowledgedWriter,
        lane: Lane,
        *,
        now: WallClock = utc_now,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._writes = writes
        self._at = Partition(credentials_of(lane), 0)
        self._source = f"/lanes/{lane}/gateway"
        self._now = now
        self._random = random

    def create(
        self,
        account: str,
        kind: CredentialKind,
        *,
        label: str = "",
        lifetime: timedelta | None = None,
    ) -> Token:
        """Issue a key and return it: its text is stored nowhere.

        Raises `InvalidEvent` (invalid_account), `Unavailable`, `Refused`.
        """
        token, now = new_token(kind, self._random), self._now()
        state = CredentialSet(
            id=self._id(now),
            time=now,
            account=validated(account),
            key_id=token.key_id,
            kind=kind,
            token_sha256=token.sha256,
            label=label,
            created_at=now,
            expires_at=None if lifetime is None else now + lifetime,
        )
        self._write(state_key(token.key_id), state)
        return token

    def revoke(self, credential: Credential | None) -> None:
        """Revoke a key, for good.  Idempotent.  Raises `NotFound` if there is none."""
        if credential is None:
            raise NotFound
        if credential.state.revoked_at is not None:
            return
        now = self._now()
        changed = {"id": self._id(now), "time": now, "revoked_at": now}
        state = credential.state.model_copy(update=changed)
        self._write(state_key(state.key_id), state)

    def close_account(self, account: AccountId) -> None:
        """Make every key of the account invalid, for good: also those that are created later."""
        now = self._now()
        closed = CredentialsClosed(id=self._id(now), time=now, account=account, closed_at=now)
        self._write(closing_key(account), closed)

    def begin_use(self, key_id: str, day: date) -> Future[Written]:
        """Begin to record that a key was used on this day; the future is done during later `poll`.

        Raises `Unavailable` or `Refused`, as the future does.
        """
        now = self._now()
        used = CredentialUsed(id=self._id(now), time=now, key_id=key_id, day=day)
        wire = to_wire(used, source=self._source)
        (answer,) = self._writes.begin([(self._at, use_key(key_id), wire)])
        return answer

    def poll(self, answers: Sequence[Future[Written]]) -> None:
        """Take what the brokers have answered, without waiting."""
        self._writes.wait(answers, timeout_s=0)

    def heartbeat(self) -> CompactionHeartbeat:
        """Return the heartbeat of the topic: only its writers may write it."""
        return CompactionHeartbeat(writes=self._writes, partitions={self._at.topic: 1})

    def _write(self, key: bytes, event: TimedEvent) -> None:
        self._writes.write(self._at, key, to_wire(event, source=self._source))

    def _id(self, now: datetime) -> str:
        return new_event_id(now, self._random(10))


@contextmanager
def credential_writer(connection: Connection, lane: Lane) -> Iterator[CredentialWriter]:
    """Open the writer of a lane's keys.  Raises `Refused` or `Unavailable`."""
    with Admin(connection) as admin:
        admin.check_rights({credentials_of(lane): (Operation.WRITE,)})
    writes = AcknowledgedWriter(connection=connection, timeout_s=WRITE_TIMEOUT_S)
    with closing(writes):
        yield CredentialWriter(writes, lane)
