"""The largest and noisiest accepted photo: a result or result_too_large, in every format."""

from functools import cache

import numpy as np
import pytest
from PIL import Image

from erasestream.pipeline.stages.inference.imaging.compose import arrange, cut
from erasestream.pipeline.stages.inference.imaging.cutout_image import CutoutImage
from erasestream.pipeline.stages.inference.imaging.decode import decode
from erasestream.pipeline.stages.inference.imaging.encode import EncodedImage, encode
from erasestream.pipeline.stages.inference.imaging.limits import Limits
from erasestream.pipeline.stages.inference.isolation.process_pool import ProcessPool
from erasestream.pipeline.stages.inference.models.store import Installed
from erasestream.schemas.errors import Code, InvalidImage
from erasestream.schemas.events.images import MAX_CUTOUT_BYTES, MAX_UPLOAD_BYTES
from erasestream.schemas.options import Channels, CutoutOptions, OutputFormat
from tests.pipeline.stages.inference.pictures import disc, gradient, opened, saved

LARGEST = (8000, 6250)
SCALE = 10
"""Factor by which photo and limits are smaller."""
EVERY = [
    *(CutoutOptions(format=output) for output in OutputFormat),
    CutoutOptions(format=OutputFormat.JPG, quality=100),
    CutoutOptions(format=OutputFormat.PNG, channels=Channels.ALPHA),
    CutoutOptions(format=OutputFormat.AUTO, crop=True, crop_margin="5%"),
]


@cache
def noisy(width: int, height: int) -> bytes:
    """Return a photo that no encoder compresses well."""
    levels = np.random.default_rng(3).normal(128, 40, (height, width, 3)).clip(0, 255)
    return saved(Image.fromarray(levels.astype(np.uint8)), "JPEG", quality=60)


def encoded(data: bytes, options: CutoutOptions, limits: Limits) -> EncodedImage | Code:
    """Run all steps but the model's."""
    try:
        cutout = cut(decode(data, limits=limits), disc(), options)
        return encode(arrange(cutout, options, limits=limits), options, limits=limits)
    except InvalidImage as error:
        return error.code


async def by_the_pool(pool: ProcessPool, data: bytes, options: CutoutOptions) -> CutoutImage | Code:
    """Cut out in a child, with its limits."""
    try:
        return await pool.cut_out(data, options)
    except InvalidImage as error:
        return error.code


@pytest.mark.parametrize("options", EVERY, ids=CutoutOptions.to_json)
def test_a_noisy_photo_gives_a_result_or_is_too_large(options: CutoutOptions) -> None:
    """A tenth of the largest, with a tenth of the limits; `auto` and `jpg` always have a result."""
    data = noisy(LARGEST[0] // 4, LARGEST[1] * 4 // SCALE)
    limits = Limits(
        max_cutout_pixels=50_000_000 // SCALE, max_result_bytes=MAX_CUTOUT_BYTES // SCALE
    )
    done = encoded(data, options, limits)
    if isinstance(done, EncodedImage):
        assert len(done.data) <= limits.max_result_bytes
        assert opened(done.data).size == (done.width, done.height)
    else:
        assert done is Code.RESULT_TOO_LARGE
        assert options.format in {OutputFormat.PNG, OutputFormat.WEBP, OutputFormat.ZIP}


@pytest.mark.long
@pytest.mark.parametrize("options", EVERY, ids=CutoutOptions.to_json)
async def test_fifty_noisy_megapixels_through_the_pool(
    tiny_model: Installed, options: CutoutOptions
) -> None:
    """Within the memory limit of a child; and the next photo is cut out as well."""
    data = noisy(*LARGEST)
    assert len(data) <= MAX_UPLOAD_BYTES
    pool = ProcessPool(model=tiny_model, children=1)
    await pool.start()
    done = await by_the_pool(pool, data, options)
    after = await by_the_pool(pool, saved(gradient()), CutoutOptions())
    await pool.close()
    assert done is Code.RESULT_TOO_LARGE or isinstance(done, CutoutImage)
    assert isinstance(after, CutoutImage)
