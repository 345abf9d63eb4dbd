"""Starting processes: refusals, retries, and nothing left open."""

import asyncio
import os
import resource
import signal
import sys
from pathlib import Path

import psutil
import pytest

from erasestream.pipeline.stages.inference.isolation.process_pool import ProcessPool
from erasestream.pipeline.stages.inference.models.store import Installed
from erasestream.schemas.errors import Code, InvariantBroken, Refused
from tests.pipeline.stages.inference.conftest import DEADLINE_S
from tests.pipeline.stages.inference.isolation.pool_harness import (
    OPTIONS,
    PHOTO,
    until,
)


async def test_a_missing_or_changed_model_is_refused(tmp_path: Path, tiny_model: Installed) -> None:
    """No process is left."""
    before = psutil.Process().children()
    missing = tiny_model.model_copy(update={"folder": tmp_path})
    with pytest.raises(Refused) as refused:
        await ProcessPool(model=missing, children=2).start()
    assert refused.value.code is Code.MISSING_MODEL
    (tmp_path / "installed.json").write_text("{}")
    with pytest.raises(Refused) as refused:
        await ProcessPool(model=missing, children=2).start()
    assert refused.value.code is Code.MODEL_REFUSED
    assert psutil.Process().children() == before


async def test_a_process_that_does_not_become_ready_is_refused(tiny_model: Installed) -> None:
    """After a deadline, or at once if it has too little memory."""
    before = psutil.Process().children()
    for limits in ({"start_deadline_s": 0.01}, {"memory_bytes": 1 << 20}):
        with pytest.raises(Refused, match="ready"):
            await ProcessPool(model=tiny_model, children=1, **limits).start()  # type: ignore[arg-type]
    assert psutil.Process().children() == before


async def test_images_fail_if_a_process_cannot_be_replaced(
    stalling_model: Installed, tmp_path: Path
) -> None:
    """They do not wait forever."""
    folder = tmp_path / "model"
    folder.mkdir()
    for file in stalling_model.folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    pool = ProcessPool(model=Installed.read(folder), children=1)
    await pool.start()
    (folder / "model.onnx").unlink()
    (pid,) = pool.pids
    os.kill(pid, signal.SIGKILL)
    results = await asyncio.gather(
        *(pool.cut_out(PHOTO, OPTIONS) for _ in range(3)), return_exceptions=True
    )
    assert [type(result) for result in results] == [InvariantBroken] * 3
    await pool.close()


async def test_replacing_a_process_is_retried(pool: ProcessPool) -> None:
    """The system has no descriptor left, for a moment."""
    (zygote,) = pool.pids
    few, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, most))
    try:
        os.kill(zygote, signal.SIGKILL)
        await until(lambda: not pool.pids)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (few, most))
    async with asyncio.timeout(DEADLINE_S):
        assert (await pool.cut_out(PHOTO, OPTIONS)).width == 200


async def test_an_unexpected_error_of_a_start_reaches_images_that_wait(
    pool: ProcessPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stage is to end with it."""
    monkeypatch.setattr(sys, "executable", "no name of a program: \0")
    (zygote,) = pool.pids
    os.kill(zygote, signal.SIGKILL)
    async with asyncio.timeout(DEADLINE_S):
        await until(lambda: not pool.pids)
        with pytest.raises(InvariantBroken) as broken:
            await pool.cut_out(PHOTO, OPTIONS)
    cause = broken.value.__cause__
    assert cause is not None
    assert isinstance(cause.__cause__, ValueError)


async def test_a_start_that_fails_leaves_no_descriptor(
    tiny_model: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it is retried, and even while the error is referenced."""
    monkeypatch.setattr(sys, "executable", "/no/such/program")
    before = psutil.Process().num_fds()
    with pytest.raises(FileNotFoundError) as failed:
        await ProcessPool(model=tiny_model, children=1).start()
    assert psutil.Process().num_fds() == before
    assert failed.value.filename == sys.executable
