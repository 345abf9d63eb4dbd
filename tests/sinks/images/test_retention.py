"""Retained pictures from the sink to the reader."""

import uuid

import pytest

from erasestream.schemas.errors import (
    Erased,
    NotFound,
    SealBroken,
)
from erasestream.schemas.events.images import Part
from erasestream.schemas.ids import GrantId, UploadId
from erasestream.schemas.sealing.envelope import Context, seal, upload_digest
from erasestream.schemas.sealing.recipients import GrantRecipient
from erasestream.sinks.buckets.access_policy import Role
from erasestream.sinks.buckets.gcs import GcsObjectStore
from erasestream.sinks.keys.key_vault import (
    CACHE_LIMIT_S,
    key_prefix,
    mark_erased,
)
from tests.sinks.retention_harness import RetentionHarness, listed, name_of, picture


def test_the_reader_opens_what_the_sink_stored(harness: RetentionHarness, grant: GrantId) -> None:
    """With the reader's rights and no name key."""
    sink = harness.sink()
    original, cutout = picture(grant), picture(grant, b"\x89PNG\r\n\x1a\n", part=Part.CUTOUT)
    names = {str(sink.store(event)): event for event in (original, cutout)}
    assert sorted(listed(harness, original)) == sorted(names)
    for name, event in names.items():
        assert harness.reader().open(name) == ("image/png", event.data)


def test_the_bucket_holds_nothing_in_clear(harness: RetentionHarness, grant: GrantId) -> None:
    """Neither pixels nor account nor content type are in the bucket's folder."""
    event = picture(grant, b"recognisable pixels" * 100)
    name = str(harness.sink().store(event))
    folder = harness.stack.settings.data
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(grant in path.name for path in files)
    for path in files:
        raw = path.read_bytes()
        assert b"recognisable" not in raw
        assert event.account.encode() not in raw
    assert event.account not in name
    assert b"image/png" in harness.stack.store("images", Role.READER).read(name, 10_000)[:100]


def test_storing_a_picture_twice_is_idempotent(harness: RetentionHarness, grant: GrantId) -> None:
    """A redelivered record finds its name taken, also by another process."""
    event = picture(grant)
    assert harness.sink().store(event) == harness.sink().store(event)
    assert len(listed(harness, event)) == 1


def test_another_picture_of_the_same_upload_has_another_name(
    harness: RetentionHarness, grant: GrantId
) -> None:
    sink = harness.sink()
    one, two = sink.store(picture(grant)), sink.store(picture(grant, b"other"))
    assert one.content != two.content
    assert harness.reader().open(str(two)).plaintext == b"other"


def test_an_erased_grant_is_refused_at_once(harness: RetentionHarness, grant: GrantId) -> None:
    """After the marker exists nothing new is sealed, and a commit is refused."""
    sink = harness.sink()
    name = sink.store(picture(grant))
    mark_erased(harness.eraser(), grant)
    mark_erased(harness.eraser(), grant)
    with pytest.raises(Erased):
        sink.assert_not_erased(grant)
    with pytest.raises(Erased):
        sink.store(picture(grant, b"more"))
    assert listed(harness, picture(grant)) == []
    with pytest.raises(Erased):
        harness.reader().open(str(name))


def test_the_marker_ends_opening_at_once(harness: RetentionHarness, grant: GrantId) -> None:
    """Also for a reader that has the key in its cache, without any time passing."""
    name = str(harness.sink().store(picture(grant)))
    reader = harness.reader()
    assert reader.open(name).plaintext == picture(grant).data
    mark_erased(harness.eraser(), grant)
    with pytest.raises(Erased):
        reader.open(name)


class RacedBucket(GcsObjectStore):
    """The reader's or the sink's image bucket; an eraser marks the grant during each request."""

    grant: GrantId
    harness: RetentionHarness

    def read(self, name: str, max_bytes: int) -> bytes:
        raw = super().read(name, max_bytes)
        mark_erased(self.harness.eraser(), self.grant)
        return raw

    def create(self, name: str, data: bytes, content_type: str) -> None:
        mark_erased(self.harness.eraser(), self.grant)
        super().create(name, data, content_type)


def raced_bucket(harness: RetentionHarness, role: Role, grant: GrantId) -> RacedBucket:
    store = harness.stack.store("images", role)
    store.__class__ = RacedBucket
    store.grant, store.harness = grant, harness
    raced: RacedBucket = store
    return raced


def test_a_marker_created_while_a_picture_is_read_is_seen(
    harness: RetentionHarness, grant: GrantId
) -> None:
    """The picture has arrived, and is not decrypted."""
    name = str(harness.sink().store(picture(grant)))
    reader = harness.reader(raced_bucket(harness, Role.READER, grant))
    with pytest.raises(Erased):
        reader.open(name)


def test_a_picture_stored_after_the_marker_is_neither_listed_nor_opened(
    harness: RetentionHarness, grant: GrantId
) -> None:
    """Its put had begun: it may end until the put's deadline, and no reader opens the picture."""
    sink = harness.sink(store=raced_bucket(harness, Role.SINK, grant))
    name = str(sink.store(picture(grant)))
    assert harness.stack.store("images", Role.READER).exists(name)
    assert listed(harness, picture(grant)) == []
    with pytest.raises(Erased):
        harness.reader().open(name)
    with pytest.raises(Erased):
        sink.assert_not_erased(grant)


def test_a_deleted_picture_of_an_erased_grant_is_erased(
    harness: RetentionHarness, grant: GrantId
) -> None:
    """A missing picture of any other grant is not found."""
    name = harness.sink().store(picture(grant))
    missing = str(name._replace(content="0" * 64))
    with pytest.raises(NotFound):
        harness.reader().open(missing)
    mark_erased(harness.eraser(), grant)
    with pytest.raises(Erased):
        harness.reader().open(missing)


def test_a_picture_without_its_key_does_not_open(harness: RetentionHarness, grant: GrantId) -> None:
    """Deleting the grant's key ends its pictures, although the objects still exist."""
    name = str(harness.sink().store(picture(grant)))
    for info in harness.eraser().list(key_prefix(grant)):
        harness.eraser().delete(info.name)
    assert harness.stack.store("images", Role.READER).exists(name)
    with pytest.raises(NotFound):
        harness.reader().open(name)


def test_pictures_open_after_a_rotation_of_the_master_key(
    harness: RetentionHarness, grant: GrantId
) -> None:
    """Old keys unwrap under their version, new grants use the new one."""
    sink = harness.sink()
    name = str(sink.store(picture(grant)))
    harness.keyring.rotate()
    harness.clock.now += CACHE_LIMIT_S
    sink.store(picture(grant, b"later"))
    assert harness.reader().open(name).plaintext == picture(grant).data
    assert [i.name for i in harness.eraser().list(key_prefix(grant))] == [f"{key_prefix(grant)}1"]
    other = GrantId(str(uuid.uuid4()))
    harness.vault().key(other)
    assert [i.name for i in harness.eraser().list(key_prefix(other))] == [f"{key_prefix(other)}2"]


def test_pictures_under_both_keys_of_a_grant_open(
    harness: RetentionHarness, grant: GrantId
) -> None:
    """Creators that raced across a rotation leave two keys: the commitment decides."""
    first = str(harness.sink().store(picture(grant)))
    harness.keyring.rotate()
    second_key = bytes(reversed(range(32)))
    wrapped = harness.keyring.wrap(second_key, grant.encode())
    vault = harness.stack.store("vault", Role.SINK)
    vault.create(key_prefix(grant) + wrapped.version, wrapped.raw, "application/octet-stream")
    name = str(name_of(picture(grant, b"second")))
    event = picture(grant)
    upload = upload_digest(event.lane, event.account, event.id)
    sealed = seal(
        b"second",
        context=Context(upload, Part.ORIGINAL, "image/png"),
        recipients=[GrantRecipient(grant, second_key, name)],
    )
    harness.stack.store("images", Role.SINK).create(name, sealed, "application/octet-stream")
    assert harness.reader().open(first).plaintext == picture(grant).data
    assert harness.reader().open(name).plaintext == b"second"


def test_a_picture_moved_to_another_name_does_not_open(
    harness: RetentionHarness, grant: GrantId
) -> None:
    name = harness.sink().store(picture(grant))
    raw = harness.stack.store("images", Role.READER).read(str(name), 10_000)
    moved = name._replace(upload_id=UploadId("018f3c4e-0000-7000-8000-000000000002"))
    harness.stack.store("images", Role.SINK).create(str(moved), raw, "application/octet-stream")
    with pytest.raises(SealBroken):
        harness.reader().open(str(moved))


def test_other_objects_are_not_listed_and_do_not_open(harness: RetentionHarness) -> None:
    stray = f"{uuid.uuid4()}/stray"
    harness.stack.store("images", Role.SINK).create(stray, b"", "text/plain")
    assert list(harness.reader().list(stray.partition("/")[0])) == []
    with pytest.raises(SealBroken):
        harness.reader().open(stray)
