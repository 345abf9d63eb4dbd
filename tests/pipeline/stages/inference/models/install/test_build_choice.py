"""The build is chosen by measurements, accuracy first."""

import numpy as np
import pytest

from erasestream.pipeline.stages.inference.models.install.build_choice import (
    decide,
    iou,
    multiplies_bytes,
    too_few,
)
from erasestream.pipeline.stages.inference.models.manifest import Build


@pytest.mark.parametrize("vnni", [True, False])
@pytest.mark.parametrize("worst_iou", [0.9799, 0.0, float("nan")])
def test_an_inaccurate_build_is_not_used(worst_iou: float, vnni: object) -> None:
    """However fast it is."""
    choice = decide(worst_iou=worst_iou, single_ms=3000, int8_ms=1, vnni=bool(vnni))
    assert choice.build is Build.PRUNED_FP32
    assert "something else" in choice.reason


@pytest.mark.parametrize(
    ("single_ms", "int8_ms", "vnni", "build"),
    [
        (3000, 900, True, Build.STATIC_INT8),
        (900, 3000, True, Build.STATIC_INT8),
        (3000, 2999, False, Build.STATIC_INT8),
        (3000, 3000, False, Build.PRUNED_FP32),
        (900, 3000, False, Build.PRUNED_FP32),
    ],
)
def test_without_vnni_the_faster_build_runs(
    single_ms: float, int8_ms: float, vnni: object, build: Build
) -> None:
    """With VNNI, 8 bits are used regardless of times; a tie goes to single precision."""
    choice = decide(worst_iou=0.98, single_ms=single_ms, int8_ms=int8_ms, vnni=bool(vnni))
    assert choice.build is build
    assert (choice.iou, choice.single_ms, choice.int8_ms) == (0.98, single_ms, int8_ms)
    assert f"{single_ms:.0f} ms" in choice.reason


def test_without_enough_photos_single_precision_is_used() -> None:
    """The reason is recorded."""
    choice = too_few(calibration=1, held_out=0)
    assert choice.build is Build.PRUNED_FP32
    assert "1 to calibrate, 0 to evaluate" in choice.reason
    assert choice.iou is None


@pytest.mark.parametrize(
    ("cpuinfo", "has"),
    [
        ("flags\t\t: fpu avx512_vnni\n\nflags : avx_vnni sse\n", True),
        ("flags\t\t: fpu avx512_vnni\n\nflags : sse avx2\n", False),
        ("flags : avx512f avx2\nmodel name : avx_vnni\n", False),
        ("Features\t: fp asimd asimddp\n", True),
        ("", False),
    ],
)
def test_vnni_is_read_from_the_flags_of_every_core(cpuinfo: str, has: object) -> None:
    """False if one core lacks it, or without any flags."""
    assert multiplies_bytes(cpuinfo) is has


def test_iou_is_of_pixels_more_than_half_opaque() -> None:
    """Empty masks are equal."""
    left = np.zeros((4, 4), np.float32)
    left[:, :2] = 0.9
    quarter = np.zeros((4, 4), np.float32)
    quarter[:, :1] = 0.6
    nothing = np.full((4, 4), 0.4, np.float32)
    assert iou(left, quarter) == 0.5
    assert iou(left, left) == iou(nothing, nothing) == 1
    assert iou(left, nothing) == 0
