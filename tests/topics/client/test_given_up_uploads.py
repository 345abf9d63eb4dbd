"""Uploads that were given up do not go unnoticed, and unclosed producers do not either."""

import asyncio
import gc
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from erasestream.schemas.errors import (
    ClientClosed,
    Code,
    ErasestreamError,
    NotAuthorized,
    Unavailable,
)
from erasestream.schemas.ids import Lane
from erasestream.topics.client.async_upload_producer import AsyncUploadProducer
from erasestream.topics.client.connecting import CONNECTING
from erasestream.topics.client.sent_upload import Receipt, SentUpload, UnseenFailures
from erasestream.topics.client.upload_producer import (
    SendingLimits,
    UploadProducer,
)
from tests.kafka_fixture import KafkaFixture
from tests.leaks import no_leak
from tests.topics.client.uploads import PNG, TIMEOUT_S

SHORT = SendingLimits(delivery_s=1.5, close_s=1.0)
UNNOTICED = "2 uploads failed unnoticed"


class BodyError(Exception):
    """Ends a block."""


def send_twice(producer: UploadProducer, error: Exception | None = None) -> None:
    """Send two uploads in a block, which this error ends."""
    with producer:
        for _ in range(2):
            producer.send(PNG, account="acct-17")
        if error is not None:
            raise error


async def send_and_cancel(producer: AsyncUploadProducer) -> None:
    """Send three uploads in a block, and await only the first one's outcome."""
    async with producer:
        with pytest.raises(Unavailable):
            await producer.send(PNG, account="a")
        tasks = [asyncio.create_task(producer.send(PNG, account="a")) for _ in range(2)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def failed(unseen: UnseenFailures, error: ErasestreamError) -> SentUpload:
    sent = SentUpload(unseen)
    sent.fail(error)
    return sent


def look_at_result(sent: Future[Receipt]) -> None:
    with pytest.raises(Unavailable):
        sent.result()


def look_twice(sent: Future[Receipt]) -> None:
    assert sent.exception() is sent.exception()


@pytest.mark.parametrize("look", [look_at_result, look_twice])
def test_a_failure_that_was_looked_at_is_not_raised(
    look: Callable[[Future[Receipt]], object],
) -> None:
    unseen = UnseenFailures()
    sent = failed(unseen, Unavailable("gone"))
    look(sent)
    assert unseen.take() is None


def test_unseen_failures_are_raised_as_the_first_one() -> None:
    """A look before the outcome is none, and neither is a callback."""
    unseen = UnseenFailures()
    early = SentUpload(unseen)
    with pytest.raises(TimeoutError):
        early.result(0.0)
    early.add_done_callback(lambda _: None)
    early.fail(NotAuthorized("role r"))
    failed(unseen, Unavailable("gone"))
    error = unseen.take()
    assert isinstance(error, NotAuthorized)
    assert "2 uploads failed unnoticed; one of them: role r" in error.sentence
    assert unseen.take() is None


def test_leaving_the_block_raises_for_what_was_given_up(kafka: KafkaFixture, lane: Lane) -> None:
    producer = UploadProducer(kafka.cluster, lane, limits=SHORT, sealed=False)
    with kafka.silence(), pytest.raises(Unavailable, match=UNNOTICED) as raised:
        send_twice(producer)
    assert "acct-17" not in str(raised.value)


def test_closing_raises_for_what_was_given_up_and_is_closed(
    kafka: KafkaFixture, lane: Lane
) -> None:
    with no_leak():
        producer = UploadProducer(kafka.cluster, lane, limits=SHORT, sealed=False)
        with kafka.silence():
            looked_at, *_ = [producer.send(PNG, account="a") for _ in range(3)]
            assert isinstance(looked_at.exception(TIMEOUT_S), Unavailable)
            with pytest.raises(Unavailable, match=UNNOTICED):
                producer.close()
        producer.close()


def test_the_error_of_the_block_is_raised_with_a_note(kafka: KafkaFixture, lane: Lane) -> None:
    producer = UploadProducer(kafka.cluster, lane, limits=SHORT, sealed=False)
    with kafka.silence(), pytest.raises(BodyError) as raised:
        send_twice(producer, BodyError())
    (note,) = raised.value.__notes__
    assert UNNOTICED in note


async def test_leaving_the_async_block_raises_for_what_was_given_up(
    kafka: KafkaFixture, lane: Lane
) -> None:
    producer = await AsyncUploadProducer(kafka.cluster, lane, limits=SHORT, sealed=False).open()
    with kafka.silence(), pytest.raises(Unavailable, match=UNNOTICED):
        await send_and_cancel(producer)


def test_an_unclosed_producer_warns_and_lets_go_of_everything(
    kafka: KafkaFixture, lane: Lane
) -> None:
    """From any thread; what waits is sent first."""
    with no_leak():
        producer = UploadProducer(kafka.cluster, lane, sealed=False)
        sent = producer.send(PNG, account="a")
        dropping = [producer]
        del producer
        with (
            pytest.warns(ResourceWarning, match="unclosed UploadProducer"),
            ThreadPoolExecutor(1) as pool,
        ):
            pool.submit(dropping.clear).result()
        assert sent.result(TIMEOUT_S).offset >= 0
        del sent


async def test_an_unclosed_async_producer_warns(kafka: KafkaFixture, lane: Lane) -> None:
    with no_leak():
        producer = await AsyncUploadProducer(kafka.cluster, lane, sealed=False).open()
        with pytest.warns(ResourceWarning, match="unclosed AsyncUploadProducer"):
            del producer
        await asyncio.sleep(0)  # the loop still has the future that opening awaited


def test_closed_and_unopened_producers_do_not_warn(kafka: KafkaFixture, lane: Lane) -> None:
    gc.collect()  # what other tests left unclosed
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        UploadProducer(kafka.cluster, lane, sealed=False).close()
        AsyncUploadProducer(kafka.cluster, lane, sealed=False)
        with pytest.raises(ErasestreamError):
            UploadProducer(kafka.cluster, Lane("nowhere"), sealed=False)
        gc.collect()


async def test_a_cancelled_open_leaves_nothing(kafka: KafkaFixture, lane: Lane) -> None:
    """A thread connects to the end, and closes what it has opened; the loop ends without it."""
    producer = AsyncUploadProducer(kafka.cluster, lane, sealed=False)
    with no_leak(), kafka.silence():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(producer.open(), 0.2)
        await asyncio.get_running_loop().shutdown_default_executor()
        assert CONNECTING in {thread.name for thread in threading.enumerate()}
    with pytest.raises(ClientClosed, match="async with"):
        await producer.send(PNG, account="a")


async def test_a_closed_async_producer_cannot_be_opened(kafka: KafkaFixture, lane: Lane) -> None:
    """Not even if it is closed while it connects."""
    producer = AsyncUploadProducer(kafka.cluster, lane, sealed=False)
    with no_leak():
        opening = asyncio.create_task(producer.open())
        await asyncio.sleep(0)
        await producer.close()
        for attempt in (opening, producer.open()):
            with pytest.raises(ClientClosed) as refused:
                await attempt
            assert refused.value.code is Code.CLOSED
