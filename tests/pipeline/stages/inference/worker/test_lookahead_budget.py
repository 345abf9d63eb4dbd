"""The budget of looking ahead: bytes, records and children are bounded, and shared."""

from hypothesis import given, settings
from hypothesis import strategies as st

from erasestream.pipeline.stages.inference.worker import job_queue
from tests.pipeline.stages.inference.worker.lookahead_harness import LookAheadHarness, run


def test_a_partition_waits_for_room_in_its_share() -> None:
    """Results that are held count too."""

    async def scenario() -> None:
        harness = LookAheadHarness(max_bytes=200)
        harness.add_all([harness.job("a", 0, held_bytes=50), harness.job("a", 1, held_bytes=10)])
        await harness.settle()
        await harness.finish(("a", 1, 40))
        assert harness.ahead.held_bytes == 100
        harness.ahead.add(harness.job("a", 2))
        await harness.settle()
        assert harness.making == {("a", 0)}
        await harness.finish(("a", 0, 0))
        assert harness.making == {("a", 2)}
        await harness.finish(("a", 2, 0))
        assert harness.ahead.held_bytes == 0

    run(scenario)


def test_what_a_slow_image_holds_back_leaves_room_for_others() -> None:
    """Also where one lane held all that it could before the other lane had an upload."""

    async def scenario() -> None:
        harness = LookAheadHarness(max_count=16, children=4)
        harness.add_all([harness.job("a", number) for number in range(20)])
        await harness.settle()
        await harness.finish(*(("a", number, 1) for number in range(1, 8)))
        assert harness.making == {("a", 0)}  # slow; the others are made, and wait for it
        harness.add_all([harness.job("b", number) for number in range(20)])
        await harness.settle()
        assert harness.making == {("a", 0), ("b", 0), ("b", 1)}
        await harness.finish(*(("b", number, 1) for number in range(20)))
        assert [number for _, number in harness.delivered] == list(range(20))

    run(scenario)


def test_lanes_take_turns_however_many_partitions_one_has() -> None:

    async def scenario() -> None:
        harness = LookAheadHarness(children=1)
        harness.add_all([harness.job(f"a{n % 4}", n) for n in range(40)])
        harness.add_all([harness.job("b", n) for n in range(3)])
        await harness.settle()
        while harness.making:
            await harness.finish((*min(harness.making), 1))
        # The first one began before there was another.
        assert [order[0] for order, _ in harness.begun[1:7]] == list("ababab")
        assert {order for order, _ in harness.begun[7:11]} == {"a0", "a1", "a2", "a3"}
        assert len(harness.delivered) == 43

    run(scenario)


def test_a_partition_is_full_until_half_of_its_jobs_have_begun() -> None:

    async def scenario() -> None:
        harness = LookAheadHarness(children=1)
        most = job_queue.MAX_COUNT
        harness.add_all([harness.job("a", number) for number in range(most)])
        assert not harness.full
        harness.ahead.add(harness.job("a", most))  # the first one has begun
        assert harness.full == {"a"}
        harness.ahead.add(harness.job("b", 0))
        await harness.settle()
        for number in range(most // 2):
            assert harness.full == {"a"}
            await harness.finish(("a", number, 1))
            if number == 0:
                await harness.finish(("b", 0, 1))
        await harness.finish(("a", most // 2, 1))
        assert not harness.full

    run(scenario)


def test_large_uploads_fill_a_partition_sooner() -> None:

    async def scenario() -> None:
        harness = LookAheadHarness(children=1)
        for number in range(2):
            harness.ahead.add(harness.job("a", number, held_bytes=job_queue.MAX_BYTES))
        assert harness.full == {"a"}
        await harness.settle()
        await harness.finish(("a", 0, 1))
        assert not harness.full

    run(scenario)


MAX_BYTES, MAX_UPLOAD, MAX_RESULT = 200, 60, 100
uploads = st.lists(
    st.tuples(
        st.sampled_from(["a", "b1", "b2"]),
        st.integers(0, MAX_UPLOAD),
        st.integers(1, MAX_RESULT),
    ),
    min_size=1,
    max_size=40,
)
"""Partition, bytes, and bytes of the result."""


@settings(max_examples=300)
@given(uploads=uploads, children=st.integers(1, 3), data=st.data())
def test_held_bytes_are_bounded_whatever_finishes_when(
    uploads: list[tuple[str, int, int]], children: int, data: st.DataObject
) -> None:
    """Beyond the budget: one result for each child, one upload and result for each partition.

    All are delivered in order, and no more are made at once than there are children.
    """

    async def scenario() -> None:
        harness = LookAheadHarness(max_bytes=MAX_BYTES, children=children)
        partitions = {order for order, _, _ in uploads}
        most = MAX_BYTES + children * MAX_RESULT + len(partitions) * (MAX_UPLOAD + MAX_RESULT)
        harness.add_all(
            [
                harness.job(order, number, held_bytes=held)
                for number, (order, held, _) in enumerate(uploads)
            ]
        )
        await harness.settle()
        while harness.making:
            assert len(harness.making) <= children
            order, number = data.draw(st.sampled_from(sorted(harness.making)))
            await harness.finish((order, number, uploads[number][2]))
            assert harness.ahead.held_bytes <= most
        assert (harness.ahead.held_bytes, harness.errors) == (0, [])
        for each in partitions:
            expected = [n for n, (order, _, _) in enumerate(uploads) if order == each]
            assert [n for order, n in harness.delivered if order == each] == expected

    run(scenario)


def test_small_uploads_with_large_results_are_not_all_made() -> None:
    """Behind a slow one, only as many are made as there is room for."""

    async def scenario() -> None:
        harness = LookAheadHarness(max_bytes=MAX_BYTES, children=2)
        harness.add_all([harness.job("a", number) for number in range(64)])
        await harness.settle()
        while behind := sorted(harness.making - {("a", 0)}):
            await harness.finish((*behind[0], MAX_RESULT))
        assert harness.ahead.held_bytes <= MAX_BYTES // 2 + 2 * MAX_RESULT
        await harness.finish(("a", 0, 0))
        while harness.making:
            await harness.finish((*min(harness.making), MAX_RESULT))
        assert [number for _, number in harness.delivered] == list(range(64))

    run(scenario)


def test_an_upload_larger_than_the_budget_is_taken() -> None:

    async def scenario() -> None:
        harness = LookAheadHarness(max_bytes=10)
        harness.ahead.add(harness.job("a", 0, held_bytes=500))
        await harness.settle()
        await harness.finish(("a", 0, 1))
        assert harness.delivered == [("a", 0)]

    run(scenario)
