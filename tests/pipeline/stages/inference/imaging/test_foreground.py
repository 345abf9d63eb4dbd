"""Where the product is in a cut-out, and its colour and alpha as files of their own."""

import io
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image

from erasestream.pipeline.stages.inference.imaging.compose import arrange
from erasestream.pipeline.stages.inference.imaging.encode import EncodedImage, encode
from erasestream.pipeline.stages.inference.imaging.limits import Limits
from erasestream.schemas.events.images import Adjusted
from erasestream.schemas.options import CutoutOptions, OutputFormat
from tests.pipeline.stages.inference.imaging.test_output import cut_out, noise, scene, values
from tests.pipeline.stages.inference.pictures import gradient, saved


def box_of(done: EncodedImage) -> tuple[int, int, int, int]:
    """Return the box around all that is visible in a cut-out."""
    rows, columns = np.nonzero(values(done.data)[..., 3] >= 8)
    left, top = columns.min(), rows.min()
    return left, top, columns.max() + 1 - left, rows.max() + 1 - top


@pytest.mark.parametrize(
    "options",
    [
        CutoutOptions(),
        CutoutOptions(max_dimension=77),
        CutoutOptions(crop=True, crop_margin="10% 40px"),
        CutoutOptions(crop=True, crop_margin="500px", max_dimension=333),
    ],
)
def test_a_cutout_tells_where_the_product_is(options: CutoutOptions) -> None:
    done = cut_out(*scene(), options)
    assert done.foreground == box_of(done)
    assert done.foreground is not None
    assert done.foreground.is_within(done.width, done.height)
    assert done.foreground != (0, 0, done.width, done.height)
    opaque = cut_out(*scene(), options.model_copy(update={"bg_color": "fff"}))
    assert opaque.foreground == done.foreground


def test_a_cutout_that_had_to_be_smaller_tells_it_as_well() -> None:
    options = CutoutOptions(format=OutputFormat.AUTO, crop=True, crop_margin="33px")
    arranged = arrange(noise(), options)
    done = encode(arranged, options, limits=Limits(max_result_bytes=6_000))
    assert (arranged.foreground, done.adjusted) == ((33, 33, 64, 64), Adjusted.SMALLER)
    assert done.foreground is not None
    assert done.foreground.is_within(done.width, done.height)
    factor = done.width / arranged.width
    assert np.abs(np.array(done.foreground) - np.array(arranged.foreground) * factor).max() <= 2


def test_nothing_visible_is_nowhere() -> None:
    nothing = np.zeros((8, 8), np.float32)
    assert cut_out(saved(gradient()), nothing, CutoutOptions()).foreground is None


@pytest.mark.parametrize(
    "more", [{}, {"crop": True, "crop_margin": "5px"}, {"size": "preview"}, {"quality": 50}]
)
def test_a_zip_has_the_colour_and_the_alpha_of_the_cutout(more: dict[str, object]) -> None:
    """Its bytes depend on the cut-out only."""
    photo, mask = scene(800, 600)
    options = CutoutOptions(format=OutputFormat.ZIP, **more)  # type: ignore[arg-type]
    done = cut_out(photo, mask, options)
    assert done.data == cut_out(photo, mask, options).data
    png = options.model_copy(update={"format": OutputFormat.PNG, "quality": None})
    expected = values(cut_out(photo, mask, png).data).astype(int)
    with ZipFile(io.BytesIO(done.data)) as archive:
        assert archive.namelist() == ["color.jpg", "alpha.png"]
        colour, alpha = (Image.open(archive.open(name)) for name in archive.namelist())
        assert (colour.format, colour.mode, alpha.format, alpha.mode) == ("JPEG", "RGB", "PNG", "L")
        assert colour.size == alpha.size == (done.width, done.height)
        assert (np.asarray(alpha) == expected[..., 3]).all()
        difference = np.abs(np.asarray(colour).astype(int) - expected[..., :3])
    assert difference.mean() < 3
    assert difference[expected[..., 3] == 0].mean() < 1, "black, but for the JPEG's artefacts"
