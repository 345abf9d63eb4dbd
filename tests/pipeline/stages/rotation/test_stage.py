"""The rotation: when, in which order, and what keeps it from destroying a version."""

import hashlib
import logging
import uuid
from collections.abc import Callable
from datetime import timedelta

import pytest

from erasestream.schemas.errors import Unavailable
from erasestream.schemas.ids import GrantId
from erasestream.sinks.keys.key_vault import OCTETS, KeyVault, key_prefix
from erasestream.sinks.keys.keyring import VersionState
from tests.kms.server import DAY, LocalKms, State
from tests.pipeline.stages.rotation.rotation_harness import SETTLE_S, WEEK, RotationHarness

ENABLED, DESTROYED = VersionState.ENABLED, VersionState.DESTROYED
ASKED = {VersionState.SCHEDULED, DESTROYED}


def has_asked(harness: RotationHarness) -> Callable[[], bool]:
    """Return whether the destruction of all versions but the newest was asked for."""
    return lambda: set(harness.states()[:-1]) <= ASKED


def path_of(kms: LocalKms, version: str) -> str:
    """Return the name of a version in Cloud KMS."""
    _, digest, number = version.split("-")
    (key,) = (k for k in kms.server.keys if hashlib.sha256(k.encode()).hexdigest()[:12] == digest)
    return f"{key}/cryptoKeyVersions/{number}"


def test_a_week_of_a_master_key(harness: RotationHarness) -> None:
    """A new version, keys moved, the old version destroyed, and that reported once it is seen."""
    keys = dict(harness.create_key() for _ in range(70))  # more than one batch
    (old,) = harness.keyring.versions()
    with harness.rotator() as stage:
        harness.rest(stage)
        assert stage.is_ready()
        assert harness.states() == [ENABLED]
        harness.advance(WEEK)
        stage.run_once(0)
        assert harness.states() == [ENABLED, ENABLED]
        harness.run(stage, has_asked(harness))
        newest = harness.keyring.history()[-1].name
        for grant, key in keys.items():
            assert harness.names_of(grant) == [newest]
            assert harness.keys_of(grant) == {key}
        if harness.states()[0] is VersionState.SCHEDULED:
            harness.rest(stage)
            assert harness.entries == []
            harness.advance(DAY)
        harness.run(stage, lambda: harness.noted() == [old])
        harness.rest(stage)
    (entry,) = harness.entries
    assert entry.master == old
    assert entry.time <= harness.now


def test_nothing_is_moved_before_all_know_the_version(files: RotationHarness) -> None:
    """A sink that knows the older version only could not find the key, and create another."""
    grant, _ = files.create_key()
    with files.rotator() as stage:
        files.advance(WEEK)
        stage.run_once(0)  # adds the version
        stage.run_once(0)  # sees it
        files.advance(timedelta(seconds=SETTLE_S - 1))
        stage.run_once(0)
        assert files.names_of(grant) == ["1"]
        files.run(stage, lambda: files.names_of(grant) == ["2"])


def test_the_wait_begins_again_in_each_process(files: RotationHarness) -> None:
    """A new one cannot know for how long there was the version."""
    grant, _ = files.create_key()
    files.keyring.rotate()
    files.advance(timedelta(seconds=SETTLE_S))
    with files.rotator() as stage:
        stage.run_once(0)
        files.advance(timedelta(seconds=SETTLE_S - 1))
        stage.run_once(0)
    assert files.names_of(grant) == ["1"]


def test_a_key_that_appears_behind_the_look_is_moved_too(files: RotationHarness) -> None:
    """As by another rotator: a version is destroyed after a look that finds nothing."""
    keys = dict(files.create_key() for _ in range(3))
    files.keyring.rotate()
    with files.rotator() as stage:
        files.run(stage, lambda: files.names_of(next(iter(keys))) == ["2"])
        files.store.delete(key_prefix(next(iter(keys))) + "2")
        grant = next(iter(keys))
        wrapped = _wrap_under_first(files, keys[grant], grant)
        files.store.create(key_prefix(grant) + "1", wrapped, OCTETS)
        files.run(stage, has_asked(files))
    assert files.keys_of(grant) == {keys[grant]}


def _wrap_under_first(harness: RotationHarness, key: bytes, grant: str) -> bytes:
    newest = harness.keyring._path("2")
    hidden = newest.rename(newest.with_suffix(".hidden"))
    try:
        return harness.keyring.wrap(key, grant.encode()).raw
    finally:
        hidden.rename(newest)


def test_two_keys_of_one_grant_are_joined_under_another_version(harness: RotationHarness) -> None:
    """Sinks that knew different versions created both; pictures are sealed with each."""
    grant, first = harness.create_key()
    harness.keyring.rotate()
    _, second = harness.create_key(grant)
    assert harness.keys_of(grant) == {first, second}
    with harness.rotator() as stage:
        harness.run(stage, lambda: len(harness.states()) == 3 and has_asked(harness)())
    assert harness.names_of(grant) == [harness.keyring.history()[-1].name]
    assert harness.keys_of(grant) == {first, second}


def test_a_version_that_does_not_wrap_yet_is_waited_for(
    kms: LocalKms, cloud: RotationHarness
) -> None:
    """Two keys need it; no other one is added meanwhile."""
    grant, first = cloud.create_key()
    cloud.keyring.rotate()
    _, second = cloud.create_key(grant)
    with cloud.rotator() as stage:
        cloud.run(stage, lambda: len(cloud.states()) == 3)
        message = kms.server.version(path_of(kms, cloud.keyring.history()[-1].name))
        message.state = State.PENDING_GENERATION
        cloud.rest(stage)
        assert len(cloud.states()) == 3
        message.state = State.ENABLED
        cloud.run(stage, has_asked(cloud))
    assert cloud.keys_of(grant) == {first, second}


def test_erased_grants_are_left_to_the_eraser(harness: RotationHarness) -> None:
    """No key of theirs is created, and none keeps a version from being destroyed."""
    grant, _ = harness.create_key()
    (old,) = harness.keyring.versions()
    harness.erase(grant)
    harness.keyring.rotate()
    with harness.rotator() as stage:
        harness.run(stage, has_asked(harness))
    assert harness.names_of(grant) == [old]


def test_a_key_that_does_not_unwrap_keeps_its_version(
    harness: RotationHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """And keeps no other key from being moved."""
    broken, _ = harness.create_key()
    grant, key = harness.create_key()
    (old,) = harness.keyring.versions()
    name = key_prefix(broken) + old
    harness.store.delete(name)
    harness.store.create(name, bytes(80), OCTETS)
    harness.keyring.rotate()
    with harness.rotator() as stage, caplog.at_level(logging.CRITICAL):
        harness.run(stage, lambda: harness.names_of(grant) != [old])
        harness.rest(stage)
        assert harness.keys_of(grant) == {key}
        assert harness.states() == [ENABLED, ENABLED]
        assert {record.msg for record in caplog.records} == {"key_unreadable"}
        harness.store.delete(name)
        harness.run(stage, has_asked(harness))


def test_a_missing_ledger_delays_reports_only(files: RotationHarness) -> None:
    files.create_key()
    files.keyring.rotate()
    files.ledger_is_available = False
    with files.rotator() as stage:
        files.run(stage, lambda: files.states() == [DESTROYED, ENABLED])
        files.rest(stage)
        assert files.noted() == []
        files.ledger_is_available = True
        files.run(stage, lambda: files.noted() == ["1"])
    assert files.reported() == ["1"]


def test_destructions_are_reported_in_order(kms: LocalKms, cloud: RotationHarness) -> None:
    """A key may have been wrapped under any version before: a report covers all of them."""
    cloud.create_key()
    cloud.keyring.rotate()
    with cloud.rotator() as stage:
        cloud.run(stage, has_asked(cloud))
        first, second = cloud.keyring.history()
        message = kms.server.version(path_of(kms, first.name))
        message.destroy_time += timedelta(days=30)
        cloud.advance(WEEK)
        cloud.run(stage, lambda: cloud.states()[1:] == [VersionState.SCHEDULED, ENABLED])
        cloud.advance(DAY)
        cloud.rest(stage)
        assert cloud.states()[:2] == [VersionState.SCHEDULED, DESTROYED]
        assert cloud.entries == []
        kms.server.now += timedelta(days=30)
        cloud.run(stage, lambda: len(cloud.noted()) == 2)
    assert cloud.reported() == [first.name, second.name]


def test_a_version_that_a_person_restored_is_destroyed_again(
    kms: LocalKms, cloud: RotationHarness
) -> None:
    """Restored, it is disabled; a key under it would wait until it is enabled."""
    grant, key = cloud.create_key()
    (old,) = cloud.keyring.versions()
    message = kms.server.version(path_of(kms, old))
    cloud.keyring.rotate()
    message.state = State.DISABLED
    with cloud.rotator() as stage:
        cloud.rest(stage)
        assert cloud.states() == [VersionState.DISABLED, ENABLED]
        message.state = State.ENABLED
        cloud.run(stage, has_asked(cloud))
        message.state = State.DISABLED
        cloud.run(stage, has_asked(cloud))
    assert cloud.keys_of(grant) == {key}


def test_a_disabled_version_concerns_its_own_keys_only(
    kms: LocalKms, cloud: RotationHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """The other keys are moved, their versions are destroyed, and new ones are added."""
    waiting, key = cloud.create_key()
    (disabled,) = cloud.keyring.versions()
    message = kms.server.version(path_of(kms, disabled))
    cloud.keyring.rotate()
    moved, other = cloud.create_key()
    message.state = State.DISABLED
    with cloud.rotator() as stage, caplog.at_level(logging.ERROR):
        for versions in (3, 4):
            cloud.advance(WEEK)
            cloud.run(stage, lambda versions=versions: len(cloud.states()) == versions)
            cloud.run(stage, lambda: {*cloud.states()[1:-1]} <= ASKED)
            assert cloud.states()[0] is VersionState.DISABLED
            assert cloud.keys_of(moved) == {other}
            assert cloud.names_of(waiting) == [disabled]
        assert "master_disabled" in {record.msg for record in caplog.records}
        message.state = State.ENABLED
        cloud.run(stage, has_asked(cloud))
    assert cloud.keys_of(waiting) == {key}


def test_a_sink_creates_no_second_key_while_a_version_is_disabled(
    kms: LocalKms, cloud: RotationHarness
) -> None:
    """Its grant waits; one without a key gets its own."""
    waiting, key = cloud.create_key()
    (disabled,) = cloud.keyring.versions()
    message = kms.server.version(path_of(kms, disabled))
    cloud.keyring.rotate()
    message.state = State.DISABLED
    cloud.advance(timedelta(minutes=2))
    sink = KeyVault(store=cloud.store, keyring=cloud.keyring, clock=cloud.clock)
    with pytest.raises(Unavailable):
        sink.key(waiting)
    assert sink.key(GrantId(str(uuid.uuid4())))
    assert cloud.names_of(waiting) == [disabled]
    message.state = State.ENABLED
    cloud.advance(timedelta(minutes=2))
    assert sink.key(waiting) == key


def test_a_wrong_clock_adds_no_version_after_the_other(files: RotationHarness) -> None:
    """One in an interval, by the monotonic clock, however old the newest one seems."""
    files.now += timedelta(days=3650)
    with files.rotator() as stage:
        files.rest(stage, turns=60)
    assert len(files.states()) == 2


def test_rotators_beside_each_other_lose_nothing(harness: RotationHarness) -> None:
    keys = dict(harness.create_key() for _ in range(5))
    harness.advance(WEEK)
    with harness.rotator() as first, harness.rotator() as second:

        def run_both() -> bool:
            second.run_once(0)
            return len(harness.states()) > 1 and has_asked(harness)()

        harness.run(first, run_both)
        harness.advance(DAY)
        harness.rest(first)
        harness.rest(second)
    assert {grant: harness.keys_of(grant) for grant in keys} == {g: {k} for g, k in keys.items()}
    assert harness.states()[-1] is ENABLED
    assert harness.reported() == [v.name for v in harness.keyring.history()[:-1]]
