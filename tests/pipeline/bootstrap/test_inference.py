"""The inference settings, as the worker's parts take them."""

from pathlib import Path
from typing import get_args

from erasestream.pipeline.bootstrap.inference import enforcement_of
from erasestream.pipeline.settings import InferenceSettings
from erasestream.pipeline.stages.inference.sandbox.restrictions import Enforcement, Isolation


def test_isolation_is_required_unless_dangerously_set_otherwise() -> None:
    settings = InferenceSettings(models=Path("models"))
    assert enforcement_of(settings) is Enforcement.REQUIRED
    assert Isolation(settings.isolation) is Isolation.PER_IMAGE
    allowed = InferenceSettings(models=Path("models"), dangerously_run_without_isolation=True)
    assert enforcement_of(allowed) is Enforcement.AS_FAR_AS_POSSIBLE
    assert Isolation(allowed.isolation) is Isolation.PER_IMAGE


def test_settings_name_every_degree_of_isolation() -> None:
    field = InferenceSettings.model_fields["isolation"]
    assert set(get_args(field.annotation)) == {str(each) for each in Isolation}
