"""Malicious files in real children: each gets its answer.

`make faults ONLY=hostile` sends many more of them through the whole stage.
"""

import asyncio
import os
from collections import Counter

from erasestream.pipeline.stages.inference.isolation.process_pool import ProcessPool
from erasestream.pipeline.stages.inference.models.store import Installed
from erasestream.schemas.errors import InvalidImage
from erasestream.schemas.options import CutoutOptions
from tests.faults import hostile_images
from tests.faults.hostile_answers import complaint_about_cutout, complaint_about_refusal
from tests.faults.hostile_images import Case, case, kind_of

SEED = int(os.environ.get("HOSTILE_SEED", "20"))
COUNT = int(os.environ.get("HOSTILE_COUNT", "300"))
LONG_S = 60.0
"""Valid pictures are small: even an overloaded machine needs less for one."""


def test_a_case_is_replayed_by_its_name() -> None:
    """Seed and index determine the bytes; another seed gives others."""
    for index in range(40):
        assert case(SEED, index) == case(SEED, index)
    assert {case(1, n).data for n in range(9)} != {case(2, n).data for n in range(9)}


def test_every_kind_of_case_occurs() -> None:
    """In proportion to its weight."""
    drawn = [kind_of(SEED, n) for n in range(1500)]
    kinds = Counter(drawn)
    assert kinds.keys() == hostile_images.KINDS.keys()
    assert 200 < kinds["valid"] < 400
    for kind in kinds:
        first = drawn.index(kind)
        assert case(SEED, first).name == f"{SEED}/{first} {kind}"


async def test_every_hostile_file_gets_its_answer(tiny_model: Installed) -> None:
    """A cut-out or a code for each; valid pictures among them are cut out."""
    pool = ProcessPool(model=tiny_model, children=2, deadline_s=LONG_S)
    await pool.start()
    room = asyncio.Semaphore(2)

    async def answer(each: Case) -> str | None:
        async with room:
            try:
                cutout = await pool.cut_out(each.data, CutoutOptions())
            except InvalidImage as refused:
                return complaint_about_refusal(each, refused.code)
            return complaint_about_cutout(each, cutout.data)

    try:
        complaints = await asyncio.gather(*(answer(case(SEED, n)) for n in range(COUNT)))
    finally:
        await pool.close()
    assert [complaint for complaint in complaints if complaint] == []
