"""Seal uploads before they are handed over, and encode them as records.

An upload is sealed for the inference stage alone, for the epoch of the producer's own clock, and
for its own lane, account and id: its envelope fits no other upload.

Where images are not sealed there is no key.
"""

import asyncio
from typing import NamedTuple

from erasestream.schemas.clocks import Deadline, WallClock
from erasestream.schemas.codec.cloudevents import Wire, to_wire
from erasestream.schemas.errors import Refused
from erasestream.schemas.events.images import Part, Upload
from erasestream.schemas.ids import Lane, UploadId
from erasestream.schemas.sealing.content_type import SEALED_CONTENT_TYPE
from erasestream.schemas.sealing.envelope import Context, seal, upload_digest
from erasestream.schemas.sealing.recipients import Epoch, EpochRecipient
from erasestream.topics.catalog.purposes import uploads_for
from erasestream.topics.catalog.roles import LaneRole, lane_role
from erasestream.topics.catalog.topic_names import RECORD_OVERHEAD_BYTES
from erasestream.topics.kafka.connection import Cluster
from erasestream.topics.keys.answers import SealingKey
from erasestream.topics.keys.client import KeyClient
from erasestream.topics.keys.sealing_keys import SealingKeySource

IN_LOOP_BYTES = 1_000_000
"""Largest image that is sealed in the event loop itself: that takes well below a millisecond, and a
thread takes longer."""


class PreparedUpload(NamedTuple):
    """An upload as a record; `size` is the room that it needs."""

    upload_id: UploadId
    wire: Wire
    size: int


def size_of(upload: Upload) -> int:
    """Return the room that the record of an upload needs, sealed or not."""
    return len(upload.data) + RECORD_OVERHEAD_BYTES


class UploadEncoder:
    """Encodes the uploads of one producer.  Thread-safe; must not cross a fork."""

    def __init__(self, lane: Lane, keys: SealingKeySource | None) -> None:
        self._lane = lane
        self._source = f"/lanes/{lane}/uploads"
        self._keys = keys
        self._recipient: tuple[SealingKey, EpochRecipient] | None = None
        """The last key and its recipient."""

    @classmethod
    def open(
        cls, cluster: Cluster, lane: Lane, *, sealed: bool, timeout_s: float, now: WallClock
    ) -> "UploadEncoder":
        """Fetch the first keys, if images are to be sealed.

        Raises as `SealingKeySource`, and `Refused` if the cluster does not name the key service.
        """
        if not sealed:
            return cls(lane, None)
        if not cluster.key_endpoints:
            raise Refused("key_endpoints: missing; or sealed=False, if the lane accepts that")
        client = KeyClient.of(cluster, lane_role(lane, LaneRole.PRODUCER), now=now)
        return cls(lane, SealingKeySource(client, uploads_for(lane), timeout_s=timeout_s))

    def key(self, deadline: Deadline) -> SealingKey | None:
        """Return the key to seal with now, or wait for it.  Raises as `SealingKeySource.wait`."""
        if self._keys is None:
            return None
        return self._keys.current() or self._keys.wait(deadline.remaining_s)

    async def key_async(self, deadline: Deadline) -> SealingKey | None:
        """Return the key to seal with now, or await it."""
        if self._keys is None:
            return None
        return self._keys.current() or await self._keys.wait_async(deadline.remaining_s)

    def encode(self, upload: Upload, key: SealingKey | None) -> PreparedUpload:
        """Seal an upload, if there is a key, and encode it."""
        sealed = upload if key is None else self._sealed(upload, key)
        wire = to_wire(sealed, source=self._source)
        return PreparedUpload(upload_id=upload.id, wire=wire, size=size_of(upload))

    def _sealed(self, upload: Upload, key: SealingKey) -> Upload:
        """Return the upload with its envelope in place of its image."""
        digest = upload_digest(self._lane, upload.account, upload.id)
        context = Context(digest, Part.ORIGINAL, upload.content_type)
        sealed = seal(upload.data, context=context, recipients=[self._recipient_of(key)])
        return upload.model_copy(update={"content_type": SEALED_CONTENT_TYPE, "data": sealed})

    def _recipient_of(self, key: SealingKey) -> EpochRecipient:
        if (last := self._recipient) is not None and last[0] is key:
            return last[1]
        recipient = EpochRecipient.of(Epoch(uploads_for(self._lane), key.epoch), key.public)
        self._recipient = key, recipient
        return recipient

    async def encode_async(self, upload: Upload, key: SealingKey | None) -> PreparedUpload:
        """Do the same without blocking the event loop."""
        if key is None or len(upload.data) <= IN_LOOP_BYTES:
            return self.encode(upload, key)
        return await asyncio.to_thread(self.encode, upload, key)

    def close(self) -> None:
        """Fetch no more keys, and wake those who wait for one.  From anywhere; idempotent."""
        if self._keys is not None:
            self._keys.close()
