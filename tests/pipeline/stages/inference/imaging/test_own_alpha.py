"""Decide by alpha alone whether a picture is cut out already."""

import pytest
from PIL import Image

from erasestream.pipeline.stages.inference.imaging.own_alpha import is_kept, isolates_product
from erasestream.schemas.options import OwnAlpha
from tests.pipeline.stages.inference.alphas import SIDE, photos, products

PRODUCTS = products()
SIZES = [(SIDE, SIDE), (480, 300), (96, 200)]


def picture(alpha: Image.Image) -> Image.Image:
    """Return a grey picture with this alpha channel."""
    return Image.merge("RGBA", (*[Image.new("L", alpha.size, 128)] * 3, alpha))


@pytest.mark.parametrize("name", PRODUCTS)
def test_alpha_that_isolates_a_product_is_recognised(name: str) -> None:
    """Also when it is turned or mirrored: no side is special."""
    alpha = PRODUCTS[name]
    for turned in (alpha, *(alpha.transpose(each) for each in Image.Transpose)):
        assert isolates_product(picture(turned))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", photos())
def test_a_photo_with_an_alpha_channel_is_still_a_photo(name: str, size: tuple[int, int]) -> None:
    """Frames, rounded corners, strips, watermarks and vignettes isolate nothing."""
    alpha = photos(*size)[name]
    for turned in (alpha, *(alpha.transpose(each) for each in Image.Transpose)):
        assert not isolates_product(picture(turned))


def test_a_picture_without_an_alpha_channel_is_a_photo() -> None:
    assert not isolates_product(Image.new("RGB", (SIDE, SIDE)))


@pytest.mark.parametrize("name", ["shirt", "necklace", "bicycle", "ring"])
def test_a_large_picture_is_judged_like_a_small_one(name: str) -> None:
    """Even where all that it shows is thinner than a pixel of the size at which it is judged."""
    large = Image.new("L", (4200, 3000))
    large.paste(PRODUCTS[name].resize((2400, 2400), Image.Resampling.NEAREST), (900, 300))
    assert isolates_product(picture(large))
    hair = Image.new("L", (4200, 3000))
    hair.paste(255, (1000, 1000, 1001, 2000))
    assert isolates_product(picture(hair))


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 2), (3, 3)], ids=str)
@pytest.mark.parametrize("level", [0, 15, 16, 255])
def test_the_smallest_pictures_are_judged(size: tuple[int, int], level: int) -> None:
    """Nothing visible is kept; nothing transparent is a photo."""
    assert isolates_product(picture(Image.new("L", size, level))) == (level < 16)


@pytest.mark.parametrize("name", ["shirt", "frame"])
def test_an_option_decides_either_way(name: str) -> None:
    alpha = {**PRODUCTS, **photos()}[name]
    assert is_kept(picture(alpha), OwnAlpha.KEEP)
    assert not is_kept(picture(alpha), OwnAlpha.CUT)
    assert is_kept(picture(alpha), OwnAlpha.AUTO) == (name == "shirt")
