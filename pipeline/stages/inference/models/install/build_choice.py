"""Which build runs on this machine: single precision, or 8 bits.

Pure: what was measured comes in, a decision with its reason goes out.

* A build that does not cut out what single precision cuts out is not used, however fast.
* Where the CPU multiplies 8-bit numbers by itself, 8 bits are 3 times as fast (measured with
  IS-Net: 0.9 s against 3.1 s of one core): they are taken.
* Elsewhere what was faster is taken; a tie goes to single precision.
"""

import numpy as np
from numpy.typing import NDArray

from erasestream.pipeline.stages.inference.models.manifest import Build
from erasestream.pipeline.stages.inference.models.store import Choice

LEAST_IOU = 0.98
"""Intersection over union of the masks, the worst of the photos held out."""
_VNNI = frozenset({"avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8", "asimddp", "i8mm"})
"""As Linux calls them: on x86-64, and their like on arm64."""


def multiplies_bytes(cpuinfo: str) -> bool:
    """Whether every core of `/proc/cpuinfo` has instructions for products of 8-bit numbers."""
    lines = [line.partition(":") for line in cpuinfo.splitlines()]
    flags = [set(v.split()) for k, _, v in lines if k.strip() in {"flags", "Features"}]
    return bool(flags) and all(each & _VNNI for each in flags)


def iou(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Intersection over union of what is more than half opaque; two empty masks are alike."""
    a, b = one > 0.5, other > 0.5  # noqa: PLR2004
    either = int((a | b).sum())
    return float((a & b).sum() / either) if either else 1.0


def decide(*, worst_iou: float, single_ms: float, int8_ms: float, vnni: bool) -> Choice:
    """The build that runs, with the figures and a sentence."""
    if not worst_iou >= LEAST_IOU:
        build, reason = Build.PRUNED_FP32, "8 bits cut out something else on this CPU"
    elif vnni:
        build, reason = Build.STATIC_INT8, "8 bits are as good, and this CPU has VNNI"
    elif int8_ms < single_ms:
        build, reason = Build.STATIC_INT8, "8 bits are as good, and were faster without VNNI"
    else:
        build, reason = Build.PRUNED_FP32, "this CPU has no VNNI, and 8 bits were not faster"
    return Choice(
        build=build,
        reason=f"{reason}: IoU {worst_iou:.4f} (at least {LEAST_IOU:g} is asked), "
        f"{int8_ms:.0f} ms per picture against {single_ms:.0f} ms",
        vnni=vnni,
        iou=round(worst_iou, 5),
        single_ms=round(single_ms, 1),
        int8_ms=round(int8_ms, 1),
    )


def too_few(*, calibration: int, held_out: int) -> Choice:
    """Without photos enough, single precision runs."""
    return Choice(
        build=Build.PRUNED_FP32,
        reason=f"too few photos to quantise with: {calibration} to calibrate, {held_out} to judge",
    )
