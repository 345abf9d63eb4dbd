"""The contract of an object store, for the real client and for one in memory."""

import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import pytest

from erasestream.pipeline.devstack.gcs_emulator.object_files import ObjectFiles, Preconditions
from erasestream.schemas.errors import AlreadyExists, NotFound, SealBroken
from erasestream.sinks.buckets.access_policy import Role
from erasestream.sinks.buckets.object_store import ObjectInfo, ObjectStore

OCTETS = "application/octet-stream"
MiB = 1 << 20


class MemoryStore:
    """An `ObjectStore` in memory; the contract below keeps it honest."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def create(self, name: str, data: bytes, content_type: str) -> None:  # noqa: ARG002
        with self._lock:
            if name in self._objects:
                raise AlreadyExists
            self._objects[name] = data

    def read(self, name: str, max_bytes: int) -> bytes:
        if name not in self._objects:
            raise NotFound
        if len(self._objects[name]) > max_bytes:
            raise SealBroken
        return self._objects[name]

    def exists(self, name: str) -> bool:
        return name in self._objects

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        for name in sorted(self._objects):
            if name.startswith(prefix):
                yield ObjectInfo(name, len(self._objects[name]), datetime.now(UTC))

    def delete(self, name: str) -> None:
        with self._lock:
            if name not in self._objects:
                raise NotFound
            del self._objects[name]


class _Stack(Protocol):
    def store(self, bucket: str, role: Role) -> ObjectStore: ...


@pytest.fixture(params=["local server", "memory"])
def store(request: pytest.FixtureRequest) -> ObjectStore:
    """Each implementation, with every right."""
    if request.param == "memory":
        return MemoryStore()
    stack: _Stack = request.getfixturevalue("stack")
    return stack.store("open", Role.ROTATOR)


@pytest.fixture
def name() -> str:
    """Return a name that no other test uses."""
    return f"test/{uuid.uuid4()}"


@pytest.mark.parametrize("size", [0, 1, 100_000, 9 * MiB], ids=["empty", "1 B", "100 KB", "9 MiB"])
def test_a_created_object_is_read(store: ObjectStore, name: str, size: int) -> None:
    """Also above the size at which the client would open a session."""
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    store.create(name, data, OCTETS)
    assert store.read(name, size) == data
    assert store.exists(name)


def test_an_object_is_never_overwritten(store: ObjectStore, name: str) -> None:
    """A second creator gets an error, and the first one's bytes stay."""
    store.create(name, b"first", OCTETS)
    with pytest.raises(AlreadyExists):
        store.create(name, b"second", OCTETS)
    assert store.read(name, 100) == b"first"


def test_exactly_one_of_many_concurrent_creators_succeeds(store: ObjectStore, name: str) -> None:
    start = threading.Barrier(16)

    def create(number: int) -> int | None:
        start.wait()
        try:
            store.create(name, str(number).encode() * 50_000, OCTETS)
        except AlreadyExists:
            return None
        return number

    with ThreadPoolExecutor(16) as pool:
        winners = [n for n in pool.map(create, range(16)) if n is not None]
    assert len(winners) == 1
    assert store.read(name, MiB) == str(winners[0]).encode() * 50_000


def test_a_missing_object_is_not_found(store: ObjectStore, name: str) -> None:
    assert not store.exists(name)
    with pytest.raises(NotFound):
        store.read(name, 10)
    with pytest.raises(NotFound):
        store.delete(name)


def test_a_deleted_object_is_neither_read_nor_listed(store: ObjectStore, name: str) -> None:
    """Its name can be used again."""
    store.create(name, b"x", OCTETS)
    store.delete(name)
    assert not store.exists(name)
    assert list(store.list(name)) == []
    store.create(name, b"y", OCTETS)
    assert store.read(name, 1) == b"y"


def test_an_object_above_the_readers_limit_is_refused(store: ObjectStore, name: str) -> None:
    store.create(name, bytes(100_001), OCTETS)
    with pytest.raises(SealBroken):
        store.read(name, 100_000)


def test_listing_is_ordered_and_complete(store: ObjectStore, name: str) -> None:
    for number in (3, 1, 2):
        store.create(f"{name}/{number}", bytes(number), OCTETS)
    store.create(f"{name}.other", b"", OCTETS)
    before = datetime.now(UTC) - timedelta(minutes=1)
    listed = list(store.list(f"{name}/"))
    assert [each[:2] for each in listed] == [(f"{name}/{number}", number) for number in (1, 2, 3)]
    assert all(before < each.created < before + timedelta(hours=1) for each in listed)


@pytest.mark.parametrize(
    "odd", ["../../escape", "a/../b", "..", "/absolute", "grün ☃ %2F ?&#+", "x" * 900, "a//b", "~="]
)
def test_names_have_no_special_meaning(store: ObjectStore, name: str, odd: str) -> None:
    """Names that look like a path or an escape are stored unchanged."""
    store.create(f"{name}/{odd}", odd.encode(), OCTETS)
    assert store.read(f"{name}/{odd}", 10_000) == odd.encode()
    assert [info.name for info in store.list(f"{name}/")] == [f"{name}/{odd}"]


def test_a_listing_of_several_pages_is_complete(
    launch: Callable[[], _Stack], tmp_path: Path
) -> None:
    objects = ObjectFiles(tmp_path / "own" / "data" / "open", now=lambda: datetime.now(UTC))
    names = [f"many/{number:04}" for number in range(1_005)]
    for name in names:
        with closing(objects.begin_upload()) as upload:
            objects.publish(upload, name, OCTETS, Preconditions())
    store = launch().store("open", Role.ROTATOR)
    assert [info.name for info in store.list("many/")] == names


def test_objects_survive_a_restart(launch: Callable[[], _Stack], tmp_path: Path) -> None:
    """A killed server has every object that it acknowledged."""
    first = launch()
    first.store("open", Role.ROTATOR).create("kept/a", b"bytes", OCTETS)
    first.server.kill()  # type: ignore[attr-defined]
    again = launch().store("open", Role.ROTATOR)
    assert again.read("kept/a", 10) == b"bytes"
    with pytest.raises(AlreadyExists):
        again.create("kept/a", b"other", OCTETS)
    assert not any((tmp_path / "own" / "data" / "open" / "incoming").iterdir())
