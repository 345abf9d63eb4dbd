"""A rotator that is killed at any operation: the next one finishes, and no key is lost."""

from contextlib import suppress
from datetime import timedelta
from itertools import count
from pathlib import Path

from erasestream.schemas.ids import GrantId
from erasestream.sinks.buckets.folder_store import FolderStore
from erasestream.sinks.keys.keyring import VersionState
from erasestream.sinks.keys.local_keyring import LocalKeyring
from tests.pipeline.stages.rotation.rotation_harness import PLENTY, RotationHarness
from tests.sinks.mortal_store import Killed

Keys = dict[GrantId, set[bytes]]


def prepare(harness: RotationHarness) -> tuple[Keys, GrantId]:
    """Create a key under one version, two under different ones, and one that is erased."""
    moved, key = harness.create_key()
    joined, first = harness.create_key()
    erased, _ = harness.create_key()
    harness.erase(erased)
    harness.keyring.rotate()
    _, second = harness.create_key(joined)
    current, other = harness.create_key()
    return {moved: {key}, joined: {first, second}, current: {other}}, erased


def assert_nothing_is_lost(harness: RotationHarness, keys: Keys) -> None:
    assert {grant: harness.keys_of(grant) for grant in keys} == keys


def run_to_the_end(harness: RotationHarness, lives: int = PLENTY) -> bool:
    """Return whether a rotator finished before it was killed."""
    with suppress(Killed), harness.rotator(lives) as stage:
        harness.run(stage, lambda: len(harness.noted()) == 2)
        return True
    return False


def assert_done(harness: RotationHarness, keys: Keys, erased: GrantId) -> None:
    """All is as if no rotator had been killed."""
    assert_nothing_is_lost(harness, keys)
    *old, newest = harness.keyring.history()
    assert [each.state for each in old] == [VersionState.DESTROYED] * 2
    assert harness.reported() == [each.name for each in old]
    assert all(harness.names_of(grant) == [newest.name] for grant in keys)
    assert harness.names_of(erased) == [old[0].name]


def test_killed_at_any_operation_on_files(tmp_path: Path) -> None:
    for lives in count(1):
        keyring = LocalKeyring.create(tmp_path / f"master-{lives}")
        harness = RotationHarness(FolderStore(tmp_path / f"{lives}"), keyring, lambda _: None)
        keys, erased = prepare(harness)
        is_done = run_to_the_end(harness, lives)
        assert_nothing_is_lost(harness, keys)
        assert run_to_the_end(harness)
        assert_done(harness, keys, erased)
        if is_done:
            break
    assert lives > 40


def test_killed_one_after_the_other_with_cloud_kms(cloud: RotationHarness) -> None:
    """Each lives a little longer than the one before, on the same vault."""
    keys, erased = prepare(cloud)
    for lives in count(1):
        if run_to_the_end(cloud, lives):
            break
        assert_nothing_is_lost(cloud, keys)
        cloud.advance(timedelta(hours=1))
    assert lives > 10
    assert_done(cloud, keys, erased)
