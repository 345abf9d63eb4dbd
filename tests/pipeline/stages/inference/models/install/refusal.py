"""The refusal of an installation."""

import pytest

from erasestream.pipeline.stages.inference.models.install.installer import install
from erasestream.pipeline.stages.inference.models.manifest import Manifest
from erasestream.pipeline.stages.inference.models.store import ModelStore
from erasestream.schemas.errors import Refused


def refusal(store: ModelStore, manifest: Manifest, source: object) -> Refused:
    """Return the error of an installation, which leaves the store empty."""
    with pytest.raises(Refused) as refused:
        install(store, manifest=manifest, source=str(source))
    assert not list(store.folder.glob("*"))
    assert not list(store.folder.glob(".*"))
    return refused.value
