"""The API keys of a lane, read from the brokers and fresh within a bound.

A revocation counts on every gateway once its record is read.  A view that could not make sure of
that for `MAX_STALENESS_S` answers nothing: a revoked key must not outlive an outage.
"""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime

from erasestream.schemas.clocks import Clock, Deadline
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.acl import Operation
from erasestream.topics.catalog.topic_names import credentials_of
from erasestream.topics.credentials.table import Credential, CredentialTable
from erasestream.topics.credentials.token import parse_token
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.consumer.compacted_view import CompactedView, each
from erasestream.topics.kafka.records import Partition

MAX_STALENESS_S = 15.0
"""Longest time for which a revoked key may still be accepted, while brokers are unavailable."""
CONFIRM_EVERY_S = 1.0
"""Interval at which the end of the topic is asked for; new records are read at once."""
STALE_WAIT_S = 2.0
"""Longest wait for that end, and then for the records before it, of a view that is not fresh."""


class CredentialView:
    """Follows `credentials.L`.  `follow` is called by one thread, all else by any."""

    def __init__(self, view: CompactedView, topic: str, *, clock: Clock = time.monotonic) -> None:
        self._view = view
        self._at = Partition(topic, 0)
        self._clock = clock
        self.table = CredentialTable()
        view.assign([self._at], each(self.table.apply))
        self._due = Deadline(0, clock)
        self._fresh_until = Deadline(0, clock)

    def follow(self, timeout_s: float) -> None:
        """Apply new records; wait up to the timeout for some, or longer if it is not fresh."""
        if self._due.has_passed:
            # Taken before: a revocation that is acknowledged meanwhile may be missing.
            fresh_until = Deadline(MAX_STALENESS_S, self._clock)
            if self._has_caught_up(timeout_s):
                self._fresh_until = fresh_until
                self._due = Deadline(CONFIRM_EVERY_S, self._clock)
                return
        self._view.read(timeout_s)

    def _has_caught_up(self, timeout_s: float) -> bool:
        if self.is_fresh:
            return bool(self._view.catch_up_reachable([self._at], deadline_s=2 * timeout_s))
        try:
            # No key is accepted meanwhile.  A machine under load may never answer within a turn.
            self.load(timeout_s=max(timeout_s, STALE_WAIT_S))
        except Unavailable:
            return False
        return True

    def load(self, *, timeout_s: float) -> None:
        """Apply everything that is acknowledged by now.  Raises `Unavailable` after the timeout."""
        self._view.catch_up(self._view.mark(timeout_s=timeout_s), deadline_s=timeout_s)

    @property
    def applied(self) -> int:
        """How far the topic is applied."""
        return self._view.applied[self._at]

    @property
    def is_fresh(self) -> bool:
        """Whether the view knows every revocation but the latest."""
        return not self._fresh_until.has_passed

    def authenticate(self, text: str, now: datetime) -> Credential | None:
        """Return the valid key that a caller presents.

        Raises `Unavailable` while revocations may be missing.
        """
        if not self.is_fresh:
            raise Unavailable(f"{self._at}: not read for {MAX_STALENESS_S:g} s")
        token = parse_token(text)
        return None if token is None else self.table.authenticate(token, now)


@contextmanager
def credential_view(connection: Connection, lane: Lane) -> Iterator[CredentialView]:
    """Open the view of a lane's keys.  Raises `Refused` or `Unavailable`."""
    topic = credentials_of(lane)
    with Admin(connection) as admin:
        admin.check_rights({topic: (Operation.READ,)})
    with closing(CompactedView(connection=connection, topics={}, apply=lambda _: None)) as reader:
        yield CredentialView(reader, topic)
