"""Previews: small pictures of image files for pages."""

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
    """The longer side fits; a picture that fits already keeps its size."""
    small = preview(saved(Image.new("RGB", size, (200, 0, 0))), longest=100)
    assert Image.open(io.BytesIO(small)).size == expected


def test_preview_of_a_cutout_stays_transparent() -> None:
    """What is transparent in the file is transparent in its preview."""
    small = preview(saved(Image.new("RGBA", (40, 40), (200, 0, 0, 0))), longest=20)
    assert Image.open(io.BytesIO(small)).convert("RGBA").getchannel("A").getextrema() == (0, 0)


def test_preview_of_no_image_is_refused() -> None:
    """As decoding it."""
    with pytest.raises(InvalidImage):
        preview(b"no image", longest=20)
