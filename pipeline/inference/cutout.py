"""The whole work on one picture: decode, infer, compose, encode."""

import time
from collections.abc import Callable

from erasestream.pipeline.inference import images
from erasestream.pipeline.inference.frames import CutoutImage, Step
from erasestream.pipeline.inference.model import Segmenter
from erasestream.schemas.options import CutoutOptions

Clock = Callable[[], float]


def cut_out_once(
    segmenter: Segmenter,
    data: bytes,
    options: CutoutOptions,
    *,
    clock: Clock = time.perf_counter,
) -> CutoutImage:
    """Cut the background out of an image file, in this process.

    For children and benchmarks; `pool.Pool` does it where a crash can do no harm.
    Raises `InvalidImage` with the code of what is wrong.
    """
    manifest = segmenter.manifest
    begun = clock()
    picture = images.decode(data)
    decoded = clock()
    mask = segmenter.mask(
        images.to_input(picture, size=manifest.size, mean=manifest.mean, scale=manifest.scale)
    )
    inferred = clock()
    cutout = images.compose(picture, mask)
    # A large picture need not stay while its cut-out is encoded.
    del picture
    composed = clock()
    encoded, content_type = images.encode(cutout, options)
    return CutoutImage(
        data=encoded,
        content_type=content_type,
        steps_ms={
            Step.DECODE: (decoded - begun) * 1000,
            Step.INFER: (inferred - decoded) * 1000,
            Step.COMPOSE: (composed - inferred) * 1000,
            Step.ENCODE: (clock() - composed) * 1000,
        },
        width=cutout.width,
        height=cutout.height,
    )
