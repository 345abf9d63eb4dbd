"""Pruning keeps one output, in single precision."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from erasestream.pipeline.stages.inference.models.install.builder import prune
from erasestream.pipeline.stages.inference.models.install.installer import install
from erasestream.pipeline.stages.inference.models.manifest import (
    Build,
)
from erasestream.pipeline.stages.inference.models.segmenter import Segmenter
from erasestream.pipeline.stages.inference.models.store import ModelStore
from tests.pipeline.stages.inference.tiny_model import (
    SIZE,
    TINY,
    serialized,
)


def half_precision() -> onnx.ModelProto:
    """Return a model like the shipped IS-Net: half precision, a second output, unsorted nodes."""
    weights = np.asarray([0.3, 0.6, 0.1], np.float16).reshape(1, 3, 1, 1)
    unused = np.ones((1, 3, 1, 1), np.float16)
    nodes = [
        helper.make_node("Cast", ["half_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["half", "unused"], ["half_side"], kernel_shape=[1, 1]),
        helper.make_node("Cast", ["half_side"], ["side"], to=TensorProto.FLOAT),
        helper.make_node("Sigmoid", ["bright"], ["half_mask"]),
        helper.make_node("Conv", ["half", "luma"], ["bright"], kernel_shape=[1, 1]),
        helper.make_node("Cast", ["picture"], ["half"], to=TensorProto.FLOAT16),
    ]
    shape = [1, 1, SIZE, SIZE]
    graph = helper.make_graph(
        nodes,
        "half",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("mask", "side")],
        [numpy_helper.from_array(weights, "luma"), numpy_helper.from_array(unused, "unused")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


def test_pruning_keeps_one_output_in_single_precision() -> None:
    """Other nodes go, with their weights; nothing is converted inside."""
    model = prune(half_precision(), "mask")
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Conv", "Sigmoid", "Identity"]
    assert [output.name for output in model.graph.output] == ["mask"]
    assert {each.name: each.data_type for each in model.graph.initializer} == {"luma": 1}


def test_a_pruned_model_gives_the_same_mask(store: ModelStore, tmp_path: Path) -> None:
    """Within the rounding of half precision."""
    path = tmp_path / "half.onnx"
    path.write_bytes(serialized(half_precision()))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    picture = np.random.default_rng(1).uniform(-1, 1, (1, 3, SIZE, SIZE)).astype(np.float32)
    masks = []
    for build in Build:
        manifest = TINY.model_copy(update={"sha256": digest, "build": build, "version": build})
        installed = install(store, manifest=manifest, source=str(path))
        masks.append(Segmenter(installed).mask(picture))
    assert np.abs(masks[0] - masks[1]).max() < 2e-3
    assert masks[0].std() > 0.05
