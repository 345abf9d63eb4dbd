"""All steps for one picture: decode, resize, infer, clean its edges, compose, encode.

A picture whose own alpha isolates the product (`imaging.own_alpha`) is decoded and encoded only.
"""

import time
from itertools import pairwise

from erasestream.pipeline.stages.inference import heap
from erasestream.pipeline.stages.inference.imaging import compose, decode, encode, own_alpha
from erasestream.pipeline.stages.inference.imaging.cutout_image import CutoutImage, Step
from erasestream.pipeline.stages.inference.imaging.decode import Picture
from erasestream.pipeline.stages.inference.imaging.limits import LIMITS, Limits
from erasestream.pipeline.stages.inference.models import preprocessing
from erasestream.pipeline.stages.inference.models.segmenter import Segmenter
from erasestream.schemas.clocks import Clock
from erasestream.schemas.events.images import Adjusted
from erasestream.schemas.options import Channels, CutoutOptions

LARGE_PIXELS = 10_000_000
"""From this size on, composing and encoding need more memory than the model did."""


def cut_out_once(
    segmenter: Segmenter,
    data: bytes,
    options: CutoutOptions,
    *,
    limits: Limits = LIMITS,
    clock: Clock = time.perf_counter,
) -> CutoutImage:
    """Cut the background out of an image file, in this process.

    For children and benchmarks; `ProcessPool` does it where a crash can do no harm.
    Raises `InvalidImage` with its code.
    """
    times = [clock()]
    # Where only the model sees the photo, it need not be larger than the model's input.
    draft = segmenter.manifest.size if options.channels is Channels.ALPHA else None
    picture = decode.decode(data, limits=limits, draft=draft)
    is_kept = own_alpha.is_kept(picture.image, options.own_alpha)
    times.append(clock())
    if is_kept:
        times += [times[-1]] * 2  # neither resized nor shown to the model
        cutout = compose.keep(picture, options)
    else:
        cutout = _cut(segmenter, picture, options, times, clock)
    del picture  # a large one is not kept while its cut-out is encoded
    times.append(clock())
    cutout = compose.arrange(cutout, options, limits=limits)
    times.append(clock())
    encoded = encode.encode(cutout, options, limits=limits)
    times.append(clock())
    if is_kept:
        encoded = encoded._replace(adjusted=Adjusted.with_own_alpha(encoded.adjusted))
    intervals = zip(Step, pairwise(times), strict=True)
    steps_ms: dict[str, float] = {step: (end - begin) * 1000 for step, (begin, end) in intervals}
    return CutoutImage(**encoded._asdict(), steps_ms=steps_ms)


def _cut(
    segmenter: Segmenter,
    picture: Picture,
    options: CutoutOptions,
    times: list[float],
    clock: Clock,
) -> Picture:
    """Cut out what the model finds; adds the ends of the model's steps to `times`."""
    tensor = preprocessing.to_input(picture, segmenter.manifest)
    times.append(clock())
    mask = segmenter.mask(tensor)
    if picture.width * picture.height > LARGE_PIXELS:
        heap.trim_heap()  # free memory of the model's layers: encoding will need as much
    times.append(clock())
    return compose.cut(picture, mask, options)
