"""Close a client in a signal handler that interrupts any line of its call."""

import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from confluent_kafka import Producer

from erasestream.schemas.ids import Lane
from erasestream.topics.client.upload_producer import UploadProducer
from erasestream.topics.client.upload_sender import SendingLimits
from erasestream.topics.kafka.producer.producer_pool import _Client
from erasestream.topics.kafka.queueing import queue
from erasestream.topics.kafka.records import Outgoing
from erasestream.topics.kafka.replaceable_client import ReplaceableClient
from tests.kafka_fixture import KafkaFixture
from tests.topics.client.uploads import PNG


class Interrupted(SystemExit):
    """Raised by the handler, as `sys.exit` is."""


CODE = {_Client.produce.__code__, ReplaceableClient._lend.__code__}
"""Here the client changes hands."""


def interrupt(call: Callable[[], object], line: int) -> bool:
    """Raise SIGTERM at the n-th line that the call runs in `CODE`; return if it has so many."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if frame.f_code in CODE and event == "line":
            count += 1
            if count == line:
                signal.raise_signal(signal.SIGTERM)
        return trace

    try:
        sys.settrace(trace)
        call()
    except Interrupted:
        return True
    finally:
        sys.settrace(None)
    return False


@pytest.mark.timeout(180)
def test_a_producer_is_closed_at_any_line_of_sending(kafka: KafkaFixture, lane: Lane) -> None:
    """Without waiting for `close_s`, which is longer than this test may take."""
    limits = SendingLimits(close_s=3600)
    closed = 0

    def close(*_: object) -> None:
        sys.settrace(None)
        producer.close()
        raise Interrupted

    before = signal.signal(signal.SIGTERM, close)
    try:
        while True:
            with UploadProducer(kafka.cluster, lane, limits=limits, sealed=False) as producer:
                if not interrupt(lambda: producer.send(PNG, account="acct-17"), closed + 1):
                    break
            closed += 1
    finally:
        signal.signal(signal.SIGTERM, before)
    assert closed > 10


class Name(str):
    """The name of a header; as it is turned into text, a signal is due."""

    __slots__ = ()

    def __str__(self) -> str:
        signal.raise_signal(signal.SIGTERM)
        return "name"


def test_what_the_library_loses_of_a_handler_interrupts_the_program() -> None:
    """It replaces what a handler raises while it reads the headers."""

    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGTERM, interrupt)
    producer = Producer({"bootstrap.servers": "localhost:1", "log_level": 0})
    try:
        with pytest.raises(KeyboardInterrupt, match="signal handler"):
            queue(producer, Outgoing("topic", -1, None, [(Name("name"), b"")], b""), print)
    finally:
        signal.signal(signal.SIGTERM, before)
        producer.close()
