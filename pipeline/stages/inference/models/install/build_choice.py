"""Choose the build for this machine: single precision, or 8 bits.  Pure.

* A build whose masks differ from those of single precision is not used, however fast it is.
* If the CPU has instructions for products of 8-bit numbers, 8 bits are 3 times as fast (measured
  with IS-Net: 0.9 s against 3.1 s on one core), and are used.
* Otherwise the faster build is used; a tie goes to single precision.
"""

import numpy as np
from numpy.typing import NDArray

from erasestream.pipeline.stages.inference.models.manifest import Build
from erasestream.pipeline.stages.inference.models.store import Choice

LEAST_IOU = 0.98
"""Intersection over union of the masks, for the worst of the held-out photos."""
_VNNI = frozenset({"avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8", "asimddp", "i8mm"})
"""Linux's names of these instructions, on x86-64 and on arm64."""


def multiplies_bytes(cpuinfo: str) -> bool:
    """Return whether every core of `/proc/cpuinfo` has instructions for 8-bit products."""
    lines = [line.partition(":") for line in cpuinfo.splitlines()]
    flags = [set(v.split()) for k, _, v in lines if k.strip() in {"flags", "Features"}]
    return bool(flags) and all(each & _VNNI for each in flags)


def iou(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the intersection over union of pixels more than half opaque; 1 for empty masks."""
    a, b = one > 0.5, other > 0.5  # noqa: PLR2004
    either = int((a | b).sum())
    return float((a & b).sum() / either) if either else 1.0


def decide(*, worst_iou: float, single_ms: float, int8_ms: float, vnni: bool) -> Choice:
    """Return the build to use, with the measurements and a sentence."""
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
        reason=f"{reason}: IoU {worst_iou:.4f} (at least {LEAST_IOU:g} is required), "
        f"{int8_ms:.0f} ms per picture against {single_ms:.0f} ms",
        vnni=vnni,
        iou=round(worst_iou, 5),
        single_ms=round(single_ms, 1),
        int8_ms=round(int8_ms, 1),
    )


def too_few(*, calibration: int, held_out: int) -> Choice:
    """Return the choice without enough photos: single precision."""
    return Choice(
        build=Build.PRUNED_FP32,
        reason=f"too few photos to quantise: {calibration} to calibrate, {held_out} to evaluate",
    )
