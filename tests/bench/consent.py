"""A consent view of a million grants: its memory, and the time to load it.

The decisions are written first, in the format of `ConsentWriter` but many at once.  Then a
process of its own opens a `ConsentView` as the router does, and catches up with its mark.

BENCH_GRANTS and BENCH_ROUNDS make it smaller, for a trial.
"""

import hashlib
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from confluent_kafka import KafkaError, Message, Producer

from erasestream.pipeline.devstack.stack import Stack
from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.errors import ErasestreamError
from erasestream.schemas.events.consent import Channel, ConsentDecision, Decision
from erasestream.schemas.ids import AccountId, new_upload_id
from erasestream.topics.catalog.roles import LaneRole, lane_role
from erasestream.topics.catalog.topic_names import consent_of
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.errors import ClientErrorState
from erasestream.topics.kafka.partitioner import partition_of
from tests.bench.figures import Figure, figure
from tests.bench.running_pipeline import SHOP
from tests.bench.servers import report_of, servers

GRANTS = int(os.environ.get("BENCH_GRANTS", "1000000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
MAX_WAITING = 20_000
"""Unacknowledged records at most, so that each is appended long before its grant is void."""


def measure() -> Iterator[Figure]:
    """Measure memory above the empty process, and seconds to reach the mark."""
    with servers() as stack:
        write_grants(stack, GRANTS)
        loads = [report_of(stack, "tests.bench.consent_load") for _ in range(ROUNDS)]
    if any(load["granted"] != GRANTS for load in loads):
        raise ErasestreamError(f"{GRANTS} grants were written, the view has others: {loads}")
    grown = [load["loaded_mb"] - load["empty_mb"] for load in loads]
    peaks = [load["peak_mb"] - load["empty_mb"] for load in loads]
    yield figure("consent.million_grants_mb", peaks, "MB", at_most=200)
    yield figure("consent.million_grants_mb.loaded", grown, "MB")
    yield figure("consent.million_grants_mb.empty_process", [e["empty_mb"] for e in loads], "MB")
    yield figure("consent.million_grants_load_s", [e["load_s"] for e in loads], "s", at_most=15)
    yield figure("consent.million_grants_load_s.cpu", [e["cpu_s"] for e in loads], "s")


def write_grants(stack: Stack, count: int) -> None:
    """Opt in `count` accounts, each in its own partition and with its own id."""
    topic = consent_of(SHOP)
    partitions = stack.catalog()[topic].partitions
    connection = Connection(cluster=stack.cluster, role=lane_role(SHOP, LaneRole.ACCOUNT))
    failed: list[KafkaError] = []

    def on_delivery(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            failed.append(error)

    settings = connection.settings(
        ClientErrorState(), enable_idempotence=True, acks="all", linger_ms=20, batch_size=24_000
    )
    producer = Producer(settings | {"on_delivery": on_delivery})
    for number in range(count):
        account = AccountId(hashlib.sha256(str(number).encode()).hexdigest()[:24])
        key = account.encode()
        headers, value = _wire(account, number)
        producer.produce(topic, value, key, partition_of(key, partitions), headers=headers)
        while len(producer) > MAX_WAITING:
            producer.poll(0.01)
        producer.poll(0)
    if producer.flush(60) or failed:
        raise ErasestreamError(f"grants were not written: {failed[:1]}")


_GRANT = ConsentDecision(
    id=new_upload_id(0, bytes(10)),
    time=datetime.now(UTC),
    account=AccountId("acct"),
    decision=Decision.GRANTED,
    actor="owner",
    channel=Channel.ACCOUNT_PAGE,
)
_HEADERS, _VALUE = to_wire(_GRANT, source=f"/lanes/{SHOP}/consent")


def _wire(account: AccountId, number: int) -> tuple[list[tuple[str, bytes]], bytes]:
    """Return what `to_wire` writes, with the headers that differ from grant to grant replaced."""
    now_s = time.time()
    new = {
        "ce_id": new_upload_id(int(now_s * 1000), number.to_bytes(10, "big")).encode(),
        "ce_time": datetime.fromtimestamp(now_s, UTC).isoformat().replace("+00:00", "Z").encode(),
        "ce_account": account.encode(),
    }
    return [(name, new.get(name, value)) for name, value in _HEADERS], _VALUE
