"""A lane may have a model of its own: its results name it."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from erasestream.pipeline.bootstrap.inference import _models_of, _process_pool, _result_builder
from erasestream.pipeline.settings import InferenceSettings, LaneSettings
from erasestream.pipeline.stages.inference.isolation.pools import Pools
from erasestream.pipeline.stages.inference.isolation.process_pool import ProcessPool
from erasestream.pipeline.stages.inference.models.store import Installed
from erasestream.pipeline.stages.inference.worker.result_builder import ResultBuilder
from erasestream.pipeline.stages.inference.worker.upload_record import UploadRecord
from erasestream.schemas.codec.cloudevents import from_wire, to_wire
from erasestream.schemas.errors import Code, Refused
from erasestream.schemas.events.base import Position
from erasestream.schemas.events.images import Cutout, Upload
from erasestream.schemas.ids import AccountId, Lane, UploadId
from erasestream.topics.catalog.catalog import Catalog, LaneSpec
from erasestream.topics.catalog.image_sizes import ImageSizes
from erasestream.topics.catalog.lane_spec import Sealing
from tests.pipeline.stages.inference.conftest import is_alive, wait_until
from tests.pipeline.stages.inference.isolation.pool_harness import PHOTO
from tests.pipeline.stages.inference.tiny_model import build_crisp_model, build_tiny_model

SHOP, BULK, MORE = Lane("shop"), Lane("bulk"), Lane("more")
LANES = {
    SHOP: LaneSettings(),
    BULK: LaneSettings(model="crisp"),
    MORE: LaneSettings(model="tiny-1"),
}


@pytest.fixture
def inference(tmp_path: Path) -> InferenceSettings:
    """Return the settings of a worker whose store has two models."""
    build_tiny_model(tmp_path)
    build_crisp_model(tmp_path)
    return InferenceSettings(models=tmp_path, model="tiny")


async def cut_out(builder: ResultBuilder, lane: Lane) -> Cutout:
    """Return the result of an upload in this lane."""
    now = datetime.now(UTC)
    upload = Upload(
        id=UploadId("019b7d2c-1d4e-7000-8000-00000000002a"),
        time=now,
        account=AccountId("account"),
        content_type="image/jpeg",
        data=PHOTO,
    )
    wire = to_wire(upload, source="/test")
    position = Position(topic_id="bTYs9Br5T5qhZMdsDXX9XA", partition=0, offset=0)
    appended_ms = int(now.timestamp() * 1000)
    record = UploadRecord(lane, position, appended_ms, wire.headers, wire.value, None)
    built = await builder.build(record)
    return from_wire(Cutout, built.headers, built.value)


def test_a_lane_has_the_model_that_its_settings_name(inference: InferenceSettings) -> None:
    """By name, or by name and version; by default that of all lanes."""
    models = _models_of(LANES, inference)
    assert {lane: model.manifest.name for lane, model in models.items()} == {
        SHOP: "tiny",
        BULK: "crisp",
        MORE: "tiny",
    }
    assert models[MORE].folder == models[SHOP].folder


def test_a_model_that_is_not_installed_is_refused_at_the_start(
    inference: InferenceSettings,
) -> None:
    """Also if only one lane needs it."""
    with pytest.raises(Refused) as refused:
        _models_of(LANES | {MORE: LaneSettings(model="ben2")}, inference)
    assert refused.value.code is Code.MISSING_MODEL


async def test_results_name_the_model_of_their_lane(inference: InferenceSettings) -> None:
    """With the processes that a worker has, of which none is left behind."""
    models = _models_of(LANES, inference)
    pools = {
        model.folder: _process_pool(inference, model, 1, ImageSizes(), None)
        for model in models.values()
    }
    catalog = Catalog.build(tuple(LaneSpec(name=lane, sealing=Sealing.ACCEPTED) for lane in LANES))
    builder = _result_builder(
        {lane: pools[model.folder] for lane, model in models.items()}, catalog
    )
    together = Pools(pools.values())
    await together.start()
    results = {lane: await cut_out(builder, lane) for lane in LANES}
    pids = {pid for pool in pools.values() for pid in pool.pids}
    await together.close()
    for lane, result in results.items():
        model = models[lane]
        assert (result.model, result.model_sha256) == (model.manifest.name, model.sha256)
    assert results[SHOP].data == results[MORE].data != results[BULK].data
    assert len(pids) == 2
    wait_until(lambda: not any(map(is_alive, pids)))


async def test_pools_start_together_or_not_at_all(inference: InferenceSettings) -> None:
    tiny, crisp = (Installed.read(inference.models / name) for name in ("tiny-1", "crisp-1"))
    pools = [ProcessPool(model=each, children=1) for each in (tiny, crisp)]
    crisp.path.write_bytes(b"changed since")
    with pytest.raises(Refused):
        await Pools(pools).start()
    assert not any(pool.pids for pool in pools)
