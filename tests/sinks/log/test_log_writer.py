"""A log has each receipt once, whichever writer is killed, at whichever step."""

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from erasestream.schemas.errors import AlreadyExists, InvariantBroken, NotFound, ProofRefused
from erasestream.sinks.buckets.access_policy import Role
from erasestream.sinks.buckets.folder_store import FolderStore
from erasestream.sinks.buckets.object_store import ObjectStore
from erasestream.sinks.log.log_objects import COSIGNATURES, LogObjects
from erasestream.sinks.log.log_reader import LogReader, new_leaves, prove, verify_growth
from erasestream.sinks.log.log_writer import LogWriter
from erasestream.sinks.log.receipt_ids import PACK, ReceiptIds, id_of
from tests.bucket_settings import OPEN
from tests.sinks.conftest import Stack
from tests.sinks.log.sample_log import AUDITOR, KEY, STRANGER, signed


def leaf(number: int) -> bytes:
    return json.dumps({"id": str(uuid.UUID(int=number)), "n": number}).encode()


def leaves(start: int, end: int) -> list[bytes]:
    return [leaf(n) for n in range(start, end)]


def content(store: ObjectStore) -> list[bytes]:
    """Return all leaves, after verifying the newest checkpoint and its tiles."""
    newest = LogReader(store, KEY.public).newest()
    return list(new_leaves(None, newest)) if newest else []


class Killed(BaseException):
    """The process ends here."""


class FailingStore(FolderStore):
    """A folder whose user is killed before or after the operation of this number."""

    def __init__(self, folder: Path, *, at: int, is_done: bool) -> None:
        super().__init__(folder)
        self._operations = iter(range(at, -1, -1))
        self._is_done = is_done
        self._lock = threading.Lock()

    def create(self, name: str, data: bytes, content_type: str) -> None:
        with self._lock:
            left = next(self._operations, 0)
            if left or self._is_done:
                super().create(name, data, content_type)
            if not left:
                raise Killed


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "log")


def test_leaves_are_appended_once_and_positions_kept(store: FolderStore) -> None:
    writer = LogWriter(store=store, key=KEY)
    assert writer.append(leaves(0, 3), {"ledger/0": 3})
    assert writer.append([leaf(2), leaf(3), leaf(3)], {"ledger/0": 5})
    assert writer.append([leaf(0)], {"ledger/0": 6})
    assert content(store) == leaves(0, 4)
    successor = LogWriter(store=store, key=KEY)
    assert (successor.size, successor.positions) == (4, {"ledger/0": 5})
    assert successor.append([leaf(1), leaf(4)], {"ledger/0": 7})
    assert content(store) == leaves(0, 5)


def test_of_the_leaves_of_a_receipt_the_first_counts(store: FolderStore) -> None:
    """Two erasers that end an erasure at once each write when they saw that all is gone."""
    first, second = (json.dumps({"id": str(uuid.UUID(int=1)), "n": n}).encode() for n in (1, 2))
    writer = LogWriter(store=store, key=KEY)
    assert writer.append([first, second, leaf(3)], {})
    assert writer.append([second], {})
    assert content(store) == [first, leaf(3)]


@pytest.mark.parametrize("is_done", [False, True])
def test_a_kill_at_any_step_loses_and_repeats_nothing(tmp_path: Path, is_done: bool) -> None:
    killed = 0
    for at in range(30):
        folder = tmp_path / str(at)
        LogWriter(store=FolderStore(folder), key=KEY).append(leaves(0, 254), {"ledger/0": 254})
        try:
            writer = LogWriter(store=FailingStore(folder, at=at, is_done=is_done), key=KEY)
            writer.append(leaves(254, 258), {"ledger/0": 258})
        except Killed:
            killed += 1
        before = content(FolderStore(folder))
        assert before in (leaves(0, 254), leaves(0, 258))
        successor = LogWriter(store=FolderStore(folder), key=KEY)
        position = successor.positions["ledger/0"]
        assert position in {254, 258}
        assert successor.append(leaves(position, 260), {"ledger/0": 260})
        assert content(FolderStore(folder)) == leaves(0, 260)
        if at >= killed:
            break
    assert killed > 5


def test_two_writers_at_once_repeat_and_lose_nothing(store: FolderStore) -> None:
    """Both read the same source, each from where the log is."""

    def run() -> None:
        writer = LogWriter(store=store, key=KEY)
        while (start := writer.positions.get("ledger/0", 0)) < 60:
            end = min(start + 7, 60)
            writer.append(leaves(start, end), {"ledger/0": end})

    threads = [threading.Thread(target=run) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert content(store) == leaves(0, 60)


def test_a_writer_that_lost_a_race_has_signed_nothing(store: FolderStore) -> None:
    first, second = (LogWriter(store=store, key=KEY) for _ in range(2))
    assert first.append([leaf(1)], {"ledger/0": 1})
    assert not second.append([leaf(2)], {"ledger/0": 1})
    assert second.positions == {"ledger/0": 1}
    assert content(store) == [leaf(1)]
    assert second.append([leaf(2)], {"ledger/0": 2})
    assert content(store) == leaves(1, 3)


def test_a_log_of_another_key_or_with_other_tiles_is_not_continued(store: FolderStore) -> None:
    LogWriter(store=store, key=KEY).append(leaves(0, 3), {})
    with pytest.raises(ProofRefused):
        LogWriter(store=store, key=STRANGER)
    for name in ("log/tile/0/000.p/3", "log/tile/entries/000.p/3"):
        raw = store.read(name, 10_000)
        store.delete(name)
        store.create(name, raw.replace(raw[-3:], b"bad"), "")
        with pytest.raises((ProofRefused, InvariantBroken)):
            LogWriter(store=store, key=KEY)
        store.delete(name)
        store.create(name, raw, "")
    assert LogWriter(store=store, key=KEY).size == 3


def test_the_ids_of_full_packs_are_read_without_their_leaves(store: FolderStore) -> None:
    writer = LogWriter(store=store, key=KEY)
    for start in range(0, PACK + 904, 1000):
        writer.append(leaves(start, start + 1000), {})
    newest = LogReader(store, KEY.public).newest()
    assert newest is not None
    assert newest.checkpoint.size == 5000
    store.delete("log/tile/entries/000")
    ids = LogReader(store, KEY.public).ids(newest)
    for index in (0, 1, PACK - 1, PACK, 4999):
        assert ids.find(id_of(leaf(index))) == index
    assert ids.find(id_of(leaf(5000))) is None


def test_ids_with_the_same_end_are_distinguished() -> None:
    ids, numbers = ReceiptIds(), [n << 16 for n in range(300)]
    list(ids.add(map(leaf, numbers)))
    assert [ids.find(id_of(leaf(n << 16))) for n in (0, 299, 300)] == [0, 299, None]


def test_growth_is_verified_from_the_tiles(store: FolderStore) -> None:
    writer, reader = LogWriter(store=store, key=KEY), LogReader(store, KEY.public)
    grown = []
    for size in (3, 300, 301):
        writer.append(leaves(0, size), {})
        newest = reader.newest()
        assert newest is not None
        grown.append(newest)
    verify_growth(grown[0].checkpoint, grown[2])
    with pytest.raises(ProofRefused, match="rewound from 301 leaves to 300"):
        verify_growth(grown[2].checkpoint, grown[1])
    with pytest.raises(ProofRefused, match="no continuation"):
        verify_growth(grown[1].checkpoint._replace(root=bytes(32)), grown[2])


def test_a_proof_is_of_the_newest_checkpoint_that_was_cosigned(store: FolderStore) -> None:
    writer, reader = LogWriter(store=store, key=KEY), LogReader(store, KEY.public)
    assert reader.newest() is None
    writer.append(leaves(0, 5), {})
    first = reader.newest()
    assert first is not None
    assert reader.newest(AUDITOR.public) is None
    LogObjects(store).create(f"{COSIGNATURES}{first.name}", signed(first.checkpoint))
    writer.append(leaves(5, 9), {})
    cosigned = reader.newest(AUDITOR.public)
    assert cosigned is not None
    assert cosigned.checkpoint.size == 5
    proof = prove(cosigned, 4, log=KEY.public)
    assert proof.verify(leaf(4), KEY.public, AUDITOR.public).checkpoint.size == 5


@pytest.fixture
def open_bucket(stack: Stack) -> Iterator[Callable[[], ObjectStore]]:
    opened = []

    def start() -> ObjectStore:
        opened.append(stack.store(OPEN, Role.ROTATOR))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


def test_a_bucket_is_as_good_as_a_folder(open_bucket: Callable[[], ObjectStore]) -> None:
    writers = [LogWriter(store=open_bucket(), key=KEY) for _ in range(2)]
    assert writers[0].append(leaves(0, 300), {"ledger/0": 300})
    assert not writers[1].append(leaves(0, 5), {"ledger/0": 5})
    assert writers[1].append(leaves(300, 303), {"ledger/0": 303})
    assert content(open_bucket()) == leaves(0, 303)


def test_a_folder_creates_once_lists_in_order_and_refuses_other_paths(store: FolderStore) -> None:
    store.create("b/2", b"two", "")
    store.create("b/1", b"one", "")
    with pytest.raises(AlreadyExists):
        store.create("b/1", b"other", "")
    assert (store.read("b/1", 3), store.exists("b/1"), store.exists("b/3")) == (b"one", True, False)
    assert [each.name for each in store.list("b/")] == ["b/1", "b/2"]
    assert [each.name for each in store.list("b/2")] == ["b/2"]
    assert list(store.list("c/")) == []
    store.delete("b/1")
    for action in (store.delete, lambda name: store.read(name, 9)):
        with pytest.raises(NotFound):
            action("b/1")
    for name in ("../x", "/x", "a//b", "a/./b"):
        with pytest.raises(InvariantBroken):
            store.create(name, b"", "")
