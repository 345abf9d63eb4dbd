"""Deletion of keys and objects in real buckets: complete, remembered, and repeatable."""

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress

import pytest

from erasestream.schemas.errors import Code, Erased, Unavailable
from erasestream.schemas.events.ledger import MAX_MASTERS, OTHERS
from erasestream.schemas.ids import GrantId, new_upload_id
from erasestream.sinks.buckets.access_policy import Role
from erasestream.sinks.buckets.object_store import ObjectStore
from erasestream.sinks.images import deletion as deletion_module
from erasestream.sinks.images.deletion import Deleted, Found, GrantDeletion
from erasestream.sinks.images.object_names import ObjectNamer
from erasestream.sinks.keys.key_vault import CACHE_LIMIT_S, OCTETS, key_prefix, mark_erased
from erasestream.sinks.log.merkle import EMPTY_ROOT, fold, leaf_hash
from tests.sinks.conftest import code_of
from tests.sinks.mortal_store import Killed, Lives, MortalStore
from tests.sinks.retention_harness import NAME_KEY, RetentionHarness, picture

EMPTY = Found(0, 0)
SINKS = 4


def owner(grant: GrantId) -> str:
    event = picture(grant)
    return ObjectNamer(NAME_KEY).owner(event.lane, event.account)


def store(harness: RetentionHarness, grant: GrantId, count: int) -> list[str]:
    """Store pictures under a grant; return their names."""
    sink = harness.sink()
    events = [picture(grant, id=new_upload_id(n, bytes(10))) for n in range(count)]
    return [str(sink.store(event)) for event in events]


def deletion(
    harness: RetentionHarness, wrap: Callable[[ObjectStore], ObjectStore] = lambda store: store
) -> GrantDeletion:
    """Return a deletion as the eraser."""
    vault, images = (harness.stack.store(name, Role.ERASER) for name in ("vault", "images"))
    return GrantDeletion(vault=wrap(vault), images=wrap(images), stopping=threading.Event())


def expected(names: list[str]) -> Deleted:
    """Return what a receipt must say of these objects."""
    digests = sorted(hashlib.sha256(name.encode()).digest() for name in names)
    root = fold([leaf_hash(each) for each in digests]) if digests else EMPTY_ROOT
    return Deleted(("1",), len(names), root.hex())


def is_gone(harness: RetentionHarness, grant: GrantId) -> bool:
    """Return whether neither bucket has a key or an object of the grant, as the auditor sees."""
    vault, images = (harness.stack.store(name, Role.AUDITOR) for name in ("vault", "images"))
    return not [*vault.list(key_prefix(grant)), *images.list(f"{owner(grant)}/{grant}/")]


def test_all_keys_and_objects_go_and_are_counted(harness: RetentionHarness, grant: GrantId) -> None:
    """Those of another grant of the same owner stay."""
    other = GrantId(new_upload_id(7, bytes(10)))
    names = store(harness, grant, 3)
    store(harness, other, 1)
    mark_erased(harness.eraser(), grant)
    with closing(deletion(harness)) as eraser:
        assert eraser.delete(grant, owner(grant)) == Found(keys=1, objects=3)
        assert eraser.delete(grant, owner(grant)) == EMPTY
        assert eraser.deleted(grant) == expected(names)
    assert is_gone(harness, grant)
    assert not is_gone(harness, other)


def test_keys_that_no_entry_can_list_are_deleted_as_well(
    harness: RetentionHarness, grant: GrantId
) -> None:
    """And are called others: names of no version, which may be longer than a note's, and many."""
    names = [*map(str, range(1, MAX_MASTERS + 1)), "no version", "a" * 980]
    sink = harness.stack.store("vault", Role.SINK)
    for name in names:
        sink.create(key_prefix(grant) + name, b"key", OCTETS)
    mark_erased(harness.eraser(), grant)
    with closing(deletion(harness)) as eraser:
        assert eraser.delete(grant, owner(grant)) == Found(keys=len(names), objects=0)
        listed = eraser.deleted(grant).keys
    assert is_gone(harness, grant)
    assert (len(listed), listed[-1]) == (MAX_MASTERS, OTHERS)
    assert set(listed[:-1]) < set(names)


def test_one_key_of_no_version_is_called_another(harness: RetentionHarness, grant: GrantId) -> None:
    store(harness, grant, 1)
    sink = harness.stack.store("vault", Role.SINK)
    sink.create(f"{key_prefix(grant)}no version", b"key", OCTETS)
    mark_erased(harness.eraser(), grant)
    with closing(deletion(harness)) as eraser:
        eraser.delete(grant, owner(grant))
        assert set(eraser.deleted(grant).keys) == {"1", OTHERS}


def test_a_grant_under_which_nothing_was_kept(harness: RetentionHarness, grant: GrantId) -> None:
    mark_erased(harness.eraser(), grant)
    with closing(deletion(harness)) as eraser:
        assert eraser.delete(grant, owner(grant)) == EMPTY
        assert eraser.deleted(grant) == Deleted((), 0, EMPTY_ROOT.hex())


def test_killed_at_any_operation(harness: RetentionHarness, grant: GrantId) -> None:
    """The next eraser deletes the rest, and knows of all that was deleted."""
    lives, is_killed = 0, True
    while is_killed:
        lives += 1
        killed = GrantId(new_upload_id(lives, grant.encode()[:10]))
        names = store(harness, killed, 2)
        mark_erased(harness.eraser(), killed)
        left = Lives(lives)
        with closing(deletion(harness, lambda s, left=left: MortalStore(s, left))) as first:
            try:
                first.delete(killed, owner(killed))
                is_killed = False
            except Killed:
                is_killed = True
        with closing(deletion(harness)) as second:
            while second.delete(killed, owner(killed)) != EMPTY:
                pass
            assert second.deleted(killed) == expected(names)
        assert is_gone(harness, killed)
    assert lives > 6


@pytest.mark.parametrize("lives", [4, 9, 1000])
def test_two_erasers_at_once(harness: RetentionHarness, grant: GrantId, lives: int) -> None:
    """Each deletes what it finds, one may be killed, and the notes have all of it once."""
    names = store(harness, grant, 20)
    mark_erased(harness.eraser(), grant)
    left = Lives(lives)

    def delete(eraser: GrantDeletion) -> None:
        with suppress(Killed):
            while eraser.delete(grant, owner(grant)) != EMPTY:
                pass

    with (
        closing(deletion(harness, lambda s: MortalStore(s, left))) as mortal,
        closing(deletion(harness)) as other,
        ThreadPoolExecutor(2) as pool,
    ):
        list(pool.map(delete, [mortal, other]))
        assert other.deleted(grant) == expected(names)
    assert is_gone(harness, grant)


def test_a_stopping_eraser_deletes_no_more(harness: RetentionHarness, grant: GrantId) -> None:
    store(harness, grant, 1)
    stopping = threading.Event()
    vault, images = (harness.stack.store(name, Role.ERASER) for name in ("vault", "images"))
    with closing(GrantDeletion(vault=vault, images=images, stopping=stopping)) as eraser:
        stopping.set()
        with pytest.raises(Unavailable):
            eraser.delete(grant, owner(grant))
    assert not is_gone(harness, grant)


@pytest.mark.parametrize("lives", [5, 12])
def test_racing_sinks_leave_nothing(harness: RetentionHarness, grant: GrantId, lives: int) -> None:
    """Sinks store at full speed until they see the marker; an eraser is killed meanwhile."""
    begun = threading.Barrier(SINKS + 1)

    def store_until_erased(number: int) -> list[str]:
        sink, names = harness.sink(), list[str]()
        while True:
            event = picture(grant, id=new_upload_id(len(names), bytes([number] * 10)))
            try:
                names.append(str(sink.store(event)))
                if len(names) == 1:
                    begun.wait()
                sink.assert_not_erased(grant)
            except Erased:
                return names

    left = Lives(lives)
    with ThreadPoolExecutor(SINKS) as pool:
        stored = [pool.submit(store_until_erased, number) for number in range(SINKS)]
        begun.wait()
        mark_erased(harness.eraser(), grant)
        with closing(deletion(harness, lambda s: MortalStore(s, left))) as first, suppress(Killed):
            while True:
                first.delete(grant, owner(grant))
        names = [name for each in stored for name in each.result()]
    with closing(deletion(harness)) as second:
        while second.delete(grant, owner(grant)) != EMPTY:
            pass
        assert second.deleted(grant) == expected(names)
    assert code_of(lambda: harness.vault().key(grant)) is Code.ERASED
    assert is_gone(harness, grant)


def test_a_sink_that_was_stopped_creates_no_key(
    harness: RetentionHarness, grant: GrantId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It saw that there is no marker, and goes on when keys and objects are already deleted."""
    vault = harness.vault()
    wrap = harness.keyring.wrap

    def stop_before(key: bytes, context: bytes) -> object:
        harness.clock.now += CACHE_LIMIT_S
        mark_erased(harness.eraser(), grant)
        return wrap(key, context)

    monkeypatch.setattr(harness.keyring, "wrap", stop_before)
    with pytest.raises(Unavailable):
        vault.key(grant)
    assert is_gone(harness, grant)
    assert code_of(lambda: vault.key(grant)) is Code.ERASED


def test_a_page_at_a_time(
    harness: RetentionHarness, grant: GrantId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A grant with many objects is not deleted in one go, so that others have their turns."""
    monkeypatch.setattr(deletion_module, "MAX_OBJECTS", 2)
    names = store(harness, grant, 3)
    mark_erased(harness.eraser(), grant)
    with closing(deletion(harness)) as eraser:
        assert eraser.count(grant, owner(grant)) == 3
        assert eraser.delete(grant, owner(grant)).objects == 2
        assert eraser.delete(grant, owner(grant)).objects == 1
        assert eraser.deleted(grant) == expected(names)
