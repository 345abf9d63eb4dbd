"""How much throughput slow images cost a worker: its look-ahead, with children that only wait.

Every image takes a child 20 ms, and a slow one 40 times as long, as common photos of half a second
and a slow one that reaches a deadline of 20 s do.  A slow image takes its child's time in any case:
8 children that wait for nothing else would reach 0.96 of the throughput with one in 1,000, and
0.72 with one in 100.  Uploads come from two partitions, as fast as the worker takes them.
"""

import asyncio
import random
import time
from collections.abc import Hashable, Iterator

from erasestream.pipeline.stages.inference.worker.job_queue import Job
from erasestream.pipeline.stages.inference.worker.lookahead import LookAhead
from erasestream.schemas.codec.cloudevents import Wire
from tests.bench.figures import Figure, figure

ROUNDS = 3
IMAGES = 3_000
PARTITIONS = 2
CHILDREN = 8
COMMON_S, SLOW_S = 0.02, 0.8
DELIVERY_S = 0.001
RESULT_BYTES = 100_000
GOALS = {1_000: 0.9, 100: 0.7}
"""One image in so many is slow."""


def measure() -> Iterator[Figure]:
    """Yield the ratios to the throughput without slow images, in the same round."""
    ratios: dict[int, list[float]] = {every: [] for every in GOALS}
    for seed in range(ROUNDS):
        dice = random.Random(seed)
        common = asyncio.run(_Worker(frozenset()).images_per_s())
        for every, found in ratios.items():
            slow = frozenset(dice.sample(range(IMAGES), IMAGES // every))
            found.append(asyncio.run(_Worker(slow).images_per_s()) / common)
    for every, found in ratios.items():
        name = f"inference.slow_image_ratio.1_in_{every}"
        yield figure(name, found, "1", at_least=GOALS[every])


class _Worker:
    """A look-ahead, fed from partitions that never run out."""

    def __init__(self, slow: frozenset[int]) -> None:
        self._slow = slow
        self._full: set[Hashable] = set()
        self._has_room = asyncio.Event()
        self._delivered = 0
        self._errors: list[BaseException] = []
        self._lookahead = LookAhead(
            on_failure=self._errors.append,
            on_full=self._full.add,
            on_room=self._on_room,
            children=CHILDREN,
        )

    async def images_per_s(self) -> float:
        """Return the throughput until a partition runs out; then process the rest."""
        started_s, images_per_s = time.monotonic(), 0.0
        unread = {each: iter(range(each, IMAGES, PARTITIONS)) for each in range(PARTITIONS)}
        while self._delivered < IMAGES:
            self._has_room.clear()
            for partition, numbers in list(unread.items()):
                while partition in unread and partition not in self._full:
                    if (number := next(numbers, None)) is None:
                        del unread[partition]
                        images_per_s = images_per_s or self._delivered / (
                            time.monotonic() - started_s
                        )
                    else:
                        self._lookahead.add(self._job(number, partition))
            await self._has_room.wait()
            if self._errors:
                raise self._errors[0]
        return images_per_s

    def _job(self, number: int, partition: int) -> Job:
        async def make() -> Wire:
            await asyncio.sleep(SLOW_S if number in self._slow else COMMON_S)
            return Wire([], bytes(RESULT_BYTES))

        async def deliver(_: Wire) -> None:
            await asyncio.sleep(DELIVERY_S)
            self._delivered += 1
            self._has_room.set()

        return Job(
            lane="lane",
            partition=partition,
            held_bytes=RESULT_BYTES,
            make=make,
            deliver=deliver,
            is_wanted=lambda: True,
        )

    def _on_room(self, partition: Hashable) -> None:
        self._full.discard(partition)
        self._has_room.set()
