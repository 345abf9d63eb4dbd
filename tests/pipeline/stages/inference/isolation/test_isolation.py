"""Hostile code in a child can do nothing, as root and as an ordinary user."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageCms

from erasestream.pipeline.gateway.image_size import size_of
from erasestream.pipeline.runtime.sandbox import restrictions
from erasestream.pipeline.runtime.sandbox.restrictions import (
    LANDLOCK,
    SECCOMP,
    Enforcement,
    Isolation,
)
from erasestream.pipeline.stages.inference.cutout_pipeline import cut_out_once
from erasestream.pipeline.stages.inference.isolation.process_pool import ProcessPool
from erasestream.pipeline.stages.inference.models.segmenter import Segmenter
from erasestream.pipeline.stages.inference.models.store import Installed
from erasestream.schemas.errors import Code, Refused
from erasestream.schemas.options import CutoutOptions, OutputFormat
from tests.pipeline.stages.inference.alphas import photos, products
from tests.pipeline.stages.inference.isolation.escapes import ROOT, USERS, report_of
from tests.pipeline.stages.inference.isolation.hostile_zygote import ENDS, ESCAPES
from tests.pipeline.stages.inference.pictures import gradient, png_chunk, saved

EXPECTED_ENDS = {
    "memory bomb": "processing_crashed",
    "endless loop": "processing_timeout",
    "segmentation fault": "processing_crashed",
    "abort": "processing_crashed",
    "exit in silence": "processing_crashed",
    "sleep": "processing_timeout",
    "an answer and a crash": "processing_crashed",
}


@pytest.fixture(scope="module", params=USERS)
def report(request: pytest.FixtureRequest, tiny_model: Installed) -> dict[str, Any]:
    """Return the outcomes of all attacks, as this user."""
    return report_of(tiny_model, user=request.param, isolation=Isolation.PER_IMAGE)


@pytest.mark.parametrize("name", ESCAPES)
def test_an_escape_is_refused(report: dict[str, Any], name: str) -> None:
    """The call is not allowed, or has no open descriptor to use."""
    assert report["outcomes"][name] in {"EPERM", "EBADF", "ENOSYS"}


@pytest.mark.parametrize("name", ENDS)
def test_an_attack_that_ends_a_child_is_one_failed_result(
    report: dict[str, Any], name: str
) -> None:
    """It crashed or exceeded its deadline."""
    assert report["outcomes"][name] == EXPECTED_ENDS[name]


def test_the_zygote_outlives_every_attack(report: dict[str, Any]) -> None:
    """No child is left, and each image had a process of its own."""
    assert report["outlives_escapes"]
    assert report["outlives_ends"]
    assert report["left"] == 0
    assert len(set(report["children"])) == 3


def test_an_image_leaves_nothing_for_the_next(report: dict[str, Any]) -> None:
    """Memory is gone with the child."""
    assert report["memory"] == ["", ""]


def test_the_zygote_has_no_rights_either(report: dict[str, Any]) -> None:
    """One thread, a filter, no new privileges, no capability, the expected user."""
    status = report["status"]
    assert (status["Threads"], status["Seccomp"], status["NoNewPrivs"]) == ("1", "2", "1")
    assert status["Uid"].split() == [str(report["uid"])] * 4
    for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(status[kind], 16) == 0


async def test_a_worker_process_inherits_nothing_of_its_parent(
    tiny_model: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No environment, no files; no core dump, limited memory, no telemetry."""
    monkeypatch.setenv("ERASESTREAM_SECRET", "the parent's own")
    pool = ProcessPool(model=tiny_model, children=1, memory_bytes=3 << 30)
    await pool.start()
    (pid,) = pool.pids
    zygote = Path(f"/proc/{pid}")
    limits = {
        line[:26].strip(): line[26:].split()
        for line in (zygote / "limits").read_text().splitlines()
    }
    assert limits["Max core file size"][:2] == ["0", "0"]
    assert limits["Max address space"][:2] == [str(3 << 30)] * 2
    environment = (zygote / "environ").read_bytes()
    assert b"ERASESTREAM_SECRET" not in environment
    for wanted in (b"OMP_NUM_THREADS=1", b"ORT_DISABLE_TELEMETRY=1"):
        assert wanted in environment.split(b"\0")
    opened = {str(each.readlink()).partition(":")[0] for each in (zygote / "fd").iterdir()}
    assert opened == {"/dev/null", "socket"}
    await pool.close()


@pytest.mark.parametrize("lacks", [(LANDLOCK,), (SECCOMP,), (LANDLOCK, SECCOMP)])
def test_a_kernel_that_cannot_isolate_is_refused(lacks: tuple[str, ...]) -> None:
    """The sentence names the missing mechanism and the setting that allows to go without."""
    with pytest.raises(Refused, match="dangerously_run_without_isolation") as refused:
        restrictions.refuse_unless_enforced(Enforcement.REQUIRED, lacks)
    assert refused.value.code is Code.ISOLATION_MISSING
    assert all(each in refused.value.sentence for each in lacks)
    restrictions.refuse_unless_enforced(Enforcement.AS_FAR_AS_POSSIBLE, lacks)
    restrictions.refuse_unless_enforced(Enforcement.REQUIRED, ())


def test_this_kernel_can_isolate() -> None:
    """Otherwise the tests above would prove nothing."""
    assert restrictions.missing() == ()


def pictures_of_all_kinds() -> dict[str, bytes]:
    """Return pictures that need every part of the decoders."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb = gradient()
    plain = saved(rgb)
    alphas = products()["shirt"], photos()["corners rounded to 0.2, drawn at 4"]
    product, rounded = (Image.merge("RGBA", (alpha,) * 4) for alpha in alphas)
    return {
        "high dynamic range": plain[:33] + png_chunk(b"cICP", b"\x09\x10\0\1") + plain[33:],
        "cmyk": saved(rgb.convert("CMYK"), "JPEG"),
        "grey": saved(rgb.convert("L"), "JPEG", progressive=True),
        "exif": saved(rgb, "JPEG", exif=exif, comment=b"a comment", xmp=xmp),
        "profile": saved(rgb, "PNG", icc_profile=profile),
        "palette": saved(rgb.convert("P"), "PNG", transparency=3),
        "16 bit": saved(rgb.convert("I;16"), "PNG"),
        "png exif": saved(rgb.convert("LA"), "PNG", exif=exif),
        "webp": saved(rgb.convert("RGBA"), "WEBP", exif=exif, xmp=xmp, icc_profile=profile),
        "lossless": saved(rgb, "WEBP", lossless=True),
        "cut out": saved(product),
        "rounded": saved(rounded),
    }


async def test_pictures_of_all_kinds_are_cut_out_in_the_sandbox(tiny_model: Installed) -> None:
    """Each gives the same bytes as without a sandbox: no module is imported too late."""
    pool = ProcessPool(model=tiny_model, children=2)
    await pool.start()
    segmenter = Segmenter(tiny_model)
    for picture in pictures_of_all_kinds().values():
        for output in OutputFormat:
            options = CutoutOptions(format=output)
            cutout = await pool.cut_out(picture, options)
            here = cut_out_once(segmenter, picture, options)
            assert (cutout.data, cutout.adjusted) == (here.data, here.adjusted)
            assert size_of(cutout.data) == (cutout.width, cutout.height)
            assert cutout.foreground == here.foreground
    await pool.close()


def test_no_module_is_imported_after_the_restrictions() -> None:
    """`preload` imports everything that pictures of all kinds need."""
    program = """
import sys
from pathlib import Path
from erasestream.pipeline.stages.inference.isolation import zygote
from erasestream.pipeline.stages.inference.isolation.preload import preload
preload()
before = set(sys.modules)
from tests.pipeline.stages.inference.isolation.imports import work
ours = {name for name in set(sys.modules) - before if name.startswith("tests")}
work(sys.stdin.buffer)
print(*sorted(set(sys.modules) - before - ours))
"""
    pictures = pictures_of_all_kinds()
    files = b"".join(len(each).to_bytes(4, "little") + each for each in pictures.values())
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, input=files, capture_output=True, check=True
    )
    assert done.stdout.split() == []


def test_the_package_switches_telemetry_off() -> None:
    """Otherwise onnxruntime starts threads, stores an identifier, and connects to its vendor."""
    program = """
import os
from erasestream.pipeline.stages.inference.models import segmenter
print(len(os.listdir("/proc/self/task")), os.environ["ORT_DISABLE_TELEMETRY"])
"""
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, check=True
    )
    assert done.stdout.split() == [b"1", b"1"]
