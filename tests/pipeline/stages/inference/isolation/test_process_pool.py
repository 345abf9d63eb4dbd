"""The pool: one image never harms another, and every image gets exactly one answer."""

import asyncio
import contextlib
import io
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from erasestream.pipeline.stages.inference.cutout_pipeline import cut_out_once
from erasestream.pipeline.stages.inference.imaging.cutout_image import CutoutImage, Step
from erasestream.pipeline.stages.inference.imaging.limits import Limits
from erasestream.pipeline.stages.inference.isolation import protocol, shared_memory
from erasestream.pipeline.stages.inference.isolation.job import JobBuffers
from erasestream.pipeline.stages.inference.isolation.process_pool import ProcessPool
from erasestream.pipeline.stages.inference.isolation.protocol import (
    Outcome,
    ProtocolViolation,
    ReplyKind,
)
from erasestream.pipeline.stages.inference.isolation.replies import read_cutout
from erasestream.pipeline.stages.inference.models.segmenter import Segmenter
from erasestream.pipeline.stages.inference.models.store import Installed
from erasestream.pipeline.stages.inference.sandbox.restrictions import Isolation
from erasestream.schemas.errors import Code, InvalidImage, InvariantBroken, Refused
from erasestream.schemas.options import CutoutOptions, OutputFormat
from tests.pipeline.stages.inference.conftest import DEADLINE_S, is_alive, wait_until
from tests.pipeline.stages.inference.pictures import gradient, png_bomb, saved

OPTIONS = CutoutOptions()
PHOTO = saved(gradient(200, 120), "JPEG", quality=90)
BLACK = saved(Image.new("RGB", (64, 64)))
"""The stalling model never ends with it."""
SOON_S = 5.0
"""A deadline that is waited for; on the busiest machine all else is done long before it."""


async def refusal(pool: ProcessPool, image: bytes) -> Code:
    """The code that the pool refuses this image with."""
    with pytest.raises(InvalidImage) as refused:
        await pool.cut_out(image, OPTIONS)
    return refused.value.code


def working(pool: ProcessPool) -> list[int]:
    """The children that have an image now."""
    found = []
    for pid in pool.pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [child.pid for child in psutil.Process(pid).children()]
    return found


async def until(condition: Callable[[], bool]) -> None:
    """Poll while the pool goes on; fail after 30 seconds."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 (what is waited for happens in other processes)
            await asyncio.sleep(0.02)


async def stalled(pool: ProcessPool) -> tuple["asyncio.Task[CutoutImage]", int]:
    """An image that is being worked on for ever, and the child that does it."""
    before = set(working(pool))
    task = asyncio.create_task(pool.cut_out(BLACK, OPTIONS))
    await until(lambda: bool(set(working(pool)) - before))  # one of before may just be buried
    (pid,) = set(working(pool)) - before
    await until(lambda: psutil.Process(pid).cpu_times().user > 0.2)
    return task, pid


@pytest.mark.parametrize("output", list(OutputFormat))
async def test_a_cutout_comes_out(pool: ProcessPool, output: OutputFormat) -> None:
    """The same bytes as the work in one process gives, with its size and steps."""
    options = CutoutOptions(format=output)
    cutout = await pool.cut_out(PHOTO, options)
    assert cutout.data == cut_out_once(Segmenter(pool.model), PHOTO, options).data
    assert (cutout.content_type, cutout.width, cutout.height) == (output.content_type, 200, 120)
    assert list(cutout.steps_ms) == list(Step)
    assert all(time > 0 for time in cutout.steps_ms.values())
    assert Image.open(io.BytesIO(cutout.data)).size == (200, 120)


async def test_more_images_than_children_each_get_their_own_cutout(pool: ProcessPool) -> None:
    """Nobody is handed another's picture, however they overlap."""
    colours = [(200 + step, 255 - step, 230) for step in range(12)]
    images = [saved(Image.new("RGB", (40 + i, 30), c)) for i, c in enumerate(colours)]
    cutouts = await asyncio.gather(*(pool.cut_out(image, OPTIONS) for image in images))
    for number, (colour, cutout) in enumerate(zip(colours, cutouts, strict=True)):
        picture = np.asarray(Image.open(io.BytesIO(cutout.data)))
        assert picture.shape == (30, 40 + number, 4)
        assert (picture[..., :3] == colour).all()


async def test_what_is_wrong_with_an_image_is_told(pool: ProcessPool) -> None:
    """Refusals cross with their codes, and cost no child its life."""
    pids = pool.pids
    assert await refusal(pool, b"") is Code.EMPTY
    assert await refusal(pool, b"no image") is Code.UNSUPPORTED_FORMAT
    assert await refusal(pool, PHOTO[:3000]) is Code.TRUNCATED
    assert await refusal(pool, png_bomb(20_000, 20_000)) is Code.TOO_MANY_PIXELS
    assert await refusal(pool, PHOTO + bytes(25_000_000)) is Code.TOO_LARGE
    assert pool.pids == pids


async def test_limits_may_be_lowered(tiny_model: Installed) -> None:
    """What the worker is set to take is what the child refuses beyond, and what is told."""
    image = saved(gradient())
    fewer = Limits(max_pixels=gradient().width * gradient().height - 1)
    for limits, code, limit in (
        (fewer, Code.TOO_MANY_PIXELS, "at most 0.006143 megapixels"),
        (
            Limits(max_bytes=len(image) - 1),
            Code.TOO_LARGE,
            f"at most {(len(image) - 1) / 1e6:g} MB",
        ),
    ):
        pool = ProcessPool(model=tiny_model, children=1, limits=limits)
        await pool.start()
        try:
            with pytest.raises(InvalidImage, match=limit) as refused:
                await pool.cut_out(image, OPTIONS)
            assert refused.value.code is code
        finally:
            await pool.close()


async def test_a_child_that_is_killed_costs_one_image(pool: ProcessPool) -> None:
    """The image that it worked on fails; another at the same time, and all later ones, do not."""
    task, pid = await stalled(pool)
    beside = asyncio.create_task(pool.cut_out(PHOTO, OPTIONS))
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(InvalidImage) as refused:
        await task
    assert refused.value.code is Code.PROCESSING_CRASHED
    assert (await beside).width == 200
    for cutout in await asyncio.gather(*(pool.cut_out(PHOTO, OPTIONS) for _ in range(4))):
        assert cutout.width == 200


async def test_no_process_sees_two_images(pool: ProcessPool) -> None:
    """A child ends with its image, and the zygote itself stays."""
    zygotes = pool.pids
    seen = []
    for _ in range(3):
        task, pid = await stalled(pool)
        seen.append(pid)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        wait_until(lambda pid=pid: not is_alive(pid))  # type: ignore[misc]
    assert len(set(seen)) == 3
    assert pool.pids == zygotes
    await until(lambda: not working(pool))


async def test_a_zygote_that_ended_while_idle_costs_no_image(pool: ProcessPool) -> None:
    """Another is started, which does what comes next."""
    (zygote,) = pool.pids
    os.kill(zygote, signal.SIGKILL)
    wait_until(lambda: not is_alive(zygote))
    for _ in range(3):
        assert (await pool.cut_out(PHOTO, OPTIONS)).width == 200
    assert zygote not in pool.pids


async def test_an_image_ends_only_so_many_zygotes(pool: ProcessPool) -> None:
    """It is tried again once, and then fails: it does not come back for ever."""
    task, _ = await stalled(pool)
    for _ in range(2):
        await until(lambda: bool(working(pool)))
        (child,), (zygote,) = working(pool), pool.pids
        os.kill(zygote, signal.SIGKILL)
        await until(lambda zygote=zygote: zygote not in pool.pids)  # type: ignore[misc]
        wait_until(lambda child=child: not is_alive(child))  # type: ignore[misc]
    with pytest.raises(InvalidImage) as refused:
        await task
    assert refused.value.code is Code.PROCESSING_CRASHED
    assert (await pool.cut_out(PHOTO, OPTIONS)).width == 200


async def test_a_silent_zygote_is_killed_with_its_child(tiny_model: Installed) -> None:
    """It did not end the child at the deadline, so the worker ends both, and goes on."""
    hostile = "tests.pipeline.stages.inference.isolation.hostile_zygote"
    pool = ProcessPool(model=tiny_model, children=1, deadline_s=SOON_S, program=hostile)
    await pool.start()
    task = asyncio.create_task(pool.cut_out(b"sleep", OPTIONS))
    await until(lambda: bool(working(pool)))
    (zygote,), (child,) = pool.pids, working(pool)
    os.kill(zygote, signal.SIGSTOP)
    with pytest.raises(InvalidImage) as refused:
        await task
    assert refused.value.code is Code.PROCESSING_TIMEOUT
    assert (await pool.cut_out(b"who am i", OPTIONS)).width == 1
    assert zygote not in pool.pids
    wait_until(lambda: not is_alive(zygote))
    wait_until(lambda: not is_alive(child))
    await pool.close()


@pytest.mark.parametrize("isolation", list(Isolation))
async def test_an_image_that_takes_too_long_is_given_up(
    stalling_model: Installed, isolation: Isolation
) -> None:
    """Its process is killed, it gets a code, and the next image another process."""
    pool = ProcessPool(model=stalling_model, children=1, deadline_s=SOON_S, isolation=isolation)
    await pool.start()
    before = pool.pids
    assert await refusal(pool, BLACK) is Code.PROCESSING_TIMEOUT
    assert (await pool.cut_out(PHOTO, OPTIONS)).width == 200
    assert (pool.pids == before) is (isolation is Isolation.PER_IMAGE)
    await pool.close()


@pytest.mark.parametrize("isolation", list(Isolation))
async def test_an_image_that_nobody_waits_for_leaves_no_answer_behind(
    stalling_model: Installed, isolation: Isolation
) -> None:
    """After a cancelled call the next image gets its own cut-out, from another process."""
    pool = ProcessPool(model=stalling_model, children=1, isolation=isolation)
    await pool.start()
    task = asyncio.create_task(pool.cut_out(BLACK, OPTIONS))
    await asyncio.sleep(0.1)
    task.cancel()
    assert (await pool.cut_out(PHOTO, OPTIONS)).width == 200
    await pool.close()


async def test_a_long_lived_process_that_is_killed_costs_its_image(
    stalling_model: Installed,
) -> None:
    """It worked on the image itself, which is therefore not tried again."""
    pool = ProcessPool(model=stalling_model, children=1, isolation=Isolation.LONG_LIVED)
    await pool.start()
    (pid,) = pool.pids
    task = asyncio.create_task(pool.cut_out(BLACK, OPTIONS))
    before = psutil.Process(pid).cpu_times().user
    await until(lambda: psutil.Process(pid).cpu_times().user > before + 0.2)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(InvalidImage) as refused:
        await task
    assert refused.value.code is Code.PROCESSING_CRASHED
    assert (await pool.cut_out(PHOTO, OPTIONS)).width == 200
    await pool.close()


async def test_an_image_that_needs_too_much_memory_fails_alone(tiny_model: Installed) -> None:
    """The bound is the child's, and so is the end."""
    probe = ProcessPool(model=tiny_model, children=1)
    await probe.start()
    (pid,) = probe.pids
    needed = psutil.Process(pid).memory_info().vms
    await probe.close()
    pool = ProcessPool(model=tiny_model, children=1, memory_bytes=needed + 100_000_000)
    await pool.start()
    large = saved(Image.new("RGB", (6000, 5000), "white"))
    assert await refusal(pool, large) is Code.PROCESSING_CRASHED
    assert (await pool.cut_out(PHOTO, OPTIONS)).width == 200
    await pool.close()


async def test_a_model_that_is_missing_or_changed_starts_no_pool(tmp_path: Path) -> None:
    """The code says which, and no process is left."""
    before = psutil.Process().children()
    missing = Installed.model_construct(folder=tmp_path)
    with pytest.raises(Refused) as refused:
        await ProcessPool(model=missing, children=2).start()
    assert refused.value.code is Code.MISSING_MODEL
    (tmp_path / "installed.json").write_text("{}")
    with pytest.raises(Refused) as refused:
        await ProcessPool(model=missing, children=2).start()
    assert refused.value.code is Code.MODEL_REFUSED
    assert psutil.Process().children() == before


async def test_a_child_that_does_not_get_ready_is_not_waited_for(tiny_model: Installed) -> None:
    """Starting has a deadline, and too little memory ends it at once."""
    before = psutil.Process().children()
    for limits in ({"start_deadline_s": 0.01}, {"memory_bytes": 1 << 20}):
        with pytest.raises(Refused, match="ready"):
            await ProcessPool(model=tiny_model, children=1, **limits).start()  # type: ignore[arg-type]
    assert psutil.Process().children() == before


async def test_children_that_can_not_be_replaced_stop_the_pool(
    stalling_model: Installed, tmp_path: Path
) -> None:
    """Nobody waits for ever for a child that will not come."""
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


async def test_a_zygote_that_can_not_be_started_at_once_is_tried_again(pool: ProcessPool) -> None:
    """The system has no descriptor left, for a moment: no image waits for ever."""
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


async def test_whatever_else_a_start_fails_with_reaches_who_waits(
    pool: ProcessPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what nobody thought of: the process is to end, and to say why."""
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
    """However often it is tried again, and whoever keeps the error."""
    monkeypatch.setattr(sys, "executable", "/no/such/program")
    before = psutil.Process().num_fds()
    with pytest.raises(FileNotFoundError) as failed:
        await ProcessPool(model=tiny_model, children=1).start()
    assert psutil.Process().num_fds() == before
    assert failed.value.filename == sys.executable


async def test_a_fork_that_fails_is_tried_again(tiny_model: Installed) -> None:
    """The zygote goes on, and so do the images that wait."""
    pool = ProcessPool(
        model=tiny_model,
        children=2,
        program="tests.pipeline.stages.inference.isolation.crowded_zygote",
    )
    await pool.start()
    before = pool.pids
    for cutout in await asyncio.gather(*(pool.cut_out(PHOTO, OPTIONS) for _ in range(3))):
        assert cutout.width == 200
    assert pool.pids == before
    await pool.close()


async def test_a_child_that_ends_as_its_image_is_given_up_costs_nothing_else(
    pool: ProcessPool,
) -> None:
    """The zygote learns of both at once, and buries one child once."""
    before = pool.pids
    (zygote,) = before
    task, child = await stalled(pool)
    os.kill(zygote, signal.SIGSTOP)
    await until(lambda: psutil.Process(zygote).status() == psutil.STATUS_STOPPED)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    os.kill(child, signal.SIGKILL)
    wait_until(lambda: not is_alive(child))
    os.kill(zygote, signal.SIGCONT)
    assert (await pool.cut_out(PHOTO, OPTIONS)).width == 200
    assert pool.pids == before


@pytest.mark.parametrize(
    "word", [Outcome.REFUSED, Outcome.FORK_FAILED, Outcome.LOADED, Outcome.CRASHED]
)
async def test_no_word_of_a_long_lived_process_ends_the_worker(
    tiny_model: Installed, word: Outcome
) -> None:
    """Else the image would come back after the restart, and end the next one."""
    pool = ProcessPool(
        model=tiny_model,
        children=1,
        isolation=Isolation.LONG_LIVED,
        program="tests.pipeline.stages.inference.isolation.hostile_zygote",
    )
    await pool.start()
    assert await refusal(pool, word.name.encode()) is Code.PROCESSING_CRASHED
    assert (await pool.cut_out(b"who am i", OPTIONS)).width == 1
    await pool.close()


async def test_closing_ends_every_child_and_refuses_what_waits(stalling_model: Installed) -> None:
    """What was being worked on is not called a crash: it would become a failed result."""
    pool = ProcessPool(model=stalling_model, children=1)
    await pool.start()
    task, pid = await stalled(pool)
    waiting = asyncio.create_task(pool.cut_out(PHOTO, OPTIONS))
    await asyncio.sleep(0)
    await pool.close()
    for each in (task, waiting, asyncio.create_task(pool.cut_out(PHOTO, OPTIONS))):
        with pytest.raises(Refused) as refused:
            await each
        assert refused.value.code is Code.CLOSED
    # It is killed by now; the kernel may take a moment to bury it.
    wait_until(lambda: not is_alive(pid))
    assert not pool.pids
    await pool.close()


async def test_a_closed_pool_can_be_started_again(tiny_model: Installed) -> None:
    """A stage that is restarted within its process gets new children."""
    pool = ProcessPool(model=tiny_model, children=1)
    for _ in range(2):
        await pool.start()
        await pool.start()
        assert len(pool.pids) == 1
        assert (await pool.cut_out(PHOTO, OPTIONS)).width == 200
        await pool.close()


def test_children_end_with_the_worker(tiny_model: Installed) -> None:
    """However the worker ends, nobody stays behind with a customer's picture."""
    program = f"""
import asyncio, time
from pathlib import Path
from erasestream.pipeline.stages.inference.isolation.process_pool import ProcessPool
from erasestream.pipeline.stages.inference.models.store import Installed
async def main():
    pool = ProcessPool(model=Installed.read(Path({str(tiny_model.folder)!r})), children=2)
    await pool.start()
    print(*pool.pids, flush=True)
    time.sleep(600)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        pids = [int(pid) for pid in worker.stdout.readline().split()]
        assert len(pids) == 1
        assert all(map(is_alive, pids))
        worker.kill()
        worker.wait()
    wait_until(lambda: not any(map(is_alive, pids)))


async def test_a_ready_child_prints_nothing(
    tiny_model: Installed, capfd: pytest.CaptureFixture[str]
) -> None:
    """What a decoder has to say about a stranger's picture gets into no log."""
    pool = ProcessPool(model=tiny_model, children=1)
    await pool.start()
    warns = saved(gradient(), "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert (await pool.cut_out(warns, OPTIONS)).width == 96
    await pool.close()
    assert capfd.readouterr() == ("", "")


HONEST = CutoutImage(
    data=saved(Image.new("RGBA", (4, 3))),
    content_type="image/png",
    steps_ms=dict.fromkeys(Step, 1.0),
    width=4,
    height=3,
)
WHOLE = b"".join((protocol.KIND.pack(ReplyKind.CUTOUT), *protocol.encode_cutout(HONEST)))
HEAD = protocol.KIND.size


def changed(at: int, piece: bytes) -> bytes:
    """The honest answer with some bytes of its head changed."""
    answer = bytearray(WHOLE)
    answer[HEAD + at : HEAD + at + len(piece)] = piece
    return bytes(answer)


def said(answer: bytes) -> CutoutImage:
    """What the worker makes of memory in which a child left this."""
    with shared_memory.allocated(protocol.REPLY_BYTES) as descriptor:
        os.pwrite(descriptor, answer, 0)
        return read_cutout(descriptor, OPTIONS)


def test_an_answer_is_none_until_all_of_it_is_there() -> None:
    """Whatever stops a child while it writes, the worker finds no kind of answer."""
    head, data = protocol.encode_cutout(HONEST)
    with (
        shared_memory.holding(b"\0") as request,
        shared_memory.allocated(protocol.REPLY_BYTES) as answer,
    ):
        with JobBuffers(request, answer) as desk, pytest.raises(TypeError):
            desk.write(ReplyKind.CUTOUT, head, None)  # type: ignore[arg-type]
        with pytest.raises(ProtocolViolation, match="kind"):
            read_cutout(answer, OPTIONS)
        with JobBuffers(request, answer) as desk:
            desk.write(ReplyKind.CUTOUT, head, data)
        assert read_cutout(answer, OPTIONS) == HONEST


def test_an_honest_answer_is_taken() -> None:
    """The lies below are changes of this one."""
    assert said(WHOLE) == HONEST


@pytest.mark.parametrize(
    "lie",
    [
        b"",
        b"\xff",
        bytes([ReplyKind.READY]),
        bytes([ReplyKind.REFUSED, 5]) + b"wrong",
        bytes([ReplyKind.REFUSED, 7]) + b"expired",
        changed(0, b"\0\0\0\0"),
        changed(4, b"\xff\xff\xff\xff"),
        changed(8, b"\0\0\0\0"),
        changed(8, (64_000_001).to_bytes(4, "little")),
        changed(12, b"\0\0\xc0\x7f"),
        changed(12, b"\0\0\x80\xbf"),
        changed(protocol.CUTOUT.size - 1, b"\x03"),
        changed(protocol.CUTOUT.size, b"GIF89a"),
        changed(protocol.CUTOUT.size, b"\xff\xd8\xff"),
    ],
)
def test_what_no_child_of_ours_would_say_is_not_believed(lie: bytes) -> None:
    """Kinds, order, codes, sizes, lengths, times and the format are checked by the worker."""
    with pytest.raises(ProtocolViolation):
        said(lie)
