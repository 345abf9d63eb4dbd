"""A worker is ready only if its model gives the golden mask of the manifest."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from erasestream.pipeline.stages.inference.isolation.process_pool import ProcessPool
from erasestream.pipeline.stages.inference.models import golden
from erasestream.pipeline.stages.inference.models.isnet import GOLDEN, ISNET
from erasestream.pipeline.stages.inference.models.manifest import Golden, Manifest
from erasestream.pipeline.stages.inference.models.segmenter import Segmenter
from erasestream.pipeline.stages.inference.models.store import Installed
from erasestream.schemas.errors import Code, Refused
from tests.pipeline.stages.inference.tiny_model import build_tiny_model

Mask = NDArray[np.float32]


def with_golden(folder: Path, golden: Golden) -> Installed:
    """Put a golden mask into the manifest of an installed model."""
    record = folder / "installed.json"
    content = json.loads(record.read_text())
    content["manifest"]["golden"] = golden.model_dump()
    record.write_text(json.dumps(content))
    return Installed.read(folder)


def mask_of(installed: Installed) -> Mask:
    """Return the model's mask of the golden picture."""
    return Segmenter(installed).mask(golden.model_input(installed.manifest))


def test_the_golden_picture_is_the_same_everywhere() -> None:
    """Exact bytes, of any size: light background, dark object."""
    picture = golden.picture(64)
    assert picture.shape == (64, 64, 3)
    assert picture[0, 0].tolist() == [200, 205, 210]
    assert picture[32, 32].tolist() == [105, 80, 55]


def test_the_golden_mask_passes(tmp_path: Path) -> None:
    """With as much noise as another CPU or 8 bits cause."""
    folder = build_tiny_model(tmp_path)
    mask = mask_of(Installed.read(folder))
    Segmenter(with_golden(folder, Golden(mask=golden.encode_mask(mask)))).warm_up()
    noise = np.random.default_rng(1).normal(0, 0.02, mask.shape).astype(np.float32)
    encoded = golden.encode_mask(np.clip(mask + noise, 0, 1))
    Segmenter(with_golden(folder, Golden(mask=encoded))).warm_up()


@pytest.mark.parametrize(
    "broken",
    [
        lambda mask: 1 - mask,
        np.zeros_like,
        np.ones_like,
        lambda mask: np.roll(mask, mask.shape[0] // 4, axis=0),
        lambda mask: np.full_like(mask, mask.mean()),
    ],
)
def test_a_broken_build_is_refused(tmp_path: Path, broken: Callable[[Mask], Mask]) -> None:
    """Inverted, empty, full, shifted or uniform masks are far beyond the tolerance."""
    folder = build_tiny_model(tmp_path)
    encoded = golden.encode_mask(broken(mask_of(Installed.read(folder))))
    with pytest.raises(Refused, match="golden") as refused:
        Segmenter(with_golden(folder, Golden(mask=encoded))).warm_up()
    assert refused.value.code is Code.MODEL_REFUSED


async def test_a_pool_with_a_broken_build_does_not_start(tmp_path: Path) -> None:
    """A child detects it, before any picture is accepted."""
    folder = build_tiny_model(tmp_path)
    encoded = golden.encode_mask(1 - mask_of(Installed.read(folder)))
    pool = ProcessPool(model=with_golden(folder, Golden(mask=encoded)), children=1)
    with pytest.raises(Refused) as refused:
        await pool.start()
    assert refused.value.code is Code.MODEL_REFUSED


def test_fields_are_means_of_masks_of_any_size() -> None:
    """Also if its sides are no multiples of 16."""
    assert golden.encode_mask(np.full((51, 33), 0.5, np.float32)) == "80" * 256
    half = np.zeros((1024, 1024), np.float32)
    half[:512] = 1
    assert golden.encode_mask(half) == "ff" * 128 + "00" * 128


def test_isnets_golden_mask_is_the_ellipse() -> None:
    """Three tenths of the picture, in the middle."""
    fields = np.frombuffer(bytes.fromhex(GOLDEN.mask), np.uint8).reshape(16, 16) / 255
    assert 0.27 < fields.mean() < 0.33
    assert fields[8, 8] > 0.95
    assert fields[0].max() < 0.05


@pytest.mark.parametrize("mask", ["", "00", "zz" * 256, "00" * 255])
def test_a_malformed_golden_mask_is_refused_by_the_name_of_its_field(
    tmp_path: Path, mask: str
) -> None:
    content = ISNET.model_dump(mode="json") | {"golden": {"mask": mask}}
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(content))
    with pytest.raises(Refused, match=r"golden\.mask"):
        Manifest.read(path)
