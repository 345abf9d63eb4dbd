"""Programs that drop a subscription and end at once, and children that inherit one."""

import pytest

from erasestream.schemas.ids import Lane
from tests.kafka_fixture import KafkaFixture
from tests.topics.client.programs import finish, start
from tests.topics.client.results import ResultWriter, committed, cutout

DEFINITIONS = """
import asyncio, multiprocessing
from erasestream import AsyncResultSubscription, ReceivingLimits, ResultSubscription
arguments = dict(group="test", limits=ReceivingLimits(commit_every_s=3600, readiness_s=90))

def read():
    results = ResultSubscription(cluster, LANE, **arguments)
    results.poll(60).ack()

async def read_in_loop():
    results = await AsyncResultSubscription(cluster, LANE, **arguments).open()
    (await results.poll(60)).ack()
    return results

async def cancel_close():
    closing = asyncio.ensure_future((await read_in_loop()).close())
    await asyncio.sleep(0)
    closing.cancel()
"""
ENDS = {
    "function": "read()",
    "thread": "threading.Thread(target=read).start()",
    "asyncio": "asyncio.run(read_in_loop())",
    "cancelled close": "asyncio.run(cancel_close())",
    "child process": """
child = multiprocessing.get_context("fork").Process(target=read)
child.start()
child.join()
sys.exit(child.exitcode)
""",
}
FORK = """
loop = asyncio.new_event_loop()
results = loop.run_until_complete(read_in_loop())
child = os.fork()
if child == 0:
    for call in results.close, lambda: results.poll(1):
        try:
            asyncio.run(call())
        except Exception as error:
            print(error.code, flush=True)
    os._exit(0)
os.waitpid(child, 0)
loop.run_until_complete(results.close())
"""


@pytest.mark.parametrize("end", ENDS)
def test_a_program_that_drops_a_subscription_and_ends_commits(
    kafka: KafkaFixture, lane: Lane, router: ResultWriter, end: str
) -> None:
    """The thread that leaves the group has no time of its own."""
    router.write(cutout(1))
    assert finish(start(kafka, lane, DEFINITIONS + ENDS[end])) == (0, "", "")
    assert committed(kafka, lane) == 1


def test_after_a_fork_calls_in_a_loop_of_the_child_are_refused(
    kafka: KafkaFixture, lane: Lane, router: ResultWriter
) -> None:
    """Where the subscription is one of the parent's event loop."""
    router.write(cutout(1))
    status, printed, errors = finish(start(kafka, lane, DEFINITIONS + FORK))
    assert (status, printed) == (0, "used_after_fork\n" * 2), errors
    assert committed(kafka, lane) == 1
