"""Pictures that are cut out already keep what their alpha isolates; all others are cut out.

The model takes the dark half of all colours for background: it would remove the dark product.
"""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageChops

from erasestream.pipeline.stages.inference.cutout_pipeline import cut_out_once
from erasestream.pipeline.stages.inference.imaging.cutout_image import CutoutImage
from erasestream.pipeline.stages.inference.imaging.limits import Limits
from erasestream.pipeline.stages.inference.models.segmenter import Segmenter
from erasestream.pipeline.stages.inference.models.store import Installed
from erasestream.schemas.events.images import Adjusted
from erasestream.schemas.options import Channels, CutoutOptions, Edges, OutputFormat, OwnAlpha, Size
from tests.pipeline.stages.inference.alphas import SIDE, box, drawn, photos, products
from tests.pipeline.stages.inference.pictures import opened, png_chunk, saved

DARK, BRIGHT, HIDDEN = (20, 24, 28), (240, 235, 230), (9, 200, 90)
PRODUCTS = products()
SHADOW = PRODUCTS["bottle with a soft shadow"]


@pytest.fixture(scope="module")
def segmenter(tiny_model: Installed) -> Segmenter:
    """Return the loaded model."""
    return Segmenter(tiny_model)


def product(alpha: Image.Image) -> Image.Image:
    """Return a dark product with this alpha, and a colour hidden where it is transparent."""
    picture = Image.new("RGBA", alpha.size, (*HIDDEN, 0))
    picture.paste(DARK, mask=alpha.point(lambda level: 255 * (level > 0)))
    picture.putalpha(alpha)
    return picture


def photo(alpha: Image.Image) -> Image.Image:
    """Return a photo of a bright thing on a dark ground, with this alpha."""
    width, height = alpha.size
    picture = Image.new("RGB", alpha.size, DARK)
    picture.paste(BRIGHT, (width // 3, height // 3, width * 2 // 3, height * 2 // 3))
    picture.putalpha(alpha)
    return picture


def png_of_16_bits(picture: Image.Image) -> bytes:
    """Return a PNG with 16 bits of each value (RGBA, LA)."""
    values = np.asarray(picture).astype(np.uint16) * 257
    colour_type = {"RGBA": 6, "LA": 4}[picture.mode]
    header = struct.pack(">IIBBBBB", *picture.size, 16, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def palette_png(picture: Image.Image) -> bytes:
    """Return a PNG with a palette and an alpha for each of its colours."""
    levels = np.asarray(picture.getchannel("A"))
    palette = Image.fromarray(levels, "P")
    palette.putpalette(b"".join(bytes(DARK if level else HIDDEN) for level in range(256)))
    return saved(palette, transparency=bytes(range(256)))


def values(cutout: CutoutImage) -> np.ndarray:
    """Return the cut-out's red, green, blue and alpha."""
    return np.asarray(opened(cutout.data).convert("RGBA")).astype(int)


@pytest.mark.parametrize("name", PRODUCTS)
def test_what_is_cut_out_already_is_returned_as_it_is(segmenter: Segmenter, name: str) -> None:
    """Alpha and colours to the last level; the model is not run, and `adjusted` reports it."""
    alpha = PRODUCTS[name]
    done = cut_out_once(segmenter, saved(product(alpha)), CutoutOptions())
    seen = values(done)
    assert (seen[..., 3] == np.asarray(alpha)).all()
    assert (seen[seen[..., 3] > 0][:, :3] == DARK).all()
    assert not seen[seen[..., 3] == 0].any(), "hidden colours are not passed on"
    assert done.adjusted is Adjusted.OWN_ALPHA
    assert done.steps_ms["infer"] == done.steps_ms["resize"] == 0
    assert done.steps_ms["decode"] > 0


@pytest.mark.parametrize(
    "data",
    [
        saved(product(SHADOW).convert("LA")),
        png_of_16_bits(product(SHADOW)),
        png_of_16_bits(product(SHADOW).convert("LA")),
        palette_png(product(SHADOW)),
        saved(product(SHADOW), "WEBP", lossless=True),
        saved(product(SHADOW), "WEBP", quality=90),
    ],
    ids=["LA", "16 bits", "LA with 16 bits", "palette", "WebP", "lossy WebP"],
)
def test_every_kind_of_alpha_channel_counts(segmenter: Segmenter, data: bytes) -> None:
    done = cut_out_once(segmenter, data, CutoutOptions())
    assert done.adjusted is Adjusted.OWN_ALPHA
    assert (values(done)[..., 3] == np.asarray(SHADOW)).all()


@pytest.mark.parametrize("name", photos())
def test_a_photo_with_an_alpha_channel_loses_its_background(
    segmenter: Segmenter, name: str
) -> None:
    """And what is transparent in it stays so."""
    alpha = photos()[name]
    done = cut_out_once(segmenter, saved(photo(alpha)), CutoutOptions())
    assert done.adjusted is None
    seen = values(done)[..., 3]
    assert (seen <= np.asarray(alpha)).all()
    assert (seen > 127).mean() < 0.15, "of 1/9 that is bright"


def test_options_force_either_way(segmenter: Segmenter) -> None:
    """The model removes the dark product; a photo is its own cut-out."""
    options = CutoutOptions(own_alpha=OwnAlpha.CUT)
    forced = cut_out_once(segmenter, saved(product(PRODUCTS["shirt"])), options)
    assert forced.adjusted is None
    assert values(forced)[..., 3].max() < 40
    options = CutoutOptions(own_alpha=OwnAlpha.KEEP)
    for kind in ("PNG", "JPEG", "WEBP"):
        whole = photo(Image.new("L", (320, 200), 255)).convert("RGB")
        kept = cut_out_once(segmenter, saved(whole, kind), options)
        assert kept.adjusted is Adjusted.OWN_ALPHA
        assert (values(kept)[..., 3] == 255).all()
        assert np.abs(values(kept)[0, 0, :3] - DARK).max() < 6


@pytest.mark.parametrize("edges", list(Edges))
def test_edges_of_its_own_are_left_alone(segmenter: Segmenter, edges: Edges) -> None:
    """Even where they are dark, as if multiplied by alpha: no other ground is mixed in."""
    alpha = PRODUCTS["fur"]
    fringed = product(alpha)
    fringed = Image.merge(
        "RGBA", (*[ImageChops.multiply(band, alpha) for band in fringed.split()[:3]], alpha)
    )
    done = cut_out_once(segmenter, saved(fringed), CutoutOptions(edges=edges))
    assert (values(done) == np.asarray(fringed)).all()


def test_all_other_options_apply(segmenter: Segmenter) -> None:
    """Channels, crop, size, background and format."""
    data, alpha = saved(product(SHADOW)), np.asarray(SHADOW)
    done = cut_out_once(segmenter, data, CutoutOptions(channels=Channels.ALPHA))
    assert (values(done)[..., 0] == alpha).all()
    left, top, right, bottom = SHADOW.point(lambda level: 255 * (level > 7)).getbbox() or ()
    done = cut_out_once(segmenter, data, CutoutOptions(crop=True, crop_margin="5px"))
    assert (done.width, done.height) == (right - left + 10, bottom - top + 10)
    assert (values(done)[5:-5, 5:-5, 3] == alpha[top:bottom, left:right]).all()
    done = cut_out_once(segmenter, data, CutoutOptions(max_dimension=60))
    assert (done.width, done.height) == (60, 60)
    for output in (OutputFormat.JPG, OutputFormat.WEBP):
        done = cut_out_once(segmenter, data, CutoutOptions(format=output, bg_color="0000ff"))
        assert done.content_type == output.content_type
        assert np.abs(values(done)[2, 2] - (0, 0, 255, 255)).max() < 6
        assert np.abs(values(done)[150, 120] - (*DARK, 255)).max() < 12


def test_the_alpha_channel_of_an_opaque_photo_is_white(segmenter: Segmenter) -> None:
    """Of the photo's size, though a JPEG is decoded at a smaller one for it."""
    options = CutoutOptions(channels=Channels.ALPHA, own_alpha=OwnAlpha.KEEP)
    done = cut_out_once(segmenter, saved(Image.new("RGB", (960, 640), DARK), "JPEG"), options)
    assert (done.width, done.height) == (960, 640)
    assert (values(done) == 255).all()


@pytest.mark.parametrize(
    ("max_bytes", "adjusted"),
    [(40_000, Adjusted.OWN_ALPHA_LOSSY), (4_000, Adjusted.OWN_ALPHA_SMALLER)],
)
def test_a_reduction_is_recorded_as_well(
    segmenter: Segmenter, max_bytes: int, adjusted: Adjusted
) -> None:
    """Of an `auto` cut-out that does not fit."""
    noise = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    noisy = Image.fromarray(noise)
    noisy.putalpha(PRODUCTS["shirt"])
    options = CutoutOptions(format=OutputFormat.AUTO)
    limits = Limits(max_result_bytes=max_bytes)
    assert cut_out_once(segmenter, saved(noisy), options, limits=limits).adjusted is adjusted


@pytest.mark.parametrize("output", list(OutputFormat))
def test_an_empty_picture_stays_empty(segmenter: Segmenter, output: OutputFormat) -> None:
    """A result of the same size, also with a crop: there is nothing to crop to."""
    data = saved(Image.new("RGBA", (80, 60), (*HIDDEN, 0)))
    options = CutoutOptions(format=output, crop=True, size=Size.PREVIEW)
    done = cut_out_once(segmenter, data, options)
    assert (done.width, done.height, done.adjusted) == (80, 60, Adjusted.OWN_ALPHA)
    expected = (255, 255, 255, 255) if output is OutputFormat.JPG else (0, 0, 0, 0)
    assert (values(done) == expected).all()


def test_a_translucent_photo_in_a_frame_is_a_product(segmenter: Segmenter) -> None:
    """As documented: only what is opaque inside is taken for a photo."""
    alpha = drawn(box(20, 20, 220, 220, fill=128), scale=1)
    assert cut_out_once(segmenter, saved(photo(alpha)), CutoutOptions()).adjusted
