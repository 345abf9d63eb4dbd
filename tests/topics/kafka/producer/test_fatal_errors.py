"""A client that met a fatal error is replaced; waiting callers get `Unavailable` once.

librdkafka has a function for exactly this test (`rd_kafka_test_fatal_error`), which the Python
binding does not expose: it is called in the library that the binding ships.
"""

import ctypes
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka import KafkaError, Producer

from erasestream.schemas.codec.cloudevents import Wire
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import ROUTER
from erasestream.topics.catalog.topic_names import LEDGER
from erasestream.topics.client.upload_producer import UploadProducer
from erasestream.topics.client.upload_sender import SendingLimits
from erasestream.topics.kafka.producer import acknowledged_writer, producer_pool
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from erasestream.topics.kafka.records import Partition
from tests.flow.pictures import photo
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture
from tests.topics.client.uploads import upload_until_acknowledged

RECORD = (Partition(LEDGER, 0), b"key", Wire(headers=(), value=b"value"))


class Constructed:
    """Every producer that was constructed, in order."""

    def __init__(self) -> None:
        self.producers: list[Producer] = []

    def __call__(self, settings: dict[str, Any]) -> Producer:
        self.producers.append(Producer(settings))
        return self.producers[-1]

    def break_last(self) -> None:
        """Inject the fatal error of a broken sequence."""
        folder = Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs"
        (path,) = folder.glob("librdkafka*.so*")
        fail = ctypes.CDLL(str(path)).rd_kafka_test_fatal_error
        fail.argtypes, fail.restype = (ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p), ctypes.c_int
        # The first field after the object's header is librdkafka's handle.
        handle = ctypes.c_void_p.from_address(id(self.producers[-1]) + object.__basicsize__)
        assert fail(handle, KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, b"broken by a test") == 0


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Constructed:
    """Record the producers of both kinds of writers."""
    made = Constructed()
    for module in (acknowledged_writer, producer_pool):
        monkeypatch.setattr(module, "Producer", made)
    return made


def test_a_write_fails_once(kafka: KafkaFixture, lane: Lane, clients: Constructed) -> None:
    assert lane in kafka.lanes
    writes = AcknowledgedWriter(connection=kafka.connection(ROUTER), timeout_s=20)
    clients.break_last()
    with pytest.raises(Unavailable):
        writes.write(*RECORD)
    assert writes.write(*RECORD)
    assert len(clients.producers) == 2


def test_waiting_writes_are_given_up(kafka: KafkaFixture, lane: Lane, clients: Constructed) -> None:
    assert lane in kafka.lanes
    writes = AcknowledgedWriter(connection=kafka.connection(ROUTER), timeout_s=20)
    writes.write(*RECORD)
    with ThreadPoolExecutor(3) as pool:
        with kafka.silence():
            waiting = [pool.submit(writes.write, *RECORD) for _ in range(3)]
            eventually("all are handed over", lambda: len(clients.producers[0]) >= 3)
            clients.break_last()
            eventually("all are given up", lambda: all(each.done() for each in waiting))
        assert {type(each.exception()) for each in waiting} == {Unavailable}
    assert writes.write(*RECORD)


@pytest.mark.parametrize("until_broken_s", [0.0, 0.5])
def test_waiting_uploads_are_given_up(
    kafka: KafkaFixture, lane: Lane, clients: Constructed, until_broken_s: float
) -> None:
    """All futures are done, of queued and in-flight uploads, and the next upload arrives.

    An upload in flight to a broker that does not answer is given up after its delivery time.
    """
    limits = SendingLimits(delivery_s=15)
    with UploadProducer(kafka.cluster, lane, limits=limits, sealed=False) as producer:
        producer.send(photo(), account="acct").result(30)
        with kafka.silence():
            waiting = [producer.send(photo(), account="acct") for _ in range(3)]
            time.sleep(until_broken_s)  # longer than they linger: then they are in flight
            clients.break_last()
            eventually("all are given up", lambda: all(each.done() for each in waiting))
        assert {type(each.exception()) for each in waiting} == {Unavailable}
        upload_until_acknowledged(producer)
    assert len(clients.producers) == 2
