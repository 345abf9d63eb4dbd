"""A model store and a model file for the tests of models."""

from pathlib import Path

import pytest

from erasestream.pipeline.stages.inference.models.store import ModelStore
from tests.pipeline.stages.inference.tiny_model import TINY_FILE


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """Return an empty store."""
    return ModelStore(tmp_path / "models")


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    """Return the file of the tiny model, as an operator would provide it."""
    path = tmp_path / "mine.onnx"
    path.write_bytes(TINY_FILE)
    return path
