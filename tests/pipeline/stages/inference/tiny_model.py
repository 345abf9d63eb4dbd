"""Small deterministic models: pixels brighter than the middle are the product.

They replace the real model, with its 3 seconds per picture, where it would prove nothing more.
`python -m tests.pipeline.stages.inference.tiny_model FOLDER` installs the first into a store.
"""

import hashlib
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from erasestream.pipeline.stages.inference.models.install.installer import install
from erasestream.pipeline.stages.inference.models.manifest import Build, Manifest
from erasestream.pipeline.stages.inference.models.store import ModelStore

SIZE = 64
STEEP = 24.0
LUMA = (0.299, 0.587, 0.114)

TINY = Manifest(
    name="tiny",
    version="1",
    source="made by the tests",
    sha256="0" * 64,
    licence="CC0",
    input_name="picture",
    size=SIZE,
    mean=(128.0, 128.0, 128.0),
    scale=(128.0, 128.0, 128.0),
    output_name="mask",
    build=Build.AS_SHIPPED,
)


def build_tiny_model(directory: Path) -> Path:
    """Install the model `tiny` into the store `directory`; returns its folder."""
    return _installed(directory, TINY, _graph(_mask_nodes()))


def build_crisp_model(directory: Path) -> Path:
    """Install `crisp`, which is `tiny` with few pixels between opaque and transparent."""
    manifest = TINY.model_copy(update={"name": "crisp", "scale": (4.0, 4.0, 4.0)})
    return _installed(directory, manifest, _graph(_mask_nodes()))


def build_stalling_model(directory: Path) -> Path:
    """Install `stalling`, which is `tiny` but never finishes a black picture."""
    manifest = TINY.model_copy(update={"name": "stalling"})
    return _installed(directory, manifest, _graph([*_stall_nodes(), *_mask_nodes("unstalled")]))


def serialized(model: onnx.ModelProto) -> bytes:
    """Return the model's file; the same bytes each time."""
    return bytes(model.SerializeToString(deterministic=True))


def tiny() -> onnx.ModelProto:
    """Return the model: sigmoid of the luminance, 1 x 1 x 64 x 64."""
    return _graph(_mask_nodes())


def _mask_nodes(source: str = "picture") -> list[onnx.NodeProto]:
    return [
        helper.make_node("Conv", [source, "luma"], ["bright"], kernel_shape=[1, 1]),
        helper.make_node("Mul", ["bright", "steep"], ["scaled"]),
        helper.make_node("Sigmoid", ["scaled"], ["mask"]),
    ]


def _stall_nodes() -> list[onnx.NodeProto]:
    """Add zero to the picture, `rounds` times: never, or for hours."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["goes_on"]),
            helper.make_node("Add", ["before", "nothing"], ["after"]),
        ],
        "round",
        [
            helper.make_tensor_value_info("round_number", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, [1, 3, SIZE, SIZE]),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, [1, 3, SIZE, SIZE]),
        ],
    )
    return [
        helper.make_node("ReduceMax", ["picture"], ["brightest"], keepdims=0),
        helper.make_node("Less", ["brightest", "nearly_black"], ["is_black"]),
        helper.make_node("Where", ["is_black", "many", "none"], ["rounds"]),
        helper.make_node("Loop", ["rounds", "always", "picture"], ["unstalled"], body=body),
    ]


def _graph(nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    constants = {
        "luma": np.asarray(LUMA, np.float32).reshape(1, 3, 1, 1),
        "steep": np.asarray(STEEP, np.float32),
        "nothing": np.zeros((), np.float32),
        "nearly_black": np.asarray(-0.99, np.float32),
        "many": np.asarray(2**40, np.int64),
        "none": np.asarray(0, np.int64),
        "always": np.asarray(True),
    }
    used = {name for node in nodes for name in node.input}
    used |= {"nothing"} if any(node.op_type == "Loop" for node in nodes) else set()
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1, 1, SIZE, SIZE])],
        [numpy_helper.from_array(v, name) for name, v in constants.items() if name in used],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _installed(directory: Path, manifest: Manifest, model: onnx.ModelProto) -> Path:
    data = serialized(model)
    pinned = manifest.model_copy(update={"sha256": hashlib.sha256(data).hexdigest()})
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / f"{manifest.name}.onnx"
    file.write_bytes(data)
    try:
        return install(ModelStore(directory), manifest=pinned, source=str(file)).folder
    finally:
        file.unlink()


TINY_FILE = serialized(tiny())
PINNED = TINY.model_copy(update={"sha256": hashlib.sha256(TINY_FILE).hexdigest()})
"""The manifest of exactly this file."""


if __name__ == "__main__":
    build_tiny_model(Path(sys.argv[1]))
