"""Programs that end without closing their producers, or while a signal handler closes them."""

import signal
from textwrap import dedent

import pytest

from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.topic_names import uploads_of
from erasestream.topics.kafka.queueing import LOST_EXCEPTION
from erasestream.topics.kafka.records import Partition
from tests.kafka_fixture import PARTITIONS, KafkaFixture
from tests.topics.client.programs import await_line, finish, start

IMAGES = 40
SEND = f"""
for _ in range({IMAGES}):
    producer.send(PNG + bytes(200_000), account="acct-17")
"""
LOST = 120
"""Exit status of the interpreter if its cleanup failed."""

ENDS = {
    "end": "",
    "sys.exit": "sys.exit(0)",
    "of a thread": """
        def later():
            time.sleep(0.5)  # the main thread has ended
            producer.send(PNG, account="acct-17")
        threading.Thread(target=later).start()
    """,
    "dropped": "del producer",
}


def appended(kafka: KafkaFixture, lane: Lane) -> int:
    return sum(
        kafka.offsets.log_end(Partition(uploads_of(lane), number)) for number in range(PARTITIONS)
    )


@pytest.mark.parametrize("end", ENDS)
def test_a_program_that_ends_without_closing_sends_everything(
    kafka: KafkaFixture, lane: Lane, end: str
) -> None:
    program = f"producer = UploadProducer(cluster, LANE, sealed=False)\n{SEND}\n{dedent(ENDS[end])}"
    assert finish(start(kafka, lane, program)) == (0, "", "")
    assert appended(kafka, lane) == IMAGES + (end == "of a thread")


def test_an_asyncio_program_that_ends_without_closing_sends_everything(
    kafka: KafkaFixture, lane: Lane
) -> None:
    program = f"""
        import asyncio
        async def main():
            producer = await AsyncUploadProducer(cluster, LANE, sealed=False).open()
            sending = [asyncio.ensure_future(producer.send(PNG, account="a"))
                       for _ in range({IMAGES})]
            await asyncio.sleep(0)
        asyncio.run(main())
    """
    assert finish(start(kafka, lane, program)) == (0, "", "")
    assert appended(kafka, lane) == IMAGES


def test_a_child_process_that_ends_without_closing_sends_everything(
    kafka: KafkaFixture, lane: Lane
) -> None:
    """A child of multiprocessing runs no functions of atexit."""
    program = f"""
        import multiprocessing
        def work():
            producer = UploadProducer(cluster, LANE, sealed=False)
            for _ in range({IMAGES}):
                producer.send(PNG, account="acct-17")
        child = multiprocessing.get_context("fork").Process(target=work)
        child.start()
        child.join()
        sys.exit(child.exitcode)
    """
    assert finish(start(kafka, lane, program)) == (0, "", "")
    assert appended(kafka, lane) == IMAGES


def test_a_program_reports_the_uploads_that_are_lost_at_its_end(
    kafka: KafkaFixture, lane: Lane
) -> None:
    """On standard error and by its exit status; functions of atexit run, whenever registered."""
    program = """
        import atexit
        atexit.register(print, "atexit")
        producer = UploadProducer(cluster, LANE, sealed=False)
        producer.send(PNG, account="acct-17").result(60)
        print("up", flush=True)
        sys.stdin.readline()
        for _ in range(7):
            producer.send(PNG, account="acct-17")
    """
    process = start(kafka, lane, program)
    await_line(process, "up")
    with kafka.silence():
        status, printed, errors = finish(process)
    assert (status, printed) == (LOST, "atexit\n")
    assert f"{lane}.producer: 7 uploads were not acknowledged" in errors
    assert "acct-17" not in errors


BUSY = """
def stop(*_):
    producer.close()
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
producer = UploadProducer(cluster, LANE, limits=LIMITS, sealed=False)
print("up", flush=True)
while True:
    producer.send(PNG + bytes(SIZE), account="acct-17")
"""


@pytest.mark.parametrize("size", [100, 4_000_000])
def test_a_signal_handler_closes_the_producer_of_its_thread(
    kafka: KafkaFixture, lane: Lane, size: int
) -> None:
    """While the thread sends, and while it waits for room in the queue.

    The program ends with the status of the handler or, once in many runs, as interrupted.
    """
    program = f"SIZE, LIMITS = {size}, SendingLimits(close_s=600)\n{BUSY}"
    process = start(kafka, lane, program)
    await_line(process, "up")
    process.send_signal(signal.SIGTERM)
    status, printed, errors = finish(process)
    if LOST_EXCEPTION in errors:
        assert (status, printed) == (-signal.SIGINT, "")
    else:
        assert (status, printed, errors) == (0, "", "")
