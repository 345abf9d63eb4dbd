"""BEN2 and BiRefNet_lite, with small substitutes of the same interface: their weights are not here.

The substitutes compute the mask of the golden picture from its colours: the ellipse is the only
thing in it whose red exceeds its blue.
"""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from erasestream.pipeline.stages.inference.cutout_pipeline import cut_out_once
from erasestream.pipeline.stages.inference.imaging.decode import decode
from erasestream.pipeline.stages.inference.isolation.process_pool import ProcessPool
from erasestream.pipeline.stages.inference.models import golden
from erasestream.pipeline.stages.inference.models.install.installer import announcement, install
from erasestream.pipeline.stages.inference.models.isnet import ISNET
from erasestream.pipeline.stages.inference.models.manifest import Activation, Build, Manifest
from erasestream.pipeline.stages.inference.models.other_models import (
    BEN2,
    BIREFNET_LITE,
    KNOWN,
    known,
)
from erasestream.pipeline.stages.inference.models.preprocessing import to_input
from erasestream.pipeline.stages.inference.models.segmenter import Segmenter
from erasestream.pipeline.stages.inference.models.store import Installed, ModelStore
from erasestream.schemas.errors import Code, Refused
from erasestream.schemas.options import CutoutOptions
from tests.pipeline.stages.inference.pictures import saved

MODELS = [BEN2, BIREFNET_LITE]
SIZE = 1024


def substitute(manifest: Manifest, *, inputs: str, outputs: tuple[str, ...], half: bool) -> bytes:
    """Return a graph that takes this model's input, and whose first output means the same.

    It judges red minus blue: -10 levels of 255 on the ground, 17 or more in the ellipse.
    """
    weight = np.zeros((1, 3, 1, 1), np.float32)
    weight[0, :, 0, 0] = [manifest.scale[0] / 255, 0, -manifest.scale[2] / 255]
    offset = (manifest.mean[0] - manifest.mean[2]) / 255
    steep = 300.0 if manifest.activation is Activation.SIGMOID else 1.0
    bias = steep * (offset - 0.01)
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    nodes = [
        helper.make_node("Conv", [inputs, "weight", "bias"], ["raw"], kernel_shape=[1, 1]),
        helper.make_node("Clip", ["raw", "low", "high"], ["clipped"]),
        helper.make_node("Cast", ["clipped"], [outputs[0]], to=kind),
        *(helper.make_node("Identity", ["raw"], [name]) for name in outputs[1:]),
    ]
    constants = {
        "weight": weight * steep,
        "bias": np.asarray([bias], np.float32),
        "low": np.asarray(-60 if steep > 1 else 0, np.float32),
        "high": np.asarray(60 if steep > 1 else 0.02, np.float32),
    }
    shape = [1, 1, SIZE, SIZE]
    infos = [helper.make_tensor_value_info(outputs[0], kind, shape)]
    infos += [helper.make_tensor_value_info(each, TensorProto.FLOAT, shape) for each in outputs[1:]]
    graph = helper.make_graph(
        nodes,
        "substitute",
        [helper.make_tensor_value_info(inputs, TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        infos,
        [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def file_of(manifest: Manifest) -> bytes:
    """Return the substitute of this model, with names that its exports have."""
    if manifest.name == BEN2.name:
        return substitute(manifest, inputs="input.1", outputs=("4711", "side"), half=True)
    return substitute(manifest, inputs="input_image", outputs=("output_image",), half=False)


def installed(manifest: Manifest, folder: Path, **changes: object) -> Installed:
    """Install the substitute under the model's manifest, which then pins its SHA-256."""
    data = file_of(manifest)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "downloaded.onnx"
    path.write_bytes(data)
    pinned = manifest.model_copy(
        update={"sha256": hashlib.sha256(data).hexdigest(), "memory_bytes": 4 << 30, **changes}
    )
    return install(ModelStore(folder / "models"), manifest=pinned, source=str(path))


@pytest.mark.parametrize("manifest", MODELS, ids=lambda each: each.name)
def test_a_substitute_gives_the_golden_mask(manifest: Manifest, tmp_path: Path) -> None:
    """So the installation accepts it; the golden picture is found by its ellipse."""
    mask = Segmenter(installed(manifest, tmp_path)).mask(golden.model_input(manifest))
    assert mask.dtype == np.float32
    assert manifest.golden is not None
    assert golden.difference(mask, manifest.golden) < 0.02
    assert ISNET.golden is not None
    assert golden.difference(mask, ISNET.golden) < 0.02


@pytest.mark.parametrize(
    ("manifest", "change"),
    [
        (BEN2, {"mean": BIREFNET_LITE.mean, "scale": (-1.0, 1.0, 1.0)}),
        (BEN2, {"mean": (500.0, 0.0, 0.0)}),
        (BIREFNET_LITE, {"mean": (0.0, 116.28, 255.0)}),
        (BIREFNET_LITE, {"input_name": "input"}),
        (BIREFNET_LITE, {"output_name": "mask"}),
        (BIREFNET_LITE, {"size": 512}),
    ],
    ids=["scale", "mean", "normalisation", "input", "output", "size"],
)
def test_another_input_or_meaning_is_refused(
    manifest: Manifest, change: dict[str, object], tmp_path: Path
) -> None:
    """The golden picture would be cut out wrongly, or the graph does not have the name."""
    with pytest.raises(Refused) as refused:
        installed(manifest, tmp_path, **change)
    assert refused.value.code is Code.MODEL_REFUSED


@pytest.mark.parametrize("manifest", MODELS, ids=lambda each: each.name)
def test_another_file_is_refused(manifest: Manifest, tmp_path: Path) -> None:
    """The SHA-256 that comes with this package is not that of a substitute."""
    path = tmp_path / "other.onnx"
    path.write_bytes(file_of(manifest))
    with pytest.raises(Refused) as refused:
        install(ModelStore(tmp_path / "models"), manifest=manifest, source=str(path))
    assert refused.value.code is Code.MODEL_REFUSED


def test_the_input_of_each_model_is_that_of_its_authors() -> None:
    """BEN2: values of 0 to 1.  BiRefNet_lite: the normalisation of ImageNet."""
    picture = decode(saved(Image.new("RGB", (40, 30), (255, 0, 128))))
    assert to_input(picture, BEN2)[0, :, 5, 5] == pytest.approx([1, 0, 128 / 255])
    expected = [
        (value - mean) / scale
        for value, mean, scale in zip(
            (1, 0, 128 / 255), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True
        )
    ]
    tensor = to_input(picture, BIREFNET_LITE)
    assert tensor.shape == (1, 3, 1024, 1024)
    assert tensor[0, :, 5, 5] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("manifest", MODELS, ids=lambda each: each.name)
def test_the_announcement_names_size_source_and_licence(manifest: Manifest) -> None:
    text = announcement(manifest)
    assert ("223 MB" in text) or ("224 MB" in text)
    assert manifest.source in text
    assert "MIT" in text
    assert not manifest.is_non_commercial


def test_models_are_known_by_name() -> None:
    assert [known(name).name for name in KNOWN] == ["isnet", "ben2", "birefnet_lite"]
    with pytest.raises(Refused, match="isnet, ben2, birefnet_lite"):
        known("u2net")


def test_a_pruned_build_needs_names() -> None:
    """Pruning keeps what leads from the one to the other."""
    with pytest.raises(ValueError, match="input_name and output_name"):
        Manifest.model_validate(BEN2.model_dump() | {"build": Build.PRUNED_FP32})


async def test_a_pool_runs_the_substitute(tmp_path: Path) -> None:
    """In the sandbox, with the memory that its manifest allows, as in one process."""
    model = installed(BIREFNET_LITE, tmp_path)
    photo = saved(Image.fromarray(golden.picture(300)))
    pool = ProcessPool(model=model, children=1)
    await pool.start()
    cutout = await pool.cut_out(photo, CutoutOptions())
    await pool.close()
    assert cutout.data == cut_out_once(Segmenter(model), photo, CutoutOptions()).data
