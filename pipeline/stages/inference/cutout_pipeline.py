"""The whole work on one picture: decode, resize, infer, clean its edges, compose, encode."""

import time
from collections.abc import Callable
from itertools import pairwise

from erasestream.pipeline.stages.inference import heap
from erasestream.pipeline.stages.inference.imaging import compose, decode, encode
from erasestream.pipeline.stages.inference.imaging.cutout_image import CutoutImage, Step
from erasestream.pipeline.stages.inference.imaging.limits import LIMITS, Limits
from erasestream.pipeline.stages.inference.models import preprocessing
from erasestream.pipeline.stages.inference.models.segmenter import Segmenter
from erasestream.schemas.options import Channels, CutoutOptions

Clock = Callable[[], float]

LARGE_PIXELS = 10_000_000
"""From here on composing and encoding need more memory than the model had."""


def cut_out_once(
    segmenter: Segmenter,
    data: bytes,
    options: CutoutOptions,
    *,
    limits: Limits = LIMITS,
    clock: Clock = time.perf_counter,
) -> CutoutImage:
    """Cut the background out of an image file, in this process.

    For children and benchmarks; `pool.Pool` does it where a crash can do no harm.
    Raises `InvalidImage` with the code of what is wrong.
    """
    manifest = segmenter.manifest
    times = [clock()]
    # Where only the model looks at the photo, it need not be larger than what the model sees.
    draft = manifest.size if options.channels is Channels.ALPHA else None
    picture = decode.decode(data, limits=limits, draft=draft)
    times.append(clock())
    seen = preprocessing.to_input(picture, manifest)
    times.append(clock())
    mask = segmenter.mask(seen)
    if picture.width * picture.height > LARGE_PIXELS:
        heap.trim_heap()  # what the model's layers left: encoding will need as much
    times.append(clock())
    cutout = compose.cut(picture, mask, options)
    # A large picture need not stay while its cut-out is encoded.
    del picture, seen, mask
    times.append(clock())
    cutout = compose.arrange(cutout, options, limits=limits)
    times.append(clock())
    encoded = encode.encode(cutout, options, limits=limits)
    times.append(clock())
    taken = zip(Step, pairwise(times), strict=True)
    return CutoutImage(
        data=encoded.data,
        content_type=encoded.content_type,
        steps_ms={step: (end - begin) * 1000 for step, (begin, end) in taken},
        width=encoded.width,
        height=encoded.height,
        adjusted=encoded.adjusted,
    )
