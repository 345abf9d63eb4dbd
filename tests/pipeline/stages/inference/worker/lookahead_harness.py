"""Harness for tests of looking ahead: the test opens the gates of jobs one by one."""

import asyncio
from collections.abc import Awaitable, Callable

from erasestream.pipeline.stages.inference.worker.lookahead import Job, LookAhead
from erasestream.schemas.codec.cloudevents import Wire


class LookAheadHarness:
    """Jobs whose gates the test opens, and the order in which they were delivered."""

    def __init__(self, *, max_bytes: int = 1000, max_count: int = 100, children: int = 100) -> None:
        self.delivered: list[tuple[str, int]] = []
        self.errors: list[BaseException] = []
        self.gates: dict[tuple[str, int], asyncio.Future[bytes]] = {}
        self.making: set[tuple[str, int]] = set()
        self.unwanted: set[tuple[str, int]] = set()
        self.delivering: list[tuple[str, int]] = []
        self.arrived: asyncio.Future[None] | None = None
        """If set, deliveries complete only once this is done."""
        self.ahead = LookAhead(
            on_failure=self.errors.append,
            children=children,
            max_bytes=max_bytes,
            max_count=max_count,
        )

    def job(self, order: str, number: int, *, held_bytes: int = 1) -> Job:
        """Create a job whose result is made once its gate is opened."""
        gate = self.gates[order, number] = asyncio.get_running_loop().create_future()

        async def make() -> Wire:
            self.making.add((order, number))
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
            order=order,
            held_bytes=held_bytes,
            make=make,
            deliver=deliver,
            is_wanted=lambda: (order, number) not in self.unwanted,
        )

    async def add_all(self, jobs: list[Job]) -> None:
        """Add jobs one after another, each when there is room."""
        for job in jobs:
            await self.ahead.add(job)

    async def settle(self) -> None:
        """Run everything that can run."""
        for _ in range(200):
            await asyncio.sleep(0)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run a scenario in its own event loop."""

    async def main() -> None:
        await scenario()

    asyncio.run(main())
