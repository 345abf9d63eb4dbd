"""Seal uploads without our client library, rightly or wrongly."""

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from erasestream.schemas.events.images import Part
from erasestream.schemas.ids import AccountId, Lane, UploadId
from erasestream.schemas.image_formats import sniff_content_type
from erasestream.schemas.sealing.content_type import SEALED_CONTENT_TYPE
from erasestream.schemas.sealing.envelope import Context, seal, upload_digest
from erasestream.schemas.sealing.recipients import Epoch, EpochRecipient
from erasestream.topics.catalog.purposes import uploads_for
from erasestream.topics.catalog.roles import LaneRole, lane_role
from erasestream.topics.catalog.topic_names import uploads_of
from erasestream.topics.kafka.connection import Cluster
from erasestream.topics.kafka.tls import Identity
from erasestream.topics.keys.client import KeyClient
from tests.flow.raw_client import RawClient, RawRecord, upload_record
from tests.flow.waiting import DEADLINE_S


class Sealer:
    """The keys of a lane's producer."""

    def __init__(self, cluster: Cluster, lane: Lane) -> None:
        self._lane = lane
        identity = Identity.load(cluster.identities, lane_role(lane, LaneRole.PRODUCER))
        self._client = KeyClient(endpoints=cluster.key_endpoints, identity=identity)

    def recipient(self) -> EpochRecipient:
        """Return the workers of this epoch."""
        key = self._client.sealing_key(uploads_for(self._lane), timeout_s=DEADLINE_S)
        return EpochRecipient.of(Epoch(uploads_for(self._lane), key.epoch), key.public)

    def record(self, image: bytes, account: str, **changes: object) -> RawRecord:
        """Return a sealed upload.

        `changes`: of the envelope (`recipient`, `upload_id`, `account`, `part`).
        """
        plain = upload_record(image, account)
        upload_id = changes.get("upload_id", (plain.headers["ce_id"] or b"").decode())
        sealed_as = AccountId(str(changes.get("account", account)))
        recipient, part = changes.get("recipient"), changes.get("part", Part.ORIGINAL)
        assert isinstance(recipient, EpochRecipient | None)
        assert isinstance(part, Part)
        content_type = sniff_content_type(image) or "image/png"
        digest = upload_digest(self._lane, sealed_as, UploadId(str(upload_id)))
        sealed = seal(
            image,
            context=Context(digest, part, content_type),
            recipients=[recipient or self.recipient()],
        )
        headers = {**plain.headers, "content-type": SEALED_CONTENT_TYPE.encode()}
        return RawRecord(sealed, headers)


def send_sealed(cluster: Cluster, lane: Lane, image: bytes, account: str) -> UploadId:
    """Send an image, sealed for the present epoch, to the first partition; return its id."""
    record = Sealer(cluster, lane).record(image, account)
    client = RawClient(cluster, lane_role(lane, LaneRole.PRODUCER))
    client.send(uploads_of(lane), record, partition=0)
    return UploadId((record.headers["ce_id"] or b"").decode())


def stranger(epoch: Epoch) -> EpochRecipient:
    """Return a key for this epoch that the key service does not have."""
    return EpochRecipient(epoch, X25519PrivateKey.generate().public_key())
