"""Calls that wait for brokers have threads and room of their own."""

import asyncio
from contextlib import closing
from threading import Barrier, Event

from erasestream.pipeline.gateway.bounded_calls import BoundedCalls

TIMEOUT_S = 60.0


def test_calls_without_room_are_refused_at_once_and_others_go_on() -> None:
    go_on, begun = Event(), Barrier(3)

    def stuck() -> str:
        begun.wait(TIMEOUT_S)
        go_on.wait(TIMEOUT_S)
        return "done"

    async def crowd(calls: BoundedCalls) -> list[str]:
        tasks = [asyncio.ensure_future(calls.run(stuck)) for _ in range(2)]
        tasks.append(asyncio.ensure_future(calls.run(str, "waited")))
        tasks.append(asyncio.ensure_future(calls.run(str, "refused")))
        # The loop's own threads are free: both of ours are taken.
        await asyncio.to_thread(begun.wait, TIMEOUT_S)
        assert not tasks[2].done()
        go_on.set()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        return [str(each) for each in [*done, await calls.run(str, "again")]]

    with closing(BoundedCalls("test", threads=2, most=3)) as calls:
        assert asyncio.run(crowd(calls)) == ["done", "done", "waited", "overloaded", "again"]
