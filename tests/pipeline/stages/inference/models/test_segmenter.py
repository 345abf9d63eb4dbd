"""Masks of loaded models."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from erasestream.pipeline.stages.inference.models.install.installer import install
from erasestream.pipeline.stages.inference.models.manifest import (
    Activation,
    Normalisation,
)
from erasestream.pipeline.stages.inference.models.segmenter import Segmenter
from erasestream.pipeline.stages.inference.models.store import Installed, ModelStore
from tests.pipeline.stages.inference.tiny_model import (
    SIZE,
    TINY,
    build_tiny_model,
    serialized,
)


def test_a_mask_has_the_models_size_and_values(store: ModelStore) -> None:
    """Bright is 1, dark is 0."""
    segmenter = Segmenter(Installed.read(build_tiny_model(store.folder)))
    picture = np.full((1, 3, SIZE, SIZE), -1, np.float32)
    picture[..., : SIZE // 2] = 1
    mask = segmenter.mask(picture)
    assert mask.shape == (SIZE, SIZE)
    assert mask.dtype == np.float32
    assert (mask[:, : SIZE // 2] > 0.99).all()
    assert (mask[:, SIZE // 2 :] < 0.01).all()


@pytest.mark.parametrize(
    ("activation", "normalisation", "expected"),
    [
        (Activation.NONE, Normalisation.CLIP, [0, 0, 0.5, 1]),
        (Activation.SIGMOID, Normalisation.CLIP, [0.119, 0.5, 0.622, 0.881]),
        (Activation.NONE, Normalisation.MIN_MAX, [0, 0.5, 0.625, 1]),
    ],
)
def test_outputs_become_masks_as_the_manifest_declares(
    store: ModelStore,
    tmp_path: Path,
    activation: Activation,
    normalisation: Normalisation,
    expected: list[float],
) -> None:
    """Values beyond 0..1 are clipped, squeezed or scaled."""
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["picture"], ["mask"], axes=[1], keepdims=1)],
        "mean",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("mask", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = tmp_path / "mean.onnx"
    path.write_bytes(serialized(model))
    manifest = TINY.model_copy(
        update={
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "activation": activation,
            "normalisation": normalisation,
        }
    )
    segmenter = Segmenter(install(store, manifest=manifest, source=str(path)))
    picture = np.zeros((1, 3, SIZE, SIZE), np.float32)
    picture[0, :, 0, :4] = [-2, 0, 0.5, 2]
    assert np.allclose(segmenter.mask(picture)[0, :4], expected, atol=1e-3)


def test_nan_is_no_product(store: ModelStore) -> None:
    """A model that fails on a picture hides it; NaN reaches no image."""
    segmenter = Segmenter(Installed.read(build_tiny_model(store.folder)))
    picture = np.full((1, 3, SIZE, SIZE), np.nan, np.float32)
    assert not segmenter.mask(picture).any()
