"""Rewritten graphs compute the same masks."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

from erasestream.pipeline.stages.inference.models.install.graph_rewrites import (
    OUTPUTS,
    pad_and_share_scales,
    widen,
)
from erasestream.pipeline.stages.inference.models.install.quantise import quantise

SIDE = 16
RANDOM = np.random.default_rng(7)


def model(
    nodes: list[onnx.NodeProto], outputs: int, colours: int = 3, **constants: np.ndarray
) -> ModelProto:
    """Return a model with an input `picture` of so many colours and an output `mask`."""
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, colours, SIDE, SIDE])],
        [helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1, outputs, SIDE, SIDE])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


class SinglePictureReader(CalibrationDataReader):  # type: ignore[misc]
    """Reader of one calibration picture."""

    def __init__(self, picture: np.ndarray) -> None:
        self._left = [{"picture": picture}]

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the picture, then None."""
        return self._left.pop() if self._left else None


def weights(*shape: int) -> np.ndarray:
    """Return random weights of both signs."""
    return RANDOM.normal(0, 0.3, shape).astype(np.float32)


def run_model(path: Path, picture: np.ndarray) -> np.ndarray:
    """Return the model's mask of a picture."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["mask"], {"picture": picture})[0])


def outputs_of(path: Path) -> list[int]:
    """Return the number of outputs of each convolution."""
    graph = onnx.load(str(path)).graph
    shapes = {each.name: tuple(each.dims) for each in graph.initializer}
    return [shapes[node.input[1]][0] for node in graph.node if node.op_type == "Conv"]


@pytest.mark.parametrize("outputs", [1, 5, OUTPUTS, OUTPUTS + 1])
@pytest.mark.parametrize("bias", [(), ("bias",)], ids=["without bias", "with bias"])
def test_a_narrow_convolution_gets_more_outputs_and_the_same_mask(
    tmp_path: Path, outputs: int, bias: tuple[str, ...]
) -> None:
    """Additional outputs are sliced off; a convolution that is wide enough is not changed."""
    conv = helper.make_node("Conv", ["picture", "weights", *bias], ["mask"], pads=[1, 1, 1, 1])
    constants = {name: weights(outputs) for name in bias}
    before = model([conv], outputs, weights=weights(outputs, 3, 3, 3), **constants)
    source, target = tmp_path / "source.onnx", tmp_path / "target.onnx"
    onnx.save(before, str(source))
    widen(source, target)
    picture = weights(1, 3, SIDE, SIDE)
    assert run_model(target, picture).shape == (1, outputs, SIDE, SIDE)
    assert np.allclose(run_model(target, picture), run_model(source, picture), atol=1e-5)
    assert outputs_of(target) == [max(outputs, OUTPUTS)]
    assert len(onnx.load(str(target)).graph.initializer) == 1 + len(bias) + 3 * (outputs < OUTPUTS)


def test_a_grouped_convolution_is_not_changed(tmp_path: Path) -> None:
    """Its outputs belong to certain inputs."""
    conv = helper.make_node("Conv", ["picture", "weights"], ["mask"], pads=[1, 1, 1, 1], group=3)
    source, target = tmp_path / "source.onnx", tmp_path / "target.onnx"
    onnx.save(model([conv], 3, weights=weights(3, 1, 3, 3)), str(source))
    widen(source, target)
    assert outputs_of(target) == [3]


@pytest.mark.parametrize("colours", [3, 4])
def test_the_first_convolution_gets_a_fourth_input_and_the_same_mask(
    tmp_path: Path, colours: int
) -> None:
    """It is the zero point of its bytes, which need not be 0; other nodes still get three."""
    conv = ["Conv", ["picture", "weights", "bias"], ["bright"]]
    nodes = [
        helper.make_node(*conv, pads=[1, 1, 1, 1]),
        helper.make_node("ReduceMean", ["picture"], ["grey"], axes=[1], keepdims=1),
        helper.make_node("Add", ["bright", "grey"], ["mask"]),
    ]
    source, before, after = (tmp_path / f"{name}.onnx" for name in ("source", "before", "after"))
    constants = {"weights": weights(OUTPUTS, colours, 3, 3), "bias": weights(OUTPUTS)}
    onnx.save(model(nodes, OUTPUTS, colours, **constants), str(source))
    picture = weights(1, colours, SIDE, SIDE) + np.float32(0.2)
    quantize_static(
        str(source),
        str(before),
        SinglePictureReader(picture),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
    )
    after.write_bytes(before.read_bytes())
    pad_and_share_scales(after)
    kinds = [node.op_type for node in onnx.load(str(after)).graph.node]
    assert kinds.count("Pad") == (colours == 3)
    assert (run_model(after, picture) == run_model(before, picture)).all()


def test_a_resized_input_of_a_concat_has_the_scale_of_its_result(tmp_path: Path) -> None:
    """The other input keeps its scale, because other nodes use it as well."""
    nodes = [
        helper.make_node("Conv", ["picture", "weights"], ["large"], pads=[1, 1, 1, 1]),
        helper.make_node("MaxPool", ["large"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["pooled", "smaller"], ["small"]),
        helper.make_node("Resize", ["small", "", "factors"], ["resized"], mode="linear"),
        helper.make_node("Concat", ["large", "resized"], ["joined"], axis=1),
        helper.make_node("Conv", ["joined", "last"], ["mask"]),
    ]
    source, target = tmp_path / "source.onnx", tmp_path / "target.onnx"
    constants = {
        "weights": weights(OUTPUTS, 3, 3, 3),
        "smaller": weights(OUTPUTS, OUTPUTS, 1, 1) / 16,
        "factors": np.array([1, 1, 2, 2], np.float32),
        "last": weights(OUTPUTS, 2 * OUTPUTS, 1, 1),
    }
    onnx.save(model(nodes, OUTPUTS, **constants), str(source))
    picture = weights(1, 3, SIDE, SIDE)
    quantise(source, target, input_name="picture", pictures=[picture])
    graph = onnx.load(str(target)).graph
    rounded = {n.input[0]: n.input[1] for n in graph.node if n.op_type == "QuantizeLinear"}
    restored = {n.output[0]: n.input[1] for n in graph.node if n.op_type == "DequantizeLinear"}
    (concat,) = (node for node in graph.node if node.op_type == "Concat")
    large, resized = (restored[name] for name in concat.input)
    assert resized == rounded["resized"] == rounded["joined"]
    assert large == rounded["large"] != rounded["joined"]
    assert rounded["small"] != rounded["joined"]
    wanted = run_model(source, picture)
    assert np.abs(run_model(target, picture) - wanted).max() < 0.05 * np.abs(wanted).max()
