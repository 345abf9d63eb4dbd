"""Open the sealed results of a lane with the keys of its consumers.

Rules, all of them:

* The keys of an hour die before its first upload is 24 hours old.  A result whose key is dead is an
  `Expired`; it is never an error.
* A result that is no envelope for this lane, account, upload and part, or was changed, is a
  `Failure` (seal_broken).
* A key that the service does not have yet is waited for, and no longer than any clock of the
  installation can be wrong: a forged epoch must not hold back what is behind it.
* Keys are dropped by this client's own clock.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Self

from erasestream.schemas.clocks import WallClock
from erasestream.schemas.codec.cloudevents import one_from_wire
from erasestream.schemas.errors import Code, InvalidEvent, Refused, SealBroken, Unavailable
from erasestream.schemas.events.base import utc
from erasestream.schemas.events.images import RESULTS, Cutout, Failure, Part
from erasestream.schemas.ids import Lane
from erasestream.schemas.sealing.content_type import is_sealed
from erasestream.schemas.sealing.envelope import Header, open_parsed, upload_digest
from erasestream.schemas.sealing.recipients import Epoch, EpochOpener
from erasestream.topics.catalog.purposes import results_of
from erasestream.topics.catalog.roles import LaneRole, lane_role
from erasestream.topics.client.expired import Expired
from erasestream.topics.client.fetched_results import (
    Fetched,
    FetchedRecord,
    Outcome,
)
from erasestream.topics.kafka.connection import Cluster
from erasestream.topics.kafka.consumer.reported_end import ReadToEnd
from erasestream.topics.kafka.records import Record
from erasestream.topics.keys.answers import NoKey
from erasestream.topics.keys.client import KeyClient

ANSWER_S = 5.0
"""Longest wait for an answer of the key service, before those who ask hear that it is
unavailable."""
MAX_WAIT = timedelta(minutes=15)
"""Time around its append in which a result waits for a key that the service does not have."""


_Opener = Callable[[Epoch, datetime], EpochOpener | None]
"""Returns what opens results of an epoch, for one appended then; None if its key is dead."""


class ResultOpener:
    """Opens results.  Thread-safe."""

    def __init__(self, lane: Lane, keys: KeyClient | None, *, now: WallClock) -> None:
        """Without `keys`, sealed results are refused."""
        self._lane = lane
        self._purpose = results_of(lane)
        self._keys = keys
        self._now = now
        self._openers: dict[int, tuple[bytes, EpochOpener]] = {}
        """By epoch: it takes as long to make one as to open a small image."""

    @classmethod
    def of(cls, cluster: Cluster, lane: Lane, *, now: WallClock) -> Self:
        """Return the opener of the role `<lane>.consumer`.  Raises as `KeyClient.of`."""
        if not cluster.key_endpoints:
            return cls(lane, None, now=now)
        role = lane_role(lane, LaneRole.CONSUMER)
        return cls(lane, KeyClient.of(cluster, role, now=now), now=now)

    def result_of(self, record: Record) -> Cutout | Failure | Expired:
        """Return the result in a record.

        Raises `InvalidEvent` as the codec does, `Unavailable` (keys_unavailable) if it cannot be
        opened now, and `Refused` without endpoints of the key service, or without the right to its
        keys.
        """
        return self._result_of(record, self._asked_opener)

    def prepare(self, item: Record | ReadToEnd) -> Fetched:
        """Return what to queue: a result, decoded and, if its key is known, opened; or the end."""
        if isinstance(item, ReadToEnd):
            return item
        fetched = FetchedRecord(item)
        with suppress(Exception):  # the other thread meets it again, and callers hear of it
            if (outcome := self.known_result_of(item)) is not None:
                fetched.complete(outcome)
        return fetched

    def known_result_of(self, record: Record) -> Outcome | None:
        """Return the result in a record, or what is wrong with it, without asking for a key.

        None if a key must be asked for.
        """
        try:
            return self._result_of(record, self._known_opener)
        except InvalidEvent as invalid:
            return invalid
        except Unavailable:
            return None

    def _result_of(self, record: Record, opener_of: _Opener) -> Cutout | Failure | Expired:
        result = one_from_wire(RESULTS, record.headers, record.value)
        if not (isinstance(result, Cutout) and is_sealed(result.content_type)):
            return result
        try:
            upload = upload_digest(self._lane, result.account, result.id)
            header = Header.parse(result.data, upload, Part.CUTOUT)
            opener = opener_of(self._epoch(header), utc(record.appended_ms))
            if opener is None:
                return Expired.of(result)
            opened = open_parsed(result.data, header, opener)
        except SealBroken:
            return Failure.in_place_of(result, Code.SEAL_BROKEN, result.time)
        return result.model_copy(
            update={"content_type": opened.content_type, "data": opened.plaintext}
        )

    def drop_dead(self) -> None:
        """Drop every key that has died.  Call it regularly."""
        self._openers.clear()
        if self._keys is not None:
            self._keys.drop_dead()

    def _known_opener(self, epoch: Epoch, _: datetime) -> EpochOpener | None:
        """Raise `Unavailable` if the key is not known."""
        key = self._keys and self._keys.known_opening_key(self._purpose, epoch.number)
        if key is None:
            raise Unavailable(self._purpose, Code.KEYS_UNAVAILABLE)
        return self._opener(epoch, key) if isinstance(key, bytes) else None

    def _asked_opener(self, epoch: Epoch, appended: datetime) -> EpochOpener | None:
        """Raise `Unavailable` if the key is not known now, `SealBroken` if there is none."""
        if self._keys is None:
            raise Refused("key_endpoints: missing, and the results of this lane are sealed")
        key: bytes | NoKey | None = None
        try:
            key = self._keys.opening_key(self._purpose, epoch.number, timeout_s=ANSWER_S)
        finally:
            if not isinstance(key, bytes):
                self._openers.clear()  # it may be so for hours, in which others die
        if isinstance(key, bytes):
            return self._opener(epoch, key)
        if key is NoKey.EXPIRED:
            return None
        if abs(self._now() - appended) > MAX_WAIT:
            raise SealBroken
        raise Unavailable(f"{self._purpose}: {key}", Code.KEYS_UNAVAILABLE)

    def _opener(self, epoch: Epoch, key: bytes) -> EpochOpener:
        raw, opener = self._openers.get(epoch.number, (b"", None))
        if opener is None or raw is not key:
            opener = EpochOpener.of(epoch, key)
            self._openers[epoch.number] = (key, opener)
        return opener

    def _epoch(self, header: Header) -> Epoch:
        epochs = [block.epoch for block in header.blocks]
        ours = [epoch for epoch in epochs if epoch and epoch.purpose == self._purpose]
        if len(ours) != 1:
            raise SealBroken
        return ours[0]
