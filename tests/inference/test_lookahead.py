"""Looking ahead: order within a partition, no waiting between them, and a bounded budget."""

import asyncio
from collections.abc import Awaitable, Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from erasestream.pipeline.inference.lookahead import LookAhead, Work
from erasestream.schemas.cloudevents import Wire


class Bench:
    """Works whose end the test decides, and what was handed over."""

    def __init__(self, *, max_bytes: int = 1000, max_count: int = 100) -> None:
        self.handed_over: list[tuple[str, int]] = []
        self.errors: list[BaseException] = []
        self.gates: dict[tuple[str, int], asyncio.Future[bytes]] = {}
        self.ahead = LookAhead(
            on_failure=self.errors.append, max_bytes=max_bytes, max_count=max_count
        )

    def work(self, order: str, number: int, *, held_bytes: int = 1) -> Work:
        """One that is made when its gate is opened."""
        gate = self.gates[order, number] = asyncio.get_running_loop().create_future()

        async def make() -> Wire:
            return Wire([], await gate)

        async def hand_over(_: Wire) -> None:
            await asyncio.sleep(0)
            self.handed_over.append((order, number))

        return Work(order=order, held_bytes=held_bytes, make=make, hand_over=hand_over)

    async def settle(self) -> None:
        """Let everything run that can."""
        for _ in range(20):
            await asyncio.sleep(0)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """In an event loop of its own."""

    async def main() -> None:
        await scenario()

    asyncio.run(main())


@settings(deadline=None)
@given(st.permutations([("a", n) for n in range(4)] + [("b", n) for n in range(4)]))
def test_in_order_whatever_ends_first(ends: list[tuple[str, int]]) -> None:
    """Each partition's results leave in the order in which they came, and all of them do."""

    async def scenario() -> None:
        bench = Bench()
        for number in range(4):
            for order in "ab":
                await bench.ahead.add(bench.work(order, number))
        for end in ends:
            bench.gates[end].set_result(b"")
            await bench.settle()
        for order in "ab":
            assert [n for o, n in bench.handed_over if o == order] == [0, 1, 2, 3]
        assert (bench.ahead.held_bytes, bench.errors) == (0, [])

    run(scenario)


def test_straggler_holds_back_its_own_partition_only() -> None:
    """What lies in another partition leaves at once."""

    async def scenario() -> None:
        bench = Bench()
        for key in [("slow", 0), ("slow", 1), ("other", 0), ("other", 1)]:
            await bench.ahead.add(bench.work(*key))
        for key in [("slow", 1), ("other", 0), ("other", 1)]:
            bench.gates[key].set_result(b"")
        await bench.settle()
        assert bench.handed_over == [("other", 0), ("other", 1)]
        bench.gates["slow", 0].set_result(b"")
        await bench.settle()
        assert bench.handed_over[2:] == [("slow", 0), ("slow", 1)]

    run(scenario)


def test_waits_for_room() -> None:
    """Nothing is begun beyond the budget, in which held results count too."""

    async def scenario() -> None:
        bench = Bench(max_bytes=100)
        await bench.ahead.add(bench.work("a", 0, held_bytes=50))
        await bench.ahead.add(bench.work("a", 1, held_bytes=10))
        bench.gates["a", 1].set_result(bytes(40))
        await bench.settle()
        assert bench.ahead.held_bytes == 100
        waiting = asyncio.create_task(bench.ahead.add(bench.work("b", 0, held_bytes=1)))
        await bench.settle()
        assert not waiting.done()
        bench.gates["a", 0].set_result(b"")
        await bench.settle()
        assert waiting.done()
        assert bench.ahead.held_bytes == 1
        bench.gates["b", 0].set_result(b"")
        await bench.settle()

    run(scenario)


def test_count_is_bounded() -> None:
    """However small the records are."""

    async def scenario() -> None:
        bench = Bench(max_count=1)
        await bench.ahead.add(bench.work("a", 0))
        waiting = asyncio.create_task(bench.ahead.add(bench.work("b", 0)))
        await bench.settle()
        assert not waiting.done()
        bench.gates["a", 0].set_result(b"")
        await waiting
        bench.gates["b", 0].set_result(b"")
        await bench.settle()

    run(scenario)


def test_one_larger_than_the_budget_is_taken_alone() -> None:
    """It does not wait for ever."""

    async def scenario() -> None:
        bench = Bench(max_bytes=10)
        await bench.ahead.add(bench.work("a", 0, held_bytes=500))
        bench.gates["a", 0].set_result(b"")
        await bench.settle()
        assert bench.handed_over == [("a", 0)]

    run(scenario)


def test_nothing_follows_a_failure() -> None:
    """No gap: what lies behind one that failed is not handed over, and the failure is told."""

    async def scenario() -> None:
        bench = Bench()
        for number in range(3):
            await bench.ahead.add(bench.work("a", number))
        bench.gates["a", 2].set_result(b"")
        bench.gates["a", 1].set_result(b"")
        broken = ArithmeticError("not the input's fault")
        bench.gates["a", 0].set_exception(broken)
        await bench.settle()
        assert bench.handed_over == []
        assert bench.errors[0] is broken

    run(scenario)
