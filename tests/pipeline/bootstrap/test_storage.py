"""Roles that write verify their buckets when they start."""

from collections.abc import Callable

import pytest

from erasestream.pipeline.bootstrap.storage import open_images, open_vault
from erasestream.pipeline.settings import StorageSettings
from erasestream.schemas.errors import UnsafeBucket
from erasestream.sinks.buckets.gcs import GcsObjectStore
from erasestream.topics.catalog.roles import ERASER, KEYS, READER, SINK, Role
from tests.bucket_settings import PUBLIC

Opens = Callable[[StorageSettings, Role], GcsObjectStore]


@pytest.mark.parametrize(
    ("opens", "role"),
    [
        (open_images, SINK),
        (open_images, ERASER),
        (open_vault, SINK),
        (open_vault, ERASER),
        (open_vault, KEYS),
        (open_vault, Role("rotator")),
    ],
)
def test_a_role_that_writes_refuses_a_bucket_that_is_not_private(
    storage: StorageSettings, opens: Opens, role: Role
) -> None:
    with opens(storage, role):
        pass
    public = storage.model_copy(update={"bucket": PUBLIC, "vault": PUBLIC})
    with pytest.raises(UnsafeBucket, match="public access prevention is not enforced"):
        opens(public, role)


def test_a_role_that_only_reads_has_no_right_to_see_the_configuration(
    storage: StorageSettings,
) -> None:
    public = storage.model_copy(update={"bucket": PUBLIC, "vault": PUBLIC})
    with open_images(public, READER), open_vault(public, READER):
        pass
