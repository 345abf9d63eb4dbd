"""The budget of looking ahead: bytes, records and children are bounded."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pipeline.stages.inference.worker.lookahead_harness import LookAheadHarness, run


def test_a_job_waits_for_room() -> None:
    """Results that are held count too."""

    async def scenario() -> None:
        harness = LookAheadHarness(max_bytes=100)
        await harness.ahead.add(harness.job("a", 0, held_bytes=50))
        await harness.ahead.add(harness.job("a", 1, held_bytes=10))
        harness.gates["a", 1].set_result(bytes(40))
        await harness.settle()
        assert harness.ahead.held_bytes == 100
        waiting = asyncio.create_task(harness.ahead.add(harness.job("b", 0, held_bytes=1)))
        await harness.settle()
        assert not waiting.done()
        harness.gates["a", 0].set_result(b"")
        await harness.settle()
        assert waiting.done()
        assert harness.ahead.held_bytes == 1
        harness.gates["b", 0].set_result(b"")
        await harness.settle()

    run(scenario)


MAX_BYTES, MAX_RESULT = 200, 100
uploads = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 60), st.integers(1, MAX_RESULT)),
    min_size=1,
    max_size=40,
)
"""Partition, bytes, and bytes of the result."""


@settings(max_examples=300)
@given(uploads=uploads, children=st.integers(1, 3), data=st.data())
def test_held_bytes_are_bounded_whatever_finishes_when(
    uploads: list[tuple[str, int, int]], children: int, data: st.DataObject
) -> None:
    """Beyond the budget there is at most one result for each child and each partition.

    All are delivered in order, and no more are made at once than there are children.
    """

    async def scenario() -> None:
        harness = LookAheadHarness(max_bytes=MAX_BYTES, children=children)
        most = MAX_BYTES + (children + len({order for order, _, _ in uploads})) * MAX_RESULT
        jobs = [
            harness.job(order, number, held_bytes=held)
            for number, (order, held, _) in enumerate(uploads)
        ]
        adding = asyncio.create_task(harness.add_all(jobs))
        await harness.settle()
        while harness.making:
            assert len(harness.making) <= children
            order, number = data.draw(st.sampled_from(sorted(harness.making)))
            harness.gates[order, number].set_result(bytes(uploads[number][2]))
            await harness.settle()
            assert harness.ahead.held_bytes <= most
        await adding
        assert (harness.ahead.held_bytes, harness.errors) == (0, [])
        for each in "abc":
            expected = [n for n, (order, _, _) in enumerate(uploads) if order == each]
            assert [n for order, n in harness.delivered if order == each] == expected

    run(scenario)


def test_small_uploads_with_large_results_are_not_all_made() -> None:
    """Behind a slow one, only as many are made as there is room for."""

    async def scenario() -> None:
        harness = LookAheadHarness(max_bytes=MAX_BYTES, children=2)
        await harness.add_all([harness.job("a", number) for number in range(64)])
        await harness.settle()
        while behind := sorted(harness.making - {("a", 0)}):
            harness.gates[behind[0]].set_result(bytes(MAX_RESULT))
            await harness.settle()
        assert harness.ahead.held_bytes <= MAX_BYTES + 2 * MAX_RESULT
        harness.gates["a", 0].set_result(b"")
        await harness.settle()
        while harness.making:
            harness.gates[min(harness.making)].set_result(bytes(MAX_RESULT))
            await harness.settle()
        assert [number for _, number in harness.delivered] == list(range(64))

    run(scenario)


def test_the_count_of_records_is_bounded() -> None:

    async def scenario() -> None:
        harness = LookAheadHarness(max_count=1)
        await harness.ahead.add(harness.job("a", 0))
        waiting = asyncio.create_task(harness.ahead.add(harness.job("b", 0)))
        await harness.settle()
        assert not waiting.done()
        harness.gates["a", 0].set_result(b"")
        await waiting
        harness.gates["b", 0].set_result(b"")
        await harness.settle()

    run(scenario)


def test_an_upload_larger_than_the_budget_is_taken_alone() -> None:

    async def scenario() -> None:
        harness = LookAheadHarness(max_bytes=10)
        await harness.ahead.add(harness.job("a", 0, held_bytes=500))
        harness.gates["a", 0].set_result(b"")
        await harness.settle()
        assert harness.delivered == [("a", 0)]

    run(scenario)
