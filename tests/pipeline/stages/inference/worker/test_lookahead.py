"""Looking ahead: results in order within a partition, and independent between partitions."""

import asyncio
import weakref

from hypothesis import given
from hypothesis import strategies as st

from tests.pipeline.stages.inference.worker.lookahead_harness import LookAheadHarness, run


@given(st.permutations([("a", n) for n in range(4)] + [("b", n) for n in range(4)]))
def test_results_are_in_order_whatever_finishes_first(
    ends: list[tuple[str, int]],
) -> None:

    async def scenario() -> None:
        harness = LookAheadHarness()
        for number in range(4):
            for order in "ab":
                harness.ahead.add(harness.job(order, number))
        for end in ends:
            harness.gates[end].set_result(b"")
            await harness.settle()
        for order in "ab":
            assert [n for o, n in harness.delivered if o == order] == [0, 1, 2, 3]
        assert (harness.ahead.held_bytes, harness.errors) == (0, [])

    run(scenario)


def test_a_slow_record_holds_back_only_its_own_partition() -> None:

    async def scenario() -> None:
        harness = LookAheadHarness()
        for key in [("slow", 0), ("slow", 1), ("other", 0), ("other", 1)]:
            harness.ahead.add(harness.job(*key))
        for key in [("slow", 1), ("other", 0), ("other", 1)]:
            harness.gates[key].set_result(b"")
        await harness.settle()
        assert harness.delivered == [("other", 0), ("other", 1)]
        harness.gates["slow", 0].set_result(b"")
        await harness.settle()
        assert harness.delivered[2:] == [("slow", 0), ("slow", 1)]

    run(scenario)


def test_unwanted_jobs_are_cancelled() -> None:
    """A delivery that has begun completes; the records, read again, are delivered behind it."""

    async def scenario() -> None:
        harness = LookAheadHarness(children=4)
        harness.arrived = asyncio.get_running_loop().create_future()
        jobs = [harness.job("a", number) for number in range(4)]
        harness.add_all(jobs)
        harness.ahead.add(harness.job("a", 4))  # finds no free child
        await harness.settle()
        harness.gates["a", 0].set_result(b"")  # on its way
        await harness.settle()
        harness.ahead.add(harness.job("a", 5))
        harness.gates["a", 2].set_result(b"")  # made, and behind one that is not
        await harness.settle()
        harness.unwanted = {("a", number) for number in range(6)}
        harness.ahead.cancel_unwanted()
        await harness.settle()
        assert (harness.making, harness.ahead.held_bytes) == (set(), 1)
        harness.unwanted = set()
        again = [harness.job("a", number) for number in range(3)]
        harness.add_all(again)
        for number in range(3):
            harness.gates["a", number].set_result(b"")
        await harness.settle()
        assert (harness.delivering, harness.delivered) == ([("a", 0)], [])
        harness.arrived.set_result(None)
        await harness.settle()
        assert harness.delivered == [("a", 0), ("a", 0), ("a", 1), ("a", 2)]
        assert (harness.ahead.held_bytes, harness.errors) == (0, [])

    run(scenario)


def test_a_cancelled_job_holds_neither_room_nor_memory() -> None:
    """Not even one that had not begun yet."""

    async def scenario() -> None:
        harness = LookAheadHarness()
        made = harness.job("a", 1)
        harness.add_all([harness.job("a", 0), made])
        harness.gates["a", 1].set_result(bytes(50))
        await harness.settle()
        harness.ahead.add(harness.job("a", 2, held_bytes=9))  # and has no turn before it ends
        harness.unwanted = {("a", number) for number in range(3)}
        harness.ahead.cancel_unwanted()
        await harness.settle()
        assert (harness.ahead.held_bytes, harness.delivering, harness.errors) == (0, [], [])
        gone = weakref.ref(made.make)
        del made
        assert gone() is None

    run(scenario)


def test_nothing_is_delivered_behind_a_failure() -> None:
    """No gap; the failure is reported at once."""

    async def scenario() -> None:
        harness = LookAheadHarness()
        for number in range(3):
            harness.ahead.add(harness.job("a", number))
        harness.gates["a", 2].set_result(b"")
        harness.gates["a", 1].set_result(b"")
        broken = ArithmeticError("not the input's fault")
        harness.gates["a", 0].set_exception(broken)
        await harness.settle()
        assert harness.delivered == []
        assert harness.errors[0] is broken

    run(scenario)


def test_a_job_that_is_not_ready_occupies_no_child() -> None:
    """Those behind it wait; those of other partitions and lanes begin."""

    async def scenario() -> None:
        harness = LookAheadHarness(children=2)
        waiting = [harness.job("a1", number) for number in range(3)]
        is_ready = False
        waiting[0] = waiting[0]._replace(is_ready=lambda: is_ready)
        harness.add_all([*waiting, harness.job("a2", 0), harness.job("b1", 0)])
        await harness.settle()
        assert harness.begun == [("a2", 0), ("b1", 0)]
        await harness.finish(("a2", 0, 1), ("b1", 0, 1))
        harness.ahead.look_again()
        await harness.settle()
        assert harness.delivered == [("a2", 0), ("b1", 0)]
        is_ready = True
        harness.ahead.look_again()
        await harness.settle()
        await harness.finish(*(("a1", number, 1) for number in range(3)))
        assert harness.delivered[2:] == [("a1", number) for number in range(3)]

    run(scenario)
