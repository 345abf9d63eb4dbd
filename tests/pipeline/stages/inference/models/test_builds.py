"""Builds in 8 bits, licences, and other models, which need only a manifest."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from erasestream.pipeline.stages.inference.models.install.installer import install
from erasestream.pipeline.stages.inference.models.isnet import BUILDS, ISNET, build_of
from erasestream.pipeline.stages.inference.models.manifest import (
    Activation,
    Build,
    Manifest,
    Normalisation,
    Use,
)
from erasestream.pipeline.stages.inference.models.segmenter import Segmenter
from erasestream.pipeline.stages.inference.models.store import PREFERRED, ModelStore
from erasestream.schemas.errors import Code, Refused
from tests.paths import ROOT
from tests.pipeline.stages.inference.pictures import saved
from tests.pipeline.stages.inference.tiny_model import SIZE, TINY, serialized, tiny


def photos(folder: Path, count: int) -> Path:
    """Write so many photos of a bright object on a dark background."""
    folder.mkdir()
    for number in range(count):
        pixels = np.full((80, 80, 3), 20 + number, np.uint8)
        pixels[10 : 40 + 5 * number, 10 + number : 60] = 220
        (folder / f"{number}.png").write_bytes(saved(Image.fromarray(pixels)))
    return folder


def provide(tmp_path: Path, model: onnx.ModelProto, **change: object) -> tuple[Manifest, str]:
    """Write a model's file; return its manifest and its path."""
    path = tmp_path / "brought.onnx"
    path.write_bytes(serialized(model))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return TINY.model_copy(update={"sha256": digest, **change}), str(path)


def test_a_build_in_8_bits_is_chosen_by_measurements(store: ModelStore, tmp_path: Path) -> None:
    """The record contains the build, the agreement of the masks and both times."""
    manifest, file = provide(tmp_path, tiny(), build=Build.STATIC_INT8)
    steps: list[tuple[str, int, int]] = []
    installed = install(
        store,
        manifest=manifest,
        source=file,
        photos=photos(tmp_path / "photos", 6),
        progress=lambda step, *, done, total: steps.append((step, done, total)),
    )
    choice = installed.choice
    assert choice is not None
    assert choice.iou is not None
    assert choice.iou >= 0.98
    assert choice.single_ms is not None
    assert choice.int8_ms is not None
    kinds = {node.op_type for node in onnx.load(str(installed.path)).graph.node}
    assert ("QuantizeLinear" in kinds) is (choice.build is Build.STATIC_INT8)
    assert ("calibrating", 2, 3) in steps
    assert ("judging", 0, 3) in steps
    assert sorted(path.name for path in installed.folder.iterdir()) == [
        "installed.json",
        "model.onnx",
    ]
    assert store.find("tiny") == installed


def test_an_inaccurate_build_in_8_bits_is_not_used(store: ModelStore, tmp_path: Path) -> None:
    """Of a model that needs finer steps; the record states the reason."""
    fine = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["picture"], ["grey"], axes=[1], keepdims=1),
            helper.make_node("Conv", ["grey", "huge"], ["wide"], kernel_shape=[1, 1]),
            helper.make_node("Sin", ["wide"], ["mask"]),
        ],
        "fine",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1, 1, SIZE, SIZE])],
        [numpy_helper.from_array(np.full((1, 1, 1, 1), 5000, np.float32), "huge")],
    )
    model = helper.make_model(fine, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    manifest, file = provide(tmp_path, model, build=Build.STATIC_INT8)
    noise = np.random.default_rng(1).integers(0, 255, (6, 64, 64, 3), np.uint8)
    folder = tmp_path / "noise"
    folder.mkdir()
    for number, pixels in enumerate(noise):
        (folder / f"{number}.png").write_bytes(saved(Image.fromarray(pixels)))
    installed = install(store, manifest=manifest, source=file, photos=folder)
    assert installed.choice is not None
    assert installed.choice.build is Build.PRUNED_FP32
    assert "something else" in installed.choice.reason
    kinds = {node.op_type for node in onnx.load(str(installed.path)).graph.node}
    assert "QuantizeLinear" not in kinds


def test_the_same_photos_give_the_same_build(tmp_path: Path) -> None:
    """Byte for byte: results name the SHA-256 of the model."""
    manifest, file = provide(tmp_path, tiny(), build=Build.STATIC_INT8)
    folder = photos(tmp_path / "photos", 6)
    first, second = (
        install(ModelStore(tmp_path / name), manifest=manifest, source=file, photos=folder)
        for name in ("first", "second")
    )
    assert first.choice is not None
    assert second.choice is not None
    if first.choice.build is second.choice.build:
        assert first.sha256 == second.sha256


@pytest.mark.parametrize("count", [None, 0, 3])
def test_with_too_few_photos_single_precision_is_used(
    store: ModelStore, tmp_path: Path, count: int | None
) -> None:
    """The record states the reason."""
    manifest, file = provide(tmp_path, tiny(), build=Build.STATIC_INT8)
    folder = None if count is None else photos(tmp_path / "photos", count)
    installed = install(store, manifest=manifest, source=file, photos=folder)
    assert installed.choice is not None
    assert installed.choice.build is Build.PRUNED_FP32
    assert "too few photos" in installed.choice.reason


def test_an_unreadable_photo_is_refused(store: ModelStore, tmp_path: Path) -> None:
    """Nothing is installed without a photo that the operator provided."""
    manifest, file = provide(tmp_path, tiny(), build=Build.STATIC_INT8)
    folder = photos(tmp_path / "photos", 4)
    (folder / "broken.jpg").write_bytes(b"no photo")
    with pytest.raises(Refused, match="photo"):
        install(store, manifest=manifest, source=file, photos=folder)
    assert not list(store.folder.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        {"use": Use.NON_COMMERCIAL},
        {"licence": "CC BY-NC 4.0"},
        {"licence": "Creative Commons Attribution-NonCommercial"},
        {"licence": "for non-commercial use, see LICENSE"},
        {"licence": "For research purposes only."},
    ],
)
def test_a_non_commercial_licence_needs_the_operators_confirmation(
    store: ModelStore, tmp_path: Path, change: dict[str, object]
) -> None:
    """Refused before any download, naming the flag; installed with it."""
    manifest, file = provide(tmp_path, tiny(), **change)
    with pytest.raises(Refused, match="--non-commercial") as refused:
        install(store, manifest=manifest, source="/nowhere")
    assert refused.value.code is Code.MODEL_REFUSED
    install(store, manifest=manifest, source=file, accepted=Use.NON_COMMERCIAL)


def test_isnets_licence_needs_no_confirmation() -> None:
    """It is called MIT."""
    assert not any(manifest.is_non_commercial for manifest in BUILDS.values())


def of_kind(outputs: int, last: str | None) -> onnx.ModelProto:
    """Return a model with several outputs; the first is the mask, after the node `last`."""
    nodes = [helper.make_node("Conv", ["picture", "luma"], ["bright"], kernel_shape=[1, 1])]
    for number in range(outputs):
        kind = (last or "Identity") if number == 0 else "Neg"
        nodes.append(helper.make_node(kind, ["bright"], [f"d{number}"]))
    graph = helper.make_graph(
        nodes,
        "kind",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [
            helper.make_tensor_value_info(f"d{n}", TensorProto.FLOAT, [1, 1, SIZE, SIZE])
            for n in range(outputs)
        ],
        [numpy_helper.from_array(np.full((1, 3, 1, 1), 2, np.float32), "luma")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


IMAGENET = {"mean": (123.675, 116.28, 103.53), "scale": (58.395, 57.12, 57.375)}


@pytest.mark.parametrize("build", [Build.AS_SHIPPED, Build.PRUNED_FP32])
@pytest.mark.parametrize(
    ("model", "change"),
    [
        # U2-Net: seven outputs with a sigmoid, normalised to smallest and largest value.
        (of_kind(7, "Sigmoid"), {**IMAGENET, "normalisation": Normalisation.MIN_MAX}),
        # IS-Net from another source: twelve outputs, mean 0.5, scale 1.
        (of_kind(12, "Sigmoid"), {"mean": (127.5,) * 3, "scale": (255.0,) * 3}),
        # BiRefNet: one output of logits.
        (of_kind(1, None), {**IMAGENET, "activation": Activation.SIGMOID}),
    ],
    ids=["u2net", "isnet", "birefnet"],
)
def test_other_models_need_only_a_manifest(
    store: ModelStore,
    tmp_path: Path,
    model: onnx.ModelProto,
    change: dict[str, object],
    build: Build,
) -> None:
    """Bright is the product, dark is not, with the constants of the model's training."""
    manifest, file = provide(tmp_path, model, output_name="d0", build=build, **change)
    segmenter = Segmenter(install(store, manifest=manifest, source=file))
    values = np.zeros((SIZE, SIZE, 3), np.float32)
    values[:, : SIZE // 2] = 255
    scaled = (values - np.asarray(manifest.mean)) / np.asarray(manifest.scale)
    mask = segmenter.mask(scaled.transpose(2, 0, 1)[None].astype(np.float32))
    assert (mask[:, : SIZE // 2] > 0.9).all()
    assert (mask[:, SIZE // 2 :] < 0.1).all()


def test_a_name_without_version_means_the_preferred_one(store: ModelStore, tmp_path: Path) -> None:
    """Models that an earlier release installed stay available."""
    for version in ("1.4.5-fp32", PREFERRED["isnet"]):
        manifest, file = provide(tmp_path, tiny(), name="isnet", version=version)
        install(store, manifest=manifest, source=file)
    assert store.find("isnet").manifest.version == PREFERRED["isnet"]
    assert store.find("isnet-1.4.5-fp32").manifest.version == "1.4.5-fp32"


def test_every_build_has_a_folder_of_its_own() -> None:
    """The set-up script checks for the one that it installs."""
    assert len({manifest.label for manifest in BUILDS.values()}) == len(Build)
    assert build_of(None) is ISNET
    assert build_of("as_shipped").build is Build.AS_SHIPPED
    with pytest.raises(Refused, match="pruned_fp32"):
        build_of("float")
    assert f"MODEL_FOLDER=models/{ISNET.label}\n" in (ROOT / "deploy/setup.sh").read_text()
