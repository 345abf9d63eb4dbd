"""A gateway's index of a million images: its memory, and the time until it is loaded.

The entries are written first, as the router writes them but many at once.  Then a process of its
own opens the view as a gateway does.

BENCH_IMAGES and BENCH_ROUNDS make it smaller, for a trial.
"""

import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from confluent_kafka import KafkaError, Message, Producer

from erasestream.pipeline.devstack.stack import Stack
from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.errors import ErasestreamError
from erasestream.schemas.events.image_index import ResultIndexed
from erasestream.schemas.ids import AccountId, UploadId, image_key, owner_key
from erasestream.topics.catalog.roles import ROUTER
from erasestream.topics.catalog.topic_names import index_of
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.errors import ClientErrorState
from tests.bench.figures import Figure, figure
from tests.bench.running_pipeline import SHOP, lane_settings, provisioned_servers
from tests.bench.servers import MEMORY, report_of

IMAGES = int(os.environ.get("BENCH_IMAGES", "1000000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
PARTITIONS = 4
ACCOUNTS = 1000
MAX_WAITING = 20_000


def measure() -> Iterator[Figure]:
    """Measure memory above the empty process, and seconds until the index is loaded."""
    lane = lane_settings(PARTITIONS).model_copy(update={"gateway": True})
    with (
        tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder,
        provisioned_servers(Path(folder), lanes={SHOP: lane}) as stack,
    ):
        write_entries(stack, IMAGES)
        loads = [report_of(stack, "tests.bench.gateway_index_load") for _ in range(ROUNDS)]
    if any(load["images"] != IMAGES for load in loads):
        raise ErasestreamError(f"{IMAGES} entries were written, the view has others: {loads}")
    grown = [load["loaded_mb"] - load["empty_mb"] for load in loads]
    yield figure("gateway.million_images_mb", grown, "MB")
    yield figure("gateway.million_images_load_s", [e["load_s"] for e in loads], "s", at_most=30)
    yield figure("gateway.million_images_load_s.cpu", [e["cpu_s"] for e in loads], "s")


def write_entries(stack: Stack, count: int) -> None:
    """Index `count` images of the last two days."""
    failed: list[KafkaError] = []

    def on_delivery(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            failed.append(error)

    connection = Connection(cluster=stack.cluster, role=ROUTER)
    settings = connection.settings(
        ClientErrorState(), enable_idempotence=True, acks="all", linger_ms=20, batch_size=24_000
    )
    producer = Producer(settings | {"on_delivery": on_delivery})
    now, step = datetime.now(UTC), timedelta(hours=47) / count
    for number in range(count):
        account = AccountId(f"account-{number % ACCOUNTS}")
        headers, value = _wire(account, UploadId(f"{number}"), number, now - number * step)
        producer.produce(index_of(SHOP), value, None, number % PARTITIONS, headers=headers)
        while len(producer) > MAX_WAITING:
            producer.poll(0.01)
        producer.poll(0)
    if producer.flush(60) or failed:
        raise ErasestreamError(f"entries were not written: {failed[:1]}")


_FIRST = AccountId("account")
_ENTRY = ResultIndexed(
    id=image_key(SHOP, _FIRST, UploadId("0")),
    owner=owner_key(SHOP, _FIRST),
    offset=0,
    uploaded_at=datetime(2026, 1, 2, tzinfo=UTC),
)
_HEADERS, _VALUE = to_wire(_ENTRY, source=f"/lanes/{SHOP}/router")


def _wire(
    account: AccountId, upload: UploadId, number: int, at: datetime
) -> tuple[list[tuple[str, bytes]], bytes]:
    """Return what `to_wire` writes, with all that differs from image to image replaced."""
    key = image_key(SHOP, account, upload).encode()
    value = (
        _VALUE.replace(_ENTRY.owner.encode(), owner_key(SHOP, account).encode())
        .replace(b'"offset":0', b'"offset":%d' % number)
        .replace(b"2026-01-02T00:00:00Z", at.isoformat().replace("+00:00", "Z").encode())
    )
    return [(name, key if name == "ce_id" else old) for name, old in _HEADERS], value
