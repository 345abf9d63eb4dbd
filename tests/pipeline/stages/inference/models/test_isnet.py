"""The real model on a real photo, compared with a reference that shares no code with it.

`reference/coffee.png` was made by `reference/make_reference.py` and checked by eye: cup, saucer
and spoon are white, the table is black.
"""

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from erasestream.pipeline.stages.inference.isolation.process_pool import ProcessPool
from erasestream.pipeline.stages.inference.models.isnet import ISNET
from erasestream.pipeline.stages.inference.models.store import ModelStore
from erasestream.schemas.options import CutoutOptions
from tests.pipeline.stages.inference.pictures import saved

REFERENCE = Path(__file__).parent / "reference" / "coffee.png"
LEAST_IOU = 0.98


def iou(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Return the intersection over union of pixels more than half opaque."""
    a, b = one > 127, other > 127
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.isnet
async def test_isnet_agrees_with_the_reference(models: Path) -> None:
    """IoU of at least 0.98; inverted, empty or full masks are far below it."""
    pool = ProcessPool(model=ModelStore(models).find(ISNET.label), children=1)
    await pool.start()
    try:
        cutout = await pool.cut_out(saved(Image.fromarray(data.coffee())), CutoutOptions())
    finally:
        await pool.close()
    picture = np.asarray(Image.open(io.BytesIO(cutout.data)))
    alpha, reference = picture[..., 3], np.asarray(Image.open(REFERENCE))
    assert alpha.shape == reference.shape
    assert iou(alpha, reference) >= LEAST_IOU
    assert iou(255 - alpha, reference) < 0.1
    assert iou(np.zeros_like(alpha), reference) < 0.1
    assert iou(np.full_like(alpha, 255), reference) < 0.9
    assert np.array_equal(picture[..., :3][alpha == 255], data.coffee()[alpha == 255])
    assert not picture[..., :3][alpha == 0].any()
