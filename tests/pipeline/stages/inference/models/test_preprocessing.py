"""The tensor that a model gets."""

import numpy as np
from PIL import Image

from erasestream.pipeline.stages.inference.imaging.decode import decode
from erasestream.pipeline.stages.inference.models.manifest import Exposure
from erasestream.pipeline.stages.inference.models.preprocessing import to_input
from tests.pipeline.stages.inference.pictures import (
    RED,
    saved,
)
from tests.pipeline.stages.inference.tiny_model import TINY

MEAN, SCALE = np.array([100.0, 110.0, 120.0]), np.array([50.0, 100.0, 200.0])


SCALED = TINY.model_copy(update={"mean": tuple(MEAN), "scale": tuple(SCALE)})


def test_values_are_scaled_and_hidden_colours_replaced() -> None:
    """(value - mean) / scale in NCHW; transparent pixels are the mean, whatever their colour."""
    seen = to_input(decode(saved(Image.new("RGB", (7, 5), RED))), SCALED)
    assert seen.shape == (1, 3, 64, 64)
    assert seen.dtype == np.float32
    assert np.allclose(seen[0, :, 0, 0], [(200 - 100) / 50, (30 - 110) / 100, (40 - 120) / 200])
    hidden = decode(saved(Image.new("RGBA", (7, 5), (*RED, 0))))
    assert np.allclose(to_input(hidden, SCALED), 0)


def test_underexposure_is_corrected_if_the_manifest_asks_for_it() -> None:
    """The brightest value becomes white; black stays black."""
    stretched = SCALED.model_copy(update={"exposure": Exposure.BRIGHTEST_IS_WHITE})
    dark = decode(saved(Image.new("RGB", (7, 5), tuple(value // 2 for value in RED))))
    bright = np.asarray([value * 255 / 200 for value in RED])
    assert np.allclose(to_input(dark, stretched)[0, :, 0, 0], (bright - MEAN) / SCALE)
    black = decode(saved(Image.new("RGB", (7, 5))))
    assert np.allclose(to_input(black, stretched)[0, :, 0, 0], -MEAN / SCALE)
