"""Convert a model's file at installation.

Pruning keeps the nodes that the one output needs, in single precision, in which a CPU computes
anyway: in half precision every edge is converted there and back.
"""

from pathlib import Path
from typing import assert_never

import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from erasestream.pipeline.stages.inference.models.manifest import Build, Manifest
from erasestream.pipeline.stages.inference.models.segmenter import refuse_unless_loadable
from erasestream.schemas.errors import ModelRefused

_CHECKS_FAIL = (onnx.checker.ValidationError, onnx.shape_inference.InferenceError)
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


def build(manifest: Manifest, source: Path, target: Path) -> None:
    """Convert the file that the manifest describes into the model that will run.

    For the build in 8 bits this is the one in single precision, from which `trial.py` continues.

    Raises `Refused` (model_refused) if the file is no ONNX model or cannot be built.
    The source file is consumed.
    """
    # onnxruntime detects files that are no models, and accepts nodes in any order.
    refuse_unless_loadable(source, manifest.label)
    match manifest.build:
        case Build.AS_SHIPPED:
            source.rename(target)
        case Build.PRUNED_FP32 | Build.STATIC_INT8:
            try:
                model = prune(onnx.load(str(source)), manifest.output_name or "")
                source.unlink()
                # With types: pruning must not silently produce another model.
                onnx.checker.check_model(model, full_check=True)
            except _CHECKS_FAIL as error:
                raise ModelRefused(f"{manifest.label}: {error}"[:300]) from error
            onnx.save(model, str(target))
        case _:
            assert_never(manifest.build)


def prune(model: ModelProto, output: str) -> ModelProto:
    """Return the model with one output and only the nodes that it needs, in single precision.

    Raises `Refused` (model_refused) if there is no such output.
    """
    kept = [each for each in model.graph.output if each.name == output]
    if not kept:
        raise ModelRefused(f"the model has no output {output}")
    kept[0].type.tensor_type.elem_type = TensorProto.FLOAT
    nodes, names = _without_casts(_needed(model, output), output)
    graph = helper.make_graph(
        nodes,
        model.graph.name,
        [each for each in model.graph.input if each.name in names],
        kept,
        [_single(each) for each in model.graph.initializer if each.name in names],
    )
    return helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=model.ir_version, producer_name=""
    )


def _needed(model: ModelProto, output: str) -> list[NodeProto]:
    """Return the nodes that lead to this output, sorted by dependency (files need not be)."""
    maker = {name: node for node in model.graph.node for name in node.output}
    done: set[str] = set()
    ordered: list[NodeProto] = []
    waiting = [(output, False)]
    while waiting:
        name, inputs_are_done = waiting.pop()
        node = maker.get(name)
        if node is None:
            continue
        if inputs_are_done:
            ordered.append(node)
        elif node.output[0] not in done:
            done.add(node.output[0])
            waiting.append((name, True))
            waiting.extend((each, False) for each in node.input if each)
    return ordered


def _without_casts(nodes: list[NodeProto], output: str) -> tuple[list[NodeProto], set[str]]:
    """Return the nodes without conversions between precisions, and the names of their inputs."""
    left: list[NodeProto] = []
    stands_for: dict[str, str] = {}
    for node in nodes:
        inputs = [stands_for.get(name, name) for name in node.input]
        if node.op_type == "Cast" and _integer(node, "to") in _FLOATS:
            if node.output[0] != output:
                stands_for[node.output[0]] = inputs[0]
                continue
            node = helper.make_node("Identity", inputs, [output])  # noqa: PLW2901
        node.input[:] = inputs
        for attribute in node.attribute:
            if attribute.HasField("t"):
                attribute.t.CopyFrom(_single(attribute.t))
        left.append(node)
    return left, {name for node in left for name in node.input}


def _integer(node: NodeProto, attribute: str) -> int:
    return next(int(each.i) for each in node.attribute if each.name == attribute)


def _single(tensor: TensorProto) -> TensorProto:
    if tensor.data_type != TensorProto.FLOAT16:
        return tensor
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype("float32"), tensor.name)
