"""From the sink to the reader: names, keys, markers, and whole pictures in between."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from erasestream.schemas.errors import (
    Erased,
    InvariantBroken,
    NotFound,
    Refused,
    SealBroken,
    Unavailable,
)
from erasestream.schemas.events.base import Position
from erasestream.schemas.events.images import Part, Retained
from erasestream.schemas.ids import AccountId, GrantId, Lane, UploadId
from erasestream.sinks.buckets.access_policy import Role
from erasestream.sinks.buckets.gcs import GcsObjectStore
from erasestream.sinks.images.envelope import seal
from erasestream.sinks.images.image_reader import RetainedReader
from erasestream.sinks.images.image_writer import EncryptionSink
from erasestream.sinks.images.object_names import ObjectNamer, StoredName
from erasestream.sinks.keys.key_vault import (
    CACHE_LIMIT_S,
    KeyVault,
    KeyVaultReader,
    key_prefix,
    mark_erased,
    marker_name,
)
from erasestream.sinks.keys.local_keyring import LocalKeyring

NAME_KEY = bytes(range(32))
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        """The time now."""
        return self.now


class RetentionHarness(NamedTuple):
    """Both buckets, the keyring and the clock of one test."""

    stack: Any
    keyring: LocalKeyring
    clock: Clock

    def vault(self) -> KeyVault:
        """The vault as a sink has it."""
        store = self.stack.store("vault", Role.SINK)
        return KeyVault(store=store, keyring=self.keyring, clock=self.clock)

    def sink(self, vault: KeyVault | None = None) -> EncryptionSink:
        """A sink with the sink's rights."""
        return EncryptionSink(
            store=self.stack.store("images", Role.SINK),
            vault=vault or self.vault(),
            name_key=NAME_KEY,
        )

    def reader(self) -> RetainedReader:
        """A reader with the reader's rights."""
        vault = KeyVaultReader(
            store=self.stack.store("vault", Role.READER), keyring=self.keyring, clock=self.clock
        )
        images = self.stack.store("images", Role.READER)
        return RetainedReader(store=images, vault=vault, clock=self.clock)

    def eraser(self) -> GcsObjectStore:
        """The vault as the eraser has it."""
        store: GcsObjectStore = self.stack.store("vault", Role.ERASER)
        return store


@pytest.fixture
def world(stack: Any, tmp_path: Path) -> RetentionHarness:
    """Shared buckets; grants, and so keys and objects, are each test's own."""
    return RetentionHarness(stack, LocalKeyring.create(tmp_path / "master"), Clock())


@pytest.fixture
def grant() -> GrantId:
    """A grant of this test's own."""
    return GrantId(str(uuid.uuid4()))


def picture(grant: GrantId, data: bytes = b"\x89PNG pixels", **changes: Any) -> Retained:
    """A retained picture."""
    values: dict[str, Any] = {
        "id": UploadId("018f3c4e-0000-7000-8000-000000000001"),
        "time": NOW,
        "lane": Lane("shop"),
        "account": AccountId(f"account-{grant}"),
        "part": Part.ORIGINAL,
        "grant": grant,
        "mark": "0/7",
        "position": Position(topic_id="A" * 22, partition=0, offset=7),
        "uploaded_at": NOW,
        "content_type": "image/png",
        "data": data,
    }
    return Retained(**values | changes)


def listed(world: RetentionHarness, event: Retained) -> list[str]:
    """The names that the reader sees of an event's owner."""
    owner = ObjectNamer(NAME_KEY).owner(event.lane, event.account)
    return [found.name for found in world.reader().list(owner)]


def test_a_retained_picture_comes_back_to_the_reader(
    world: RetentionHarness, grant: GrantId
) -> None:
    """What the sink stores is listed and opens with the reader's rights and no name key."""
    sink = world.sink()
    original, cutout = picture(grant), picture(grant, b"cut", part=Part.CUTOUT)
    names = {str(sink.store(event)): event for event in (original, cutout)}
    assert sorted(listed(world, original)) == sorted(names)
    for name, event in names.items():
        assert world.reader().open(name) == ("image/png", event.data)


def test_the_bucket_holds_nothing_in_clear(world: RetentionHarness, grant: GrantId) -> None:
    """Neither pixels nor account nor content type lie in the bucket's folder."""
    event = picture(grant, b"recognisable pixels" * 100)
    name = str(world.sink().store(event))
    folder = world.stack.settings.data
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(grant in path.name for path in files)
    for path in files:
        raw = path.read_bytes()
        assert b"recognisable" not in raw
        assert event.account.encode() not in raw
    assert event.account not in name
    assert b"image/png" in world.stack.store("images", Role.READER).read(name, 10_000)[:100]


def test_storing_again_is_success_and_stores_nothing_new(
    world: RetentionHarness, grant: GrantId
) -> None:
    """A replayed record finds its name taken, by another process too."""
    event = picture(grant)
    assert world.sink().store(event) == world.sink().store(event)
    assert len(listed(world, event)) == 1


def test_another_picture_has_another_name(world: RetentionHarness, grant: GrantId) -> None:
    """Same upload id, other bytes: the first one is not mistaken for it."""
    sink = world.sink()
    one, two = sink.store(picture(grant)), sink.store(picture(grant, b"other"))
    assert one.content != two.content
    assert world.reader().open(str(two)).plaintext == b"other"


def test_racing_sinks_agree_on_one_key(world: RetentionHarness, grant: GrantId) -> None:
    """Sixteen sinks that meet a grant first all seal under the same key."""
    vaults = [world.vault() for _ in range(16)]
    with ThreadPoolExecutor(16) as pool:
        keys = set(pool.map(lambda vault: vault.key(grant), vaults))
    assert len(keys) == 1
    assert len(list(world.eraser().list(key_prefix(grant)))) == 1


def test_a_key_lies_wrapped(world: RetentionHarness, grant: GrantId) -> None:
    """The vault's bucket does not hold a grant's key in clear, and not for another grant."""
    key = world.vault().key(grant)
    store = world.stack.store("vault", Role.READER)
    raw = store.read(f"{key_prefix(grant)}1", 10_000)
    assert key not in raw
    with pytest.raises(SealBroken):
        world.keyring.unwrap("1", raw, b"another")


def test_an_erased_grant_is_refused_at_once_by_who_asks(
    world: RetentionHarness, grant: GrantId
) -> None:
    """Once the marker stands nothing new is sealed, and a commit is told."""
    sink = world.sink()
    name = sink.store(picture(grant))
    mark_erased(world.eraser(), grant)
    mark_erased(world.eraser(), grant)
    with pytest.raises(Erased):
        sink.assert_not_erased(grant)
    with pytest.raises(Erased):
        sink.store(picture(grant, b"more"))
    assert listed(world, picture(grant)) == []
    with pytest.raises(Erased):
        world.reader().open(str(name))


def test_a_cached_key_is_used_for_five_seconds_at_most(
    world: RetentionHarness, grant: GrantId
) -> None:
    """A sink that does not ask notices the marker when its cache limit is over."""
    vault = world.vault()
    key = vault.key(grant)
    mark_erased(world.eraser(), grant)
    world.clock.now += CACHE_LIMIT_S - 0.01
    assert vault.key(grant) == key
    world.clock.now += 0.01
    with pytest.raises(Erased):
        vault.key(grant)


def test_a_grant_that_was_erased_before_its_first_use_gets_no_key(
    world: RetentionHarness, grant: GrantId
) -> None:
    """No key is made for what is erased already."""
    mark_erased(world.eraser(), grant)
    with pytest.raises(Erased):
        world.vault().key(grant)
    assert list(world.eraser().list(key_prefix(grant))) == []


class Slow(GcsObjectStore):
    """The sink's vault store, in which every question takes a while."""

    clock: Clock
    takes_s: float

    def exists(self, name: str) -> bool:
        """Ask, and have the answer later."""
        answer = super().exists(name)
        self.clock.now += self.takes_s
        return answer


def slow_vault(world: RetentionHarness, takes_s: float) -> KeyVault:
    """A vault that answers after so long."""
    store = world.stack.store("vault", Role.SINK)
    store.__class__ = Slow
    store.clock, store.takes_s = world.clock, takes_s
    return KeyVault(store=store, keyring=world.keyring, clock=world.clock)


def test_an_answer_ages_while_it_is_waited_for(world: RetentionHarness, grant: GrantId) -> None:
    """The five seconds begin before the question, so a slow vault hides no marker for longer."""
    world.vault().key(grant)
    vault = slow_vault(world, CACHE_LIMIT_S - 1)
    key = vault.key(grant)
    mark_erased(world.eraser(), grant)
    world.clock.now += 0.99
    assert vault.key(grant) == key
    world.clock.now += 0.01
    with pytest.raises(Erased):
        vault.key(grant)


def test_an_answer_that_is_too_old_when_it_comes_is_not_used(
    world: RetentionHarness, grant: GrantId
) -> None:
    """The marker may stand by now: the sink waits and asks again."""
    world.vault().key(grant)
    with pytest.raises(Unavailable, match="too slowly"):
        slow_vault(world, CACHE_LIMIT_S).key(grant)


class Interrupted(GcsObjectStore):
    """The sink's vault store, in which an eraser marks a grant right after a key is read."""

    grant: GrantId
    world: RetentionHarness

    def read(self, name: str, max_bytes: int) -> bytes:
        """Read, then lose the race."""
        raw = super().read(name, max_bytes)
        mark_erased(self.world.eraser(), self.grant)
        return raw


def test_a_marker_that_comes_between_key_and_use_is_seen(
    world: RetentionHarness, grant: GrantId
) -> None:
    """Key first, marker second: an erasure in between is never overlooked."""
    world.vault().key(grant)
    store = world.stack.store("vault", Role.SINK)
    store.__class__ = Interrupted
    store.grant, store.world = grant, world
    with pytest.raises(Erased):
        KeyVault(store=store, keyring=world.keyring, clock=world.clock).key(grant)


def test_without_its_key_a_picture_is_gone(world: RetentionHarness, grant: GrantId) -> None:
    """Deleting the grant's key ends its pictures, although the objects still lie there."""
    name = str(world.sink().store(picture(grant)))
    for info in world.eraser().list(key_prefix(grant)):
        world.eraser().delete(info.name)
    assert world.stack.store("images", Role.READER).exists(name)
    with pytest.raises(NotFound):
        world.reader().open(name)


def test_a_rotated_master_key_still_opens(world: RetentionHarness, grant: GrantId) -> None:
    """Old keys unwrap under their version, new grants use the new one."""
    sink = world.sink()
    name = str(sink.store(picture(grant)))
    world.keyring.rotate()
    world.clock.now += CACHE_LIMIT_S
    sink.store(picture(grant, b"later"))
    assert world.reader().open(name).plaintext == picture(grant).data
    assert [i.name for i in world.eraser().list(key_prefix(grant))] == [f"{key_prefix(grant)}1"]
    other = GrantId(str(uuid.uuid4()))
    world.vault().key(other)
    assert [i.name for i in world.eraser().list(key_prefix(other))] == [f"{key_prefix(other)}2"]


def test_two_keys_of_one_grant_both_open(world: RetentionHarness, grant: GrantId) -> None:
    """Creators that raced across a rotation left two keys: the commitment tells which."""
    first = str(world.sink().store(picture(grant)))
    world.keyring.rotate()
    second_key = bytes(reversed(range(32)))
    wrapped = world.keyring.wrap(second_key, grant.encode())
    vault = world.stack.store("vault", Role.SINK)
    vault.create(key_prefix(grant) + wrapped.version, wrapped.raw, "application/octet-stream")
    name = str(ObjectNamer(NAME_KEY).name(picture(grant, b"second")))
    sealed = seal(
        b"second",
        grant_key=second_key,
        grant=grant,
        part=Part.ORIGINAL,
        content_type="image/png",
        name=name,
    )
    world.stack.store("images", Role.SINK).create(name, sealed, "application/octet-stream")
    assert world.reader().open(first).plaintext == picture(grant).data
    assert world.reader().open(name).plaintext == b"second"


def test_an_object_under_a_wrong_name_does_not_open(
    world: RetentionHarness, grant: GrantId
) -> None:
    """Moving a sealed object to another upload's name is noticed."""
    name = world.sink().store(picture(grant))
    raw = world.stack.store("images", Role.READER).read(str(name), 10_000)
    moved = name._replace(upload_id=UploadId("018f3c4e-0000-7000-8000-000000000002"))
    world.stack.store("images", Role.SINK).create(str(moved), raw, "application/octet-stream")
    with pytest.raises(SealBroken):
        world.reader().open(str(moved))


def test_what_is_not_a_retained_picture_is_not_listed(world: RetentionHarness) -> None:
    """A stray object is left out of the listing and can not be opened."""
    stray = f"{uuid.uuid4()}/stray"
    world.stack.store("images", Role.SINK).create(stray, b"", "text/plain")
    assert list(world.reader().list(stray.partition("/")[0])) == []
    with pytest.raises(SealBroken):
        world.reader().open(stray)


def test_the_reader_creates_nothing(world: RetentionHarness, grant: GrantId) -> None:
    """The reader's side has neither the methods nor the rights."""
    vault = KeyVaultReader(
        store=world.stack.store("vault", Role.READER), keyring=world.keyring, clock=world.clock
    )
    with pytest.raises(NotFound):
        vault.keys(grant)
    assert not hasattr(vault, "key")
    with pytest.raises(Refused):
        mark_erased(world.stack.store("vault", Role.READER), grant)


def malformed() -> Iterator[str]:
    """Names that look nearly right."""
    good = StoredName(
        "a" * 64,
        GrantId("0" * 8 + "-0000-8000-8000-" + "0" * 12),
        UploadId("018f3c4e-0000-7000-8000-000000000001"),
        Part.CUTOUT,
        "b" * 64,
    )
    text = str(good)
    assert StoredName.parse(text) == good
    yield from ("", text[1:], text + "0", text.upper(), text.replace("/", "."), text + "/x")
    yield from (text.replace("cutout", "mask"), text.replace("018f", "018F"), f"{text}\n")


@pytest.mark.parametrize("name", malformed())
def test_only_canonical_names_are_names(name: str) -> None:
    """A name has one spelling."""
    with pytest.raises(SealBroken):
        StoredName.parse(name)


def test_names_hide_their_owner_without_the_key() -> None:
    """Another name key gives other names; lane and account can not be run together."""
    one, other = ObjectNamer(bytes(32)), ObjectNamer(bytes([1]) * 32)
    lane, account = Lane("shop"), AccountId("a")
    assert one.owner(lane, account) != other.owner(lane, account)
    assert one.owner(Lane("sho"), AccountId("pa")) != one.owner(lane, account)
    with pytest.raises(InvariantBroken):
        ObjectNamer(b"short")


@pytest.mark.parametrize("text", ["", "../keys", "0" * 36])
def test_only_grants_have_keys_and_markers(text: str) -> None:
    """What is no grant's id never becomes a name in the vault."""
    with pytest.raises(InvariantBroken):
        key_prefix(GrantId(text))
    with pytest.raises(InvariantBroken):
        marker_name(GrantId(text))
