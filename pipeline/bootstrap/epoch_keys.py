"""Open the keys with which the inference stage opens sealed uploads."""

from erasestream.pipeline.settings import Settings
from erasestream.pipeline.stages.inference.worker.epoch_keys import EpochKeys
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.catalog import Catalog
from erasestream.topics.catalog.lane_spec import Sealing
from erasestream.topics.kafka.tls import Identity
from erasestream.topics.keys.client import KeyClient


def epoch_keys(settings: Settings, catalog: Catalog, identity: Identity) -> EpochKeys | None:
    """Return the keys of sealed uploads; None without a key service, if no lane requires it."""
    if settings.keys is None and not sealed_lanes(catalog):
        return None
    times = settings.epochs()
    return EpochKeys(KeyClient(endpoints=settings.cluster.key_endpoints, identity=identity), times)


def sealed_lanes(catalog: Catalog) -> frozenset[Lane]:
    """Return the lanes whose uploads must be sealed."""
    return frozenset(spec.name for spec in catalog.lanes if spec.sealing is Sealing.REQUIRED)
