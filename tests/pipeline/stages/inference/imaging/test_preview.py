"""Previews: small copies of image files for pages."""

import io

import pytest
from PIL import Image

from erasestream.pipeline.stages.inference.imaging.preview import preview
from erasestream.schemas.errors import InvalidImage
from tests.pipeline.stages.inference.pictures import saved


@pytest.mark.parametrize(("size", "expected"), [((400, 200), (100, 50)), ((60, 30), (60, 30))])
def test_preview_is_scaled_down_and_never_up(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    small = preview(saved(Image.new("RGB", size, (200, 0, 0))), longest=100)
    assert Image.open(io.BytesIO(small)).size == expected


def test_preview_of_a_cutout_stays_transparent() -> None:
    small = preview(saved(Image.new("RGBA", (40, 40), (200, 0, 0, 0))), longest=20)
    assert Image.open(io.BytesIO(small)).convert("RGBA").getchannel("A").getextrema() == (0, 0)


def test_preview_of_no_image_is_refused() -> None:
    with pytest.raises(InvalidImage):
        preview(b"no image", longest=20)
