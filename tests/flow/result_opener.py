"""Open sealed results with the keys of a lane's consumer, apart from the client library."""

from erasestream.schemas.events.images import Cutout, Failure, Part
from erasestream.schemas.ids import Lane
from erasestream.schemas.sealing.content_type import is_sealed
from erasestream.schemas.sealing.envelope import Header, open_sealed, upload_digest
from erasestream.schemas.sealing.recipients import EPOCH_BYTES, Epoch, EpochOpener
from erasestream.topics.catalog.purposes import results_of
from erasestream.topics.catalog.roles import LaneRole, lane_role
from erasestream.topics.kafka.connection import Cluster
from erasestream.topics.kafka.tls import Identity
from erasestream.topics.keys.answers import NoKey
from erasestream.topics.keys.client import KeyClient
from tests.flow.waiting import DEADLINE_S


class ResultOpener:
    """The keys of one lane's results; nothing is asked for until a sealed one comes."""

    def __init__(self, cluster: Cluster, lane: Lane) -> None:
        self._cluster = cluster
        self._lane = lane
        self._client: KeyClient | None = None

    def open(self, event: Cutout | Failure) -> Cutout | Failure:
        """Return the result as it was before it was sealed."""
        if not (isinstance(event, Cutout) and is_sealed(event.content_type)):
            return event
        upload = upload_digest(self._lane, event.account, event.id)
        (block,) = Header.parse(event.data, upload, Part.CUTOUT).blocks
        epoch = Epoch(results_of(self._lane), int.from_bytes(block.identity[-EPOCH_BYTES:], "big"))
        opener = EpochOpener.of(epoch, self._key(epoch))
        opened = open_sealed(event.data, upload=upload, part=Part.CUTOUT, opener=opener)
        return event.model_copy(
            update={"content_type": opened.content_type, "data": opened.plaintext}
        )

    def _key(self, epoch: Epoch) -> bytes:
        if self._client is None:
            role = lane_role(self._lane, LaneRole.CONSUMER)
            self._client = KeyClient(
                endpoints=self._cluster.key_endpoints,
                identity=Identity.load(self._cluster.identities, role),
            )
        key = self._client.opening_key(epoch.purpose, epoch.number, timeout_s=DEADLINE_S)
        assert not isinstance(key, NoKey), key
        return key
