"""An erasure from the recorded revocation: until nothing opens, and until all is gone.

Broker, local bucket and eraser are processes of their own, and share the cores.  A reader has
opened a picture, and a sink has the grant's key in its cache.

BENCH_OBJECTS and BENCH_ROUNDS make it smaller, for a trial.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

import psutil

from erasestream.pipeline.bootstrap.keyring import open_keyring
from erasestream.pipeline.bootstrap.storage import (
    open_images,
    open_vault,
    retained_reader,
    storage_of,
)
from erasestream.pipeline.devstack.stack import Stack
from erasestream.pipeline.settings import load
from erasestream.schemas.errors import Erased
from erasestream.schemas.events.base import Position
from erasestream.schemas.events.consent import Channel
from erasestream.schemas.events.images import Part, Retained
from erasestream.schemas.ids import AccountId, GrantId, UploadId, new_upload_id
from erasestream.sinks.images.image_reader import RetainedReader
from erasestream.sinks.images.image_writer import EncryptionSink
from erasestream.sinks.images.object_names import NAME_KEY_BYTES
from erasestream.sinks.keys.key_vault import KeyVault
from erasestream.sinks.secret_file import read_secret
from erasestream.topics.catalog.roles import SINK, LaneRole, lane_role
from erasestream.topics.consent.account_erasures import AccountErasures
from erasestream.topics.consent.writer import ConsentWriter
from erasestream.topics.kafka.connection import Connection
from tests.bench.figures import Figure, figure
from tests.bench.running_pipeline import SHOP, start
from tests.bench.servers import servers

OBJECTS = int(os.environ.get("BENCH_OBJECTS", "10000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
OWNER: Mapping[str, Any] = {"actor": "owner", "channel": Channel.LIBRARY}
THREADS = 16
POLL_S = 0.05
DEADLINE_S = 300.0
NOW = datetime(2026, 11, 30, tzinfo=UTC)


class Round(NamedTuple):
    """One erasure: seconds since its revocation, and processor time for each object."""

    keys_gone_s: float
    objects_s: float
    eraser_ms: float
    bucket_ms: float


def measure() -> Iterator[Figure]:
    """Measure one erasure after the other, and the end of the last one."""
    with servers() as stack:
        start(stack, ["erase"])
        with _bench(stack) as bench:
            rounds = [bench.erase(AccountId(f"bench-{n}")) for n in range(ROUNDS)]
            ended_s = bench.ended_s()
    yield figure("erasure.keys_gone_s", [each.keys_gone_s for each in rounds], "s", at_most=10)
    yield figure("erasure.objects_10k_s", [each.objects_s for each in rounds], "s", at_most=60)
    yield figure("erasure.eraser_ms_per_object", [each.eraser_ms for each in rounds], "ms")
    yield figure("erasure.bucket_ms_per_object", [each.bucket_ms for each in rounds], "ms")
    yield figure("erasure.ended_s", [ended_s], "s")


@contextmanager
def _bench(stack: Stack) -> Iterator["_Bench"]:
    settings = load(stack.files.settings)
    storage = storage_of(settings)
    connection = Connection(cluster=settings.cluster, role=lane_role(SHOP, LaneRole.ACCOUNT))
    with (
        closing(ConsentWriter(connection=connection, lane=SHOP)) as writer,
        open_vault(storage, SINK) as store,
        open_keyring(storage, SINK) as keyring,
        open_images(storage, SINK) as images,
        retained_reader(settings) as reader,
    ):
        vault = KeyVault(store=store, keyring=keyring, clock=time.monotonic)
        name_key = read_secret(storage.name_key, size=NAME_KEY_BYTES)
        sink = EncryptionSink(store=images, vault=vault, name_key=name_key)
        yield _Bench(stack, writer, vault, sink, reader)


class _Bench:
    """An owner, a sink and a reader."""

    def __init__(
        self,
        stack: Stack,
        writer: ConsentWriter,
        vault: KeyVault,
        sink: EncryptionSink,
        reader: RetainedReader,
    ) -> None:
        self._stack = stack
        self._writer = writer
        self._vault = vault
        self._sink = sink
        self._reader = reader

    def erase(self, account: AccountId) -> Round:
        """Store pictures of an account, revoke, and wait until the last one is deleted."""
        grant = self._writer.grant(account, **OWNER).grant
        assert grant is not None
        name = _fill(self._sink, account, grant)
        self._reader.open(name)
        self._vault.key(grant)
        self._writer.revoke(account, **OWNER)
        self._revoked_s, before = time.monotonic(), _processor_ms(self._stack)
        _wait(lambda: not _opens(self._reader, name))
        _wait(lambda: not _has_key(self._vault, grant))
        keys_gone_s = self._elapsed_s()
        self._page = AccountErasures(self._writer.reader, SHOP, account)
        _wait(lambda: all(each.objects_left == 0 for each in self._page.now()))
        objects_s, after = self._elapsed_s(), _processor_ms(self._stack)
        eraser, bucket = ((after[each] - before[each]) / OBJECTS for each in ("erase", "bucket"))
        return Round(keys_gone_s, objects_s, eraser, bucket)

    def ended_s(self) -> float:
        """Wait until the last erasure has ended; return how long it took."""
        _wait(lambda: all(each.gone for each in self._page.now()))
        assert [each.objects for each in self._page.now()] == [OBJECTS]
        return self._elapsed_s()

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._revoked_s


def _processor_ms(stack: Stack) -> dict[str, float]:
    """Return the processor time of each process so far."""
    processes = {name: psutil.Process(pid).cpu_times() for name, pid in stack.running().items()}
    return {name: (times.user + times.system) * 1e3 for name, times in processes.items()}


def _fill(sink: EncryptionSink, account: AccountId, grant: GrantId) -> str:
    """Store pictures under a grant; return the name of one."""

    def store(number: int) -> str:
        event = Retained(
            id=UploadId(new_upload_id(number, bytes(10))),
            time=NOW,
            lane=SHOP,
            account=account,
            part=Part.ORIGINAL,
            grant=grant,
            mark="0/7",
            position=Position(topic_id="A" * 22, partition=0, offset=number),
            uploaded_at=NOW,
            content_type="image/png",
            data=b"\x89PNG\r\n\x1a\n",
        )
        return str(sink.store(event))

    with ThreadPoolExecutor(THREADS) as pool:
        name, *_ = pool.map(store, range(OBJECTS))
    return name


def _opens(reader: RetainedReader, name: str) -> bool:
    try:
        reader.open(name)
    except Erased:
        return False
    return True


def _has_key(vault: KeyVault, grant: GrantId) -> bool:
    try:
        vault.key(grant)
    except Erased:
        return False
    return True


def _wait(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError
        time.sleep(POLL_S)
