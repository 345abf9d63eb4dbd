"""Deletion of single uploads in real buckets, and tombstones that sinks and readers see."""

import hashlib
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, datetime

import pytest

from erasestream.schemas.errors import Code, Erased, Unavailable
from erasestream.schemas.events.images import Part
from erasestream.schemas.ids import GrantId, UploadId, new_upload_id
from erasestream.sinks.buckets.access_policy import Role
from erasestream.sinks.buckets.object_store import ObjectInfo
from erasestream.sinks.images.deletion import objects_root
from erasestream.sinks.images.object_names import ObjectNamer
from erasestream.sinks.images.upload_deletion import DeletedUpload, KeptUpload, UploadDeletion
from erasestream.sinks.keys import erased_uploads
from erasestream.sinks.keys.erased_uploads import ErasedUploads
from erasestream.sinks.keys.key_vault import CACHE_LIMIT_S
from erasestream.sinks.log.merkle import EMPTY_ROOT
from tests.sinks.conftest import code_of
from tests.sinks.mortal_store import Killed, Lives, MortalStore
from tests.sinks.retention_harness import (
    NAME_KEY,
    ManualClock,
    RetentionHarness,
    listed,
    picture,
)

SINKS = 4
NOW = datetime(2026, 11, 30, tzinfo=UTC)


def kept(grant: GrantId, upload: str) -> KeptUpload:
    event, namer = picture(grant), ObjectNamer(NAME_KEY)
    return KeptUpload(
        namer.owner(event.lane, event.account),
        namer.upload_id(event.lane, event.account, UploadId(upload)),
    )


class MortalFolders(MortalStore):
    """One of the stores, whose folders can be listed."""

    def folders(self, prefix: str) -> list[str]:
        return self._lives.spend(lambda: [*self._store.folders(prefix)])


def deletion(harness: RetentionHarness, lives: Lives | None = None) -> UploadDeletion:
    """Return a deletion as the eraser, which is killed after so many operations."""
    vault, images = (
        MortalFolders(harness.stack.store(name, Role.ERASER), lives or Lives())
        for name in ("vault", "images")
    )
    return UploadDeletion(vault=vault, images=images, stopping=threading.Event())


def expected(names: list[str]) -> DeletedUpload:
    digests = {hashlib.sha256(name.encode()).digest() for name in names}
    return DeletedUpload(len(digests), objects_root(digests))


@pytest.mark.parametrize("upload", [str(new_upload_id(1, bytes(10))), "listing/4711 é"])
def test_both_parts_go_under_all_grants(
    harness: RetentionHarness, grant: GrantId, upload: str
) -> None:
    """Of this upload alone, whatever form its id has; it is not stored again."""
    sink, account = harness.sink(), picture(grant).account
    events = [
        picture(each, id=UploadId(upload), part=part, account=account)
        for each in (grant, GrantId(str(uuid.uuid4())))
        for part in Part
    ]
    names = [str(sink.store(event)) for event in events]
    neighbour = picture(grant, id=UploadId(f"{upload}0"))
    left = str(sink.store(neighbour))
    eraser, erased = deletion(harness), kept(grant, upload)
    assert eraser.deleted(erased) == DeletedUpload(0, EMPTY_ROOT.hex())
    eraser.mark(erased)
    eraser.mark(erased)
    assert eraser.delete(erased) == 4
    assert eraser.delete(erased) == 0
    assert eraser.deleted(erased) == expected(names)
    assert listed(harness, picture(grant)) == [left]
    assert code_of(lambda: harness.sink().store(events[0])) is Code.ERASED
    harness.sink().store(neighbour)
    with pytest.raises(Erased):
        harness.reader().open(names[0])
    harness.reader().open(left)


def test_a_cached_answer_lasts_as_long_as_a_cached_key(
    harness: RetentionHarness, grant: GrantId
) -> None:
    """Until then a put may begin; after that it is dropped."""
    sink, event = harness.sink(), picture(grant)
    sink.store(event)
    deletion(harness).mark(kept(grant, event.id))
    sink.store(picture(grant, part=Part.CUTOUT))
    harness.clock.now += CACHE_LIMIT_S
    assert code_of(lambda: sink.store(event)) is Code.ERASED


def test_a_reader_skips_what_it_has_fetched(harness: RetentionHarness, grant: GrantId) -> None:
    """It is counted as erased, before its object is deleted and after."""
    sink, uploads = harness.sink(), [new_upload_id(n, bytes(10)) for n in range(2)]
    for upload in uploads:
        sink.store(picture(grant, id=upload))
    owner = kept(grant, uploads[0]).owner
    pictures = harness.reader().pictures()
    found = (each for each in pictures if each.name.startswith(owner))
    assert next(found).upload_id == uploads[0]
    deletion(harness).mark(kept(grant, uploads[1]))
    harness.clock.now += CACHE_LIMIT_S
    assert list(found) == []
    assert pictures.counts["erased"] == 1
    assert [each.upload_id for each in harness.reader().list(owner)] == uploads[:1]


@pytest.mark.parametrize("lives", range(1, 9))
def test_killed_at_any_operation(harness: RetentionHarness, grant: GrantId, lives: int) -> None:
    """The next eraser deletes the rest, and knows of all that was deleted."""
    upload = new_upload_id(lives, bytes(10))
    names = [str(harness.sink().store(picture(grant, id=upload, part=part))) for part in Part]
    first, erased = deletion(harness, Lives(lives)), kept(grant, upload)
    with suppress(Killed):
        first.mark(erased)
        first.delete(erased)
    second = deletion(harness)
    second.mark(erased)
    while second.delete(erased):
        pass
    assert second.deleted(erased) == expected(names)


@pytest.mark.parametrize("lives", [3, 6])
def test_racing_sinks_leave_nothing(harness: RetentionHarness, grant: GrantId, lives: int) -> None:
    """Sinks store one upload at full speed until they see its tombstone; an eraser is killed."""
    upload, begun = new_upload_id(lives, bytes(9) + b"r"), threading.Barrier(SINKS + 1)
    erased, clock = kept(grant, upload), harness.clock

    def store_until_erased(number: int) -> list[str]:
        sink, names = harness.sink(), list[str]()
        while True:
            try:
                data = f"\x89PNG {number} {len(names)}".encode()
                names.append(str(sink.store(picture(grant, data, id=upload))))
                if len(names) == 1:
                    begun.wait()
            except Erased:
                return names
            except Unavailable:  # the clock was moved in between
                continue

    with ThreadPoolExecutor(SINKS) as pool:
        stored = [pool.submit(store_until_erased, number) for number in range(SINKS)]
        begun.wait()
        with suppress(Killed):
            first = deletion(harness, Lives(lives))
            first.mark(erased)
            while True:
                first.delete(erased)
        clock.now += CACHE_LIMIT_S
        names = [name for each in stored for name in each.result()]
    second = deletion(harness)
    while second.delete(erased):
        pass
    assert second.deleted(erased) == expected(names)
    assert listed(harness, picture(grant)) == []


class Tombstones:
    """A vault with so many tombstones."""

    def __init__(self, names: list[str]) -> None:
        self.names, self.lists, self.looks = names, 0, 0

    def list(self, prefix: str) -> list[ObjectInfo]:
        self.lists += 1
        return [ObjectInfo(name, 0, NOW) for name in sorted(self.names) if name.startswith(prefix)]

    def exists(self, name: str) -> bool:
        self.looks += 1
        return name in self.names

    def read(self, name: str, max_bytes: int) -> bytes:
        raise NotImplementedError


def test_many_tombstones_of_an_owner_are_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """From a page on, each upload is asked about; of others the answer is cached."""
    monkeypatch.setattr(erased_uploads, "MANY", 3)
    clock, uploads = ManualClock(), [new_upload_id(n, bytes(10)) for n in range(4)]
    names = [erased_uploads.tombstone_name("many", each) for each in uploads[:3]]
    store = Tombstones([*names, erased_uploads.tombstone_name("few", uploads[0])])
    known = ErasedUploads(store=store, limit_s=5, clock=clock, most=2)
    for _ in range(2):
        known.assert_kept("few", uploads[1])
        known.assert_kept("many", uploads[3])
        with pytest.raises(Erased):
            known.assert_kept("many", uploads[2])
        with pytest.raises(Erased):
            known.assert_kept("few", uploads[0])
    assert (store.lists, store.looks) == (2, 4)
    clock.now += 5
    known.assert_kept("few", uploads[1])
    known.assert_kept("many", uploads[3])
    assert store.lists == 3


@pytest.mark.parametrize("age_s", [0, 2.4, 2.6, 4.9, 4.99])
def test_an_answer_is_never_about_to_expire(age_s: float) -> None:
    """The put that begins with it has half of the limit, however old the cached answer is."""
    clock, upload = ManualClock(), new_upload_id(1, bytes(10))
    known = ErasedUploads(store=Tombstones([]), limit_s=CACHE_LIMIT_S, clock=clock)
    known.assert_kept("owner", upload)
    clock.now += age_s
    since_s = known.assert_kept("owner", upload)
    clock.now += 2.4
    known.assert_recent(since_s)


def test_an_answer_that_took_too_long_is_none(harness: RetentionHarness) -> None:
    """It may be out of date by now."""

    class Slow(Tombstones):
        def list(self, prefix: str) -> list[ObjectInfo]:
            harness.clock.now += CACHE_LIMIT_S
            return super().list(prefix)

    known = ErasedUploads(store=Slow([]), limit_s=CACHE_LIMIT_S, clock=harness.clock)
    with pytest.raises(Unavailable) as caught:
        known.assert_kept("owner", new_upload_id(1, bytes(10)))
    assert caught.value.code is Code.BUCKET_UNAVAILABLE


def test_folders_are_listed_page_by_page(
    harness: RetentionHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each once, however many objects it has."""
    monkeypatch.setattr("erasestream.sinks.buckets.gcs.PAGE", 2)
    with closing(harness.stack.store("images", Role.SINK)) as images:
        for n in range(5):
            for m in range(3):
                images.create(f"{'f' * 64}/g{n}/{m}", b"", "text/plain")
        images.create(f"{'f' * 64}/no-folder", b"", "text/plain")
    with closing(harness.stack.store("images", Role.ERASER)) as images:
        assert list(images.folders(f"{'f' * 64}/")) == [f"g{n}" for n in range(5)]
