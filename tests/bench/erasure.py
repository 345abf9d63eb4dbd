"""An erasure from the recorded revocation: until nothing opens, and until all is gone.

Broker, local bucket and eraser are processes of their own, and share the cores.  A reader has
opened a picture, and a sink has the grant's key in its cache.

BENCH_OBJECTS makes it smaller, for a trial.
"""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime

from erasestream.pipeline.bootstrap.keyring import open_keyring
from erasestream.pipeline.bootstrap.storage import (
    open_images,
    open_vault,
    retained_reader,
    storage_of,
)
from erasestream.pipeline.settings import Settings, load
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
ACCOUNT = AccountId("bench")
THREADS = 16
POLL_S = 0.05
DEADLINE_S = 300.0
NOW = datetime(2026, 11, 30, tzinfo=UTC)


def measure() -> Iterator[Figure]:
    """Measure both, once: the eraser's own waiting is most of it."""
    with servers() as stack, ExitStack() as opened:
        start(stack, ["erase"])
        settings = load(stack.files.settings)
        role = lane_role(SHOP, LaneRole.ACCOUNT)
        connection = Connection(cluster=settings.cluster, role=role)
        writer = opened.enter_context(closing(ConsentWriter(connection=connection, lane=SHOP)))
        vault, sink = _sink(settings, opened)
        reader = opened.enter_context(retained_reader(settings))
        owner = {"actor": "owner", "channel": Channel.LIBRARY}
        grant = writer.grant(ACCOUNT, **owner).grant
        assert grant is not None
        name = _fill(sink, grant)
        reader.open(name)
        vault.key(grant)
        writer.revoke(ACCOUNT, **owner)
        begun_s = time.monotonic()
        _wait(lambda: not _opens(reader, name))
        _wait(lambda: not _has_key(vault, grant))
        yield figure("erasure.keys_gone_s", [time.monotonic() - begun_s], "s", at_most=10)
        page = AccountErasures(writer.reader, SHOP, ACCOUNT)
        _wait(lambda: all(each.objects_left == 0 for each in page.now()))
        gone_s = time.monotonic() - begun_s
        yield figure("erasure.objects_10k_s", [gone_s], "s", at_most=60)
        _wait(lambda: all(each.gone for each in page.now()))
        yield figure("erasure.ended_s", [time.monotonic() - begun_s], "s")
        assert [each.objects for each in page.now()] == [OBJECTS]


def _sink(settings: Settings, opened: ExitStack) -> tuple[KeyVault, EncryptionSink]:
    storage = storage_of(settings)
    vault = KeyVault(
        store=opened.enter_context(open_vault(storage, SINK)),
        keyring=opened.enter_context(open_keyring(storage, SINK)),
        clock=time.monotonic,
    )
    images = opened.enter_context(open_images(storage, SINK))
    name_key = read_secret(storage.name_key, size=NAME_KEY_BYTES)
    return vault, EncryptionSink(store=images, vault=vault, name_key=name_key, capsules=None)


def _fill(sink: EncryptionSink, grant: GrantId) -> str:
    """Store pictures under a grant; return the name of one."""

    def store(number: int) -> str:
        event = Retained(
            id=UploadId(new_upload_id(number, bytes(10))),
            time=NOW,
            lane=SHOP,
            account=ACCOUNT,
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
