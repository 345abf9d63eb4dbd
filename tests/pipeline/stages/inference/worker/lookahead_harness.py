"""Harness for tests of looking ahead: the test opens the gates of jobs one by one."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable

from erasestream.pipeline.stages.inference.worker.job_queue import Job
from erasestream.pipeline.stages.inference.worker.lookahead import LookAhead
from erasestream.schemas.codec.cloudevents import Wire


class LookAheadHarness:
    """Jobs whose gates the test opens, and the order in which they were delivered."""

    def __init__(self, *, max_bytes: int = 1000, max_count: int = 100, children: int = 100) -> None:
        self.delivered: list[tuple[str, int]] = []
        self.errors: list[BaseException] = []
        self.gates: dict[tuple[str, int], asyncio.Future[bytes]] = {}
        self.begun: list[tuple[str, int]] = []
        self.making: set[tuple[str, int]] = set()
        self.full: set[Hashable] = set()
        self.unwanted: set[tuple[str, int]] = set()
        self.delivering: list[tuple[str, int]] = []
        self.arrived: asyncio.Future[None] | None = None
        """If set, deliveries complete only once this is done."""
        self.ahead = LookAhead(
            on_failure=self.errors.append,
            on_full=self.full.add,
            on_room=self.full.discard,
            children=children,
            max_bytes=max_bytes,
            max_count=max_count,
        )

    def job(self, order: str, number: int, *, held_bytes: int = 1) -> Job:
        """Create a job whose result is made once its gate is opened.

        `order`: the partition; its first letter is the lane.
        """
        gate = self.gates[order, number] = asyncio.get_running_loop().create_future()

        async def make() -> Wire:
            self.making.add((order, number))
            self.begun.append((order, number))
            try:
                return Wire([], await gate)
            finally:
                self.making.remove((order, number))

        async def deliver(_: Wire) -> None:
            self.delivering.append((order, number))
            await asyncio.sleep(0)
            if self.arrived:
                await self.arrived
            self.delivered.append((order, number))

        return Job(
            lane=order[0],
            partition=order,
            held_bytes=held_bytes,
            make=make,
            deliver=deliver,
            is_wanted=lambda: (order, number) not in self.unwanted,
        )

    def add_all(self, jobs: list[Job]) -> None:
        """Add jobs one after another."""
        for job in jobs:
            self.ahead.add(job)

    async def finish(self, *results: tuple[str, int, int]) -> None:
        """Open the gates of these jobs, with results of so many bytes."""
        for order, number, size in results:
            self.gates[order, number].set_result(bytes(size))
            await self.settle()

    async def settle(self) -> None:
        """Run everything that can run."""
        for _ in range(200):
            await asyncio.sleep(0)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run a scenario in its own event loop."""

    async def main() -> None:
        await scenario()

    asyncio.run(main())
