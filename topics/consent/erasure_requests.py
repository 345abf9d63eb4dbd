"""Requests of owners to erase what is kept of one upload, whatever their consent is.

To erase everything, revoke (`writer.py`): an owner who goes on keeping grants again.

A request that was written is *recorded*.  It stays in the ledger, and the eraser acts on it:
`upload_erasures.py` tells how far it is.  Only the lane's account service can write one, and
nothing but the account's own pictures is erased because of it.
"""

import os
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from typing import NamedTuple

from erasestream.schemas.clocks import WallClock, utc_now
from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.errors import InvalidEvent, Refused
from erasestream.schemas.events.consent import Channel
from erasestream.schemas.events.ledger import UploadErasureRequested
from erasestream.schemas.ids import Lane, UploadId, is_upload_id, new_event_id
from erasestream.topics.catalog.acl import Operation
from erasestream.topics.catalog.topic_names import ledger_of
from erasestream.topics.consent.ledger_place import place
from erasestream.topics.consent.reader import validated
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter

WRITE_TIMEOUT_S = 10.0


class RecordedRequest(NamedTuple):
    """A request that the brokers have acknowledged."""

    id: str
    at: datetime
    """When it was appended, by the broker's clock."""


class ErasureRequests:
    """Records requests for the accounts of one lane.  Thread-safe; one per process is enough."""

    def __init__(
        self,
        *,
        connection: Connection,
        lane: Lane,
        now: WallClock = utc_now,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Open as the lane's account service, whose certificate `connection` has.

        Raises `Refused` (not_authorized) for another role's, `Unavailable` if no broker answers.
        """
        self._lane = lane
        self._now = now
        self._random = random
        topic = ledger_of(lane)
        with Admin(connection) as admin:
            self._partitions = admin.check_rights({topic: (Operation.WRITE,)})
        with ExitStack() as opened:
            self._writes = AcknowledgedWriter(connection=connection, timeout_s=WRITE_TIMEOUT_S)
            opened.callback(self._writes.close)
            self._opened = opened.pop_all()

    def request(
        self, account: str, upload: str, *, actor: str, channel: Channel
    ) -> RecordedRequest:
        """Ask to erase what is kept of an upload: *recorded* when this returns.

        `upload` is the id of the upload, as in its result.  Whether anything is kept of it is
        not looked up: from now on nothing of it will be.  A repetition is harmless.

        Raises `InvalidEvent` for what is no id of an account or an upload, and `Unavailable` if
        the brokers did not acknowledge it in time: it may have been written or not; ask again.
        """
        owner = validated(account)
        if not is_upload_id(upload):
            raise InvalidEvent("upload")
        if channel is Channel.OPERATOR:
            raise Refused("operators revoke, and do not erase single uploads")
        now = self._now()
        event = UploadErasureRequested(
            id=new_event_id(now, self._random(10)),
            time=now,
            lane=self._lane,
            account=owner,
            upload=UploadId(upload),
            actor=actor,
            channel=channel,
        )
        at, key = place(ledger_of(self._lane), owner, self._partitions)
        written = self._writes.write(at, key, to_wire(event, source=f"/lanes/{self._lane}/consent"))
        return RecordedRequest(event.id, written.at)

    def close(self) -> None:
        """Disconnect.  Idempotent."""
        self._opened.close()
