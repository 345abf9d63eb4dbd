"""On a kernel that cannot isolate, a worker starts only if its settings allow it."""

import pytest

from erasestream.pipeline.runtime.sandbox.restrictions import Enforcement, Isolation
from erasestream.pipeline.stages.inference.isolation.process_pool import ProcessPool
from erasestream.pipeline.stages.inference.models.store import Installed
from erasestream.schemas.errors import Code, Refused
from erasestream.schemas.options import CutoutOptions
from tests.pipeline.stages.inference.isolation.escapes import status_of
from tests.pipeline.stages.inference.pictures import gradient, saved

LACKING = [
    "tests.pipeline.stages.inference.sandbox.without_landlock",
    "tests.pipeline.stages.inference.sandbox.without_seccomp",
]


@pytest.mark.parametrize("isolation", list(Isolation))
@pytest.mark.parametrize("program", LACKING)
async def test_no_worker_starts_without_isolation(
    tiny_model: Installed, program: str, isolation: Isolation
) -> None:
    """The worker process detects what is missing, and the parent gets its code."""
    pool = ProcessPool(model=tiny_model, children=1, program=program, isolation=isolation)
    with pytest.raises(Refused) as refused:
        await pool.start()
    assert refused.value.code is Code.ISOLATION_MISSING
    await pool.close()


@pytest.mark.parametrize("isolation", list(Isolation))
@pytest.mark.parametrize(("program", "filters"), [*zip(LACKING, ["2", "1"], strict=True)])
async def test_the_setting_allows_to_start_without_the_missing_mechanism(
    tiny_model: Installed, program: str, filters: str, isolation: Isolation
) -> None:
    """All others are in force; one filter is that of the test, which simulates the kernel."""
    pool = ProcessPool(
        model=tiny_model,
        children=1,
        program=program,
        isolation=isolation,
        enforcement=Enforcement.AS_FAR_AS_POSSIBLE,
    )
    await pool.start()
    (pid,) = pool.pids
    status = status_of(pid)
    cutout = await pool.cut_out(saved(gradient()), CutoutOptions())
    await pool.close()
    assert cutout.width == gradient().width
    assert (status["Seccomp_filters"], status["NoNewPrivs"]) == (filters, "1")
    assert int(status["CapEff"], 16) == 0
