"""Looking ahead: order within a partition, no waiting between them, and a bounded budget."""

import asyncio
import weakref
from collections.abc import Awaitable, Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from erasestream.pipeline.stages.inference.worker.lookahead import LookAhead, Work
from erasestream.schemas.codec.cloudevents import Wire


class LookAheadHarness:
    """Works whose end the test decides, and what was handed over."""

    def __init__(self, *, max_bytes: int = 1000, max_count: int = 100, children: int = 100) -> None:
        self.handed_over: list[tuple[str, int]] = []
        self.errors: list[BaseException] = []
        self.gates: dict[tuple[str, int], asyncio.Future[bytes]] = {}
        self.making: set[tuple[str, int]] = set()
        self.unwanted: set[tuple[str, int]] = set()
        self.on_their_way: list[tuple[str, int]] = []
        self.arrived: asyncio.Future[None] | None = None
        """What is handed over arrives only when this is there, if it is set."""
        self.ahead = LookAhead(
            on_failure=self.errors.append,
            children=children,
            max_bytes=max_bytes,
            max_count=max_count,
        )

    def work(self, order: str, number: int, *, held_bytes: int = 1) -> Work:
        """One that is made when its gate is opened."""
        gate = self.gates[order, number] = asyncio.get_running_loop().create_future()

        async def make() -> Wire:
            self.making.add((order, number))
            try:
                return Wire([], await gate)
            finally:
                self.making.remove((order, number))

        async def hand_over(_: Wire) -> None:
            self.on_their_way.append((order, number))
            await asyncio.sleep(0)
            if self.arrived:
                await self.arrived
            self.handed_over.append((order, number))

        return Work(
            order=order,
            held_bytes=held_bytes,
            make=make,
            hand_over=hand_over,
            is_wanted=lambda: (order, number) not in self.unwanted,
        )

    async def add_all(self, works: list[Work]) -> None:
        """One after the other, each when there is room."""
        for work in works:
            await self.ahead.add(work)

    async def settle(self) -> None:
        """Let everything run that can."""
        for _ in range(200):
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
        bench = LookAheadHarness()
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
        bench = LookAheadHarness()
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


def test_what_is_not_wanted_is_given_up() -> None:
    """But what is on its way arrives; what is done again in its place comes behind it."""

    async def scenario() -> None:
        bench = LookAheadHarness(max_count=4)
        bench.arrived = asyncio.get_running_loop().create_future()
        works = [bench.work("a", number) for number in range(4)]
        await bench.add_all(works)
        waiting = asyncio.create_task(bench.ahead.add(bench.work("a", 4)))
        bench.gates["a", 0].set_result(b"")  # on its way
        bench.gates["a", 2].set_result(b"")  # made, and behind one that is not
        await bench.settle()
        assert not waiting.done()
        bench.unwanted = {("a", number) for number in range(5)}
        bench.ahead.give_up_unwanted()
        await bench.settle()
        assert waiting.done()
        assert (bench.making, bench.ahead.held_bytes) == (set(), 1)
        bench.unwanted = set()
        again = [bench.work("a", number) for number in range(3)]
        await bench.add_all(again)
        for number in range(3):
            bench.gates["a", number].set_result(b"")
        await bench.settle()
        assert (bench.on_their_way, bench.handed_over) == ([("a", 0)], [])
        bench.arrived.set_result(None)
        await bench.settle()
        assert bench.handed_over == [("a", 0), ("a", 0), ("a", 1), ("a", 2)]
        assert (bench.ahead.held_bytes, bench.errors) == (0, [])

    run(scenario)


def test_what_is_given_up_at_once_holds_nothing() -> None:
    """Neither room nor memory, also if it had not begun yet."""

    async def scenario() -> None:
        bench = LookAheadHarness()
        made = bench.work("a", 1)
        await bench.add_all([bench.work("a", 0), made])
        bench.gates["a", 1].set_result(bytes(50))
        await bench.settle()
        await bench.ahead.add(bench.work("a", 2, held_bytes=9))  # and has no turn before it ends
        bench.unwanted = {("a", number) for number in range(3)}
        bench.ahead.give_up_unwanted()
        await bench.settle()
        assert (bench.ahead.held_bytes, bench.on_their_way, bench.errors) == (0, [], [])
        gone = weakref.ref(made.make)
        del made
        assert gone() is None

    run(scenario)


def test_waits_for_room() -> None:
    """Nothing is begun beyond the budget, in which held results count too."""

    async def scenario() -> None:
        bench = LookAheadHarness(max_bytes=100)
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


MAX_BYTES, MAX_RESULT = 200, 100
uploads = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 60), st.integers(1, MAX_RESULT)),
    min_size=1,
    max_size=40,
)
"""Partition, bytes, and bytes of the result."""


@settings(deadline=None, max_examples=300)
@given(uploads=uploads, children=st.integers(1, 3), data=st.data())
def test_bytes_are_bounded_whatever_ends_when(
    uploads: list[tuple[str, int, int]], children: int, data: st.DataObject
) -> None:
    """Beyond the budget there is one result for each child and each partition, and no more.

    All are handed over, in order, and no more are made at once than there are children.
    """

    async def scenario() -> None:
        bench = LookAheadHarness(max_bytes=MAX_BYTES, children=children)
        most = MAX_BYTES + (children + len({order for order, _, _ in uploads})) * MAX_RESULT
        works = [
            bench.work(order, number, held_bytes=held)
            for number, (order, held, _) in enumerate(uploads)
        ]
        adding = asyncio.create_task(bench.add_all(works))
        await bench.settle()
        while bench.making:
            assert len(bench.making) <= children
            order, number = data.draw(st.sampled_from(sorted(bench.making)))
            bench.gates[order, number].set_result(bytes(uploads[number][2]))
            await bench.settle()
            assert bench.ahead.held_bytes <= most
        await adding
        assert (bench.ahead.held_bytes, bench.errors) == (0, [])
        for each in "abc":
            expected = [n for n, (order, _, _) in enumerate(uploads) if order == each]
            assert [n for order, n in bench.handed_over if order == each] == expected

    run(scenario)


def test_small_uploads_with_large_results_are_not_all_made() -> None:
    """Behind one that takes long, only so many are made as there is room for."""

    async def scenario() -> None:
        bench = LookAheadHarness(max_bytes=MAX_BYTES, children=2)
        await bench.add_all([bench.work("a", number) for number in range(64)])
        await bench.settle()
        while behind := sorted(bench.making - {("a", 0)}):
            bench.gates[behind[0]].set_result(bytes(MAX_RESULT))
            await bench.settle()
        assert bench.ahead.held_bytes <= MAX_BYTES + 2 * MAX_RESULT
        bench.gates["a", 0].set_result(b"")
        await bench.settle()
        while bench.making:
            bench.gates[min(bench.making)].set_result(bytes(MAX_RESULT))
            await bench.settle()
        assert [number for _, number in bench.handed_over] == list(range(64))

    run(scenario)


def test_count_is_bounded() -> None:
    """However small the records are."""

    async def scenario() -> None:
        bench = LookAheadHarness(max_count=1)
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
        bench = LookAheadHarness(max_bytes=10)
        await bench.ahead.add(bench.work("a", 0, held_bytes=500))
        bench.gates["a", 0].set_result(b"")
        await bench.settle()
        assert bench.handed_over == [("a", 0)]

    run(scenario)


def test_nothing_follows_a_failure() -> None:
    """No gap: what lies behind one that failed is not handed over, and the failure is told."""

    async def scenario() -> None:
        bench = LookAheadHarness()
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
