"""Cut-outs contain only the product, in the requested size and format."""

import io
import os

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from erasestream.pipeline.stages.inference.imaging.compose import arrange, cut
from erasestream.pipeline.stages.inference.imaging.decode import Picture, decode
from erasestream.pipeline.stages.inference.imaging.encode import EncodedImage, encode
from erasestream.pipeline.stages.inference.imaging.limits import Limits
from erasestream.schemas.errors import Code, InvalidImage
from erasestream.schemas.events.images import Adjusted
from erasestream.schemas.image_formats import sniff_content_type
from erasestream.schemas.options import Channels, CutoutOptions, Edges, OutputFormat, Size
from tests.pipeline.stages.inference.pictures import RED, disc, gradient, saved

GREEN = (20, 240, 30)
LOSSLESS = [OutputFormat.PNG, OutputFormat.WEBP, OutputFormat.AUTO]
EVERY = [each for each in OutputFormat if each is not OutputFormat.ZIP]


def cut_out(data: bytes, mask: np.ndarray, options: CutoutOptions) -> EncodedImage:
    """Run all steps but the model's; return the cut-out's file."""
    return encode(arrange(cut(decode(data), mask, options), options), options)


def values(data: bytes) -> np.ndarray:
    """Decode a file to red, green, blue and alpha."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))


def scene(
    width: int = 240, height: int = 180, behind: tuple[int, int, int] = GREEN
) -> tuple[bytes, np.ndarray]:
    """Return a photo of a red disc on a background, and its mask."""
    mask = np.asarray(Image.fromarray(disc(256)).resize((width, height), Image.Resampling.BILINEAR))
    pixels = mask[..., None] * np.array(RED) + (1 - mask[..., None]) * np.array(behind)
    return saved(Image.fromarray(pixels.round().astype(np.uint8))), mask


@pytest.mark.parametrize("size", [Size.AUTO, Size.PREVIEW])
@pytest.mark.parametrize("edges", list(Edges))
@pytest.mark.parametrize("output", LOSSLESS)
def test_no_colour_is_left_where_the_cutout_is_transparent(
    output: OutputFormat, edges: Edges, size: Size
) -> None:
    """Decoded without its alpha channel, the background is black."""
    photo, mask = scene(800, 600)
    done = cut_out(photo, mask, CutoutOptions(format=output, edges=edges, size=size))
    assert sniff_content_type(done.data) == done.content_type == output.content_type
    seen = values(done.data)
    assert seen.shape == (done.height, done.width, 4)
    hidden = seen[..., 3] == 0
    assert 0.3 < hidden.mean() < 0.9
    assert not seen[hidden].any()
    assert (np.median(seen[seen[..., 3] == 255][:, :3], axis=0) == RED).all()


@pytest.mark.parametrize("output", [OutputFormat.WEBP, OutputFormat.AUTO])
def test_a_lossy_cutout_contains_no_background(output: OutputFormat) -> None:
    """The colours that lossy WebP gives transparent pixels do not depend on the background."""
    options = CutoutOptions(format=output, quality=80)
    before = [
        values(cut_out(*scene(behind=colour), options).data).astype(int)
        for colour in (GREEN, (255, 255, 255), (0, 0, 90))
    ]
    hidden = before[0][..., 3] == 0
    assert 0.3 < hidden.mean() < 0.9
    for other in before[1:]:
        difference = np.abs(other - before[0])[hidden]
        assert difference.mean() < 0.5
        assert difference.max() < 30, "backgrounds differ by up to 235"


def test_a_jpg_has_the_requested_background() -> None:
    """White by default."""
    photo, mask = scene()
    for colour, expected in (
        (None, (255, 255, 255)),
        ("#00f", (0, 0, 255)),
        ("navy", (0, 0, 128)),
        ("102030", (16, 32, 48)),
    ):
        options = CutoutOptions(format=OutputFormat.JPG, bg_color=colour)
        done = cut_out(photo, mask, options)
        assert sniff_content_type(done.data) == done.content_type == "image/jpeg"
        seen = values(done.data).astype(int)
        assert np.abs(seen[0, 0, :3] - expected).max() < 4
        assert np.abs(seen[90, 120, :3] - RED).max() < 12


@pytest.mark.parametrize("output", LOSSLESS)
def test_a_background_makes_any_format_opaque(output: OutputFormat) -> None:
    """Its colour is exact beside the product."""
    photo, mask = scene()
    seen = values(cut_out(photo, mask, CutoutOptions(format=output, bg_color="ff8000")).data)
    assert (seen[..., 3] == 255).all()
    assert tuple(seen[0, 0, :3]) == (255, 128, 0)


@pytest.mark.parametrize("output", EVERY)
def test_the_alpha_channel_is_a_grey_picture_of_the_photos_size(output: OutputFormat) -> None:
    """White where the product is; also for a rotated JPEG that was decoded at a smaller size."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    photo = saved(gradient(960, 640), "JPEG", exif=exif)
    options = CutoutOptions(format=output, channels=Channels.ALPHA)
    picture = decode(photo, draft=64)
    done = encode(arrange(cut(picture, disc(), options), options), options)
    seen = values(done.data).astype(int)
    assert seen.shape == (960, 640, 4)
    assert (seen[..., 3] == 255).all()
    assert np.abs(seen[..., 0] - seen[..., 1]).max() == 0
    assert seen[480, 320, 0] > 250
    assert seen[0, 0, 0] < 5


@pytest.mark.parametrize("output", LOSSLESS)
def test_transparent_pixels_stay_transparent(output: OutputFormat) -> None:
    """The picture's own alpha is multiplied in, and its hidden colours are removed."""
    source = Image.new("RGBA", (64, 64), (*RED, 128))
    source.paste((*GREEN, 0), (0, 0, 64, 32))
    whole = np.ones((8, 8), np.float32)
    seen = values(
        cut_out(saved(source), whole, CutoutOptions(format=output, edges=Edges.AS_IS)).data
    )
    assert not seen[:32].any()
    assert (seen[32:] == (*RED, 128)).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("output", EVERY)
def test_metadata_is_not_passed_on(kind: str, output: OutputFormat) -> None:
    """No camera, position, comment, XMP or profile."""
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "SECRET-CAMERA"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "SECRET-N"
    text = PngInfo()
    text.add_text("Comment", "SECRET-TEXT")
    extra = {
        "JPEG": {"comment": b"SECRET-COMMENT", "xmp": b"<x>SECRET-XMP</x>"},
        "PNG": {"pnginfo": text},
        "WEBP": {"xmp": b"<x>SECRET-XMP</x>"},
    }[kind]
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = saved(gradient(), kind, exif=exif, icc_profile=icc, **extra)
    assert b"SECRET" in data
    for channels in Channels:
        out = cut_out(data, disc(), CutoutOptions(format=output, channels=channels)).data
        result = Image.open(io.BytesIO(out))
        result.load()
        assert b"SECRET" not in out
        assert not set(result.info) & {"exif", "icc_profile", "xmp", "comment", "Comment"}
        assert not result.getexif()


def test_a_crop_leaves_the_product_and_the_margin() -> None:
    """In pixels or in percent of the product; beyond the photo it is transparent."""
    image = Image.new("RGB", (100, 80), GREEN)
    mask = np.zeros((80, 100), np.float32)
    mask[20:60, 10:90] = 1

    def size(margin: str | None) -> tuple[int, ...]:
        options = CutoutOptions(crop=True, crop_margin=margin)
        seen = values(cut_out(saved(image), mask, options).data)
        assert not seen[seen[..., 3] == 0].any()
        return seen.shape[:2]

    # The mask has the photo's size, so its edge is exact.
    assert size(None) == (40, 80)
    assert size("5px") == (50, 90)
    assert size("10%") == (48, 96)
    assert size("0px 10px") == (40, 100)
    assert size("1px 2px 3px 40px") == (44, 122), "30 pixels beyond the photo"


def test_a_crop_of_nothing_is_the_whole_picture() -> None:
    """If no product was found."""
    nothing = np.zeros((8, 8), np.float32)
    done = cut_out(saved(gradient()), nothing, CutoutOptions(crop=True))
    assert (done.width, done.height) == (96, 64)
    assert not values(done.data).any()


@pytest.mark.parametrize("most", [30, 37, 100, 333])
@pytest.mark.parametrize("margin", ["0px 500px", "50%", "3px 1px 50% 499px"])
def test_margins_are_scaled_like_the_product(margin: str, most: int) -> None:
    """However far they reach beyond the photo; limits apply to the result."""
    options = CutoutOptions(crop=True, crop_margin=margin, max_dimension=most)
    whole = cut(decode(saved(gradient())), np.ones((8, 8), np.float32), options)
    done = arrange(whole, options, limits=Limits(max_cutout_pixels=most * most))
    margins = options.margins(96, 64)
    width, height = margins.left + 96 + margins.right, margins.top + 64 + margins.bottom
    factor = min(1, most / max(width, height))
    assert done.size == (int(width * factor + 1e-6), int(height * factor + 1e-6))
    alpha = np.asarray(done.image)[..., 3]
    assert abs((alpha == 255).sum() - 96 * 64 * factor**2) <= (96 + 64) * factor + 1
    rows, columns = np.nonzero(alpha)
    assert abs(columns.min() - margins.left * factor) <= 1
    assert abs(rows.min() - margins.top * factor) <= 1


def test_auto_is_scaled_down_to_fit_with_its_margins() -> None:
    options = CutoutOptions(format=OutputFormat.AUTO, crop=True, crop_margin="50%")
    limits = Limits(max_cutout_pixels=100 * 80)
    photo = decode(saved(gradient(100, 80)), limits=limits)
    arranged = arrange(cut(photo, np.ones((8, 8), np.float32), options), options, limits=limits)
    done = encode(arranged, options, limits=limits)
    assert done.adjusted is Adjusted.SMALLER
    assert (done.width, done.height) == (100, 80)
    columns = np.nonzero(np.asarray(arranged.image)[40, :, 3])[0]
    assert (columns.min(), columns.max()) == (25, 74)


def test_margins_that_make_too_many_pixels_are_refused() -> None:
    options = CutoutOptions(crop=True, crop_margin="500px")
    whole = cut(decode(saved(gradient())), np.ones((8, 8), np.float32), options)
    with pytest.raises(InvalidImage) as refused:
        arrange(whole, options, limits=Limits(max_cutout_pixels=100_000))
    assert refused.value.code is Code.RESULT_TOO_LARGE


@pytest.mark.parametrize(
    ("options", "size"),
    [
        (CutoutOptions(max_dimension=48), (48, 32)),
        (CutoutOptions(max_dimension=5000), (960, 640)),
        (CutoutOptions(size=Size.FULL), (960, 640)),
        (CutoutOptions(size=Size.HD), (960, 640)),
        (CutoutOptions(size=Size.PREVIEW), (612, 408)),
    ],
)
def test_a_result_has_the_requested_size_but_never_exceeds_the_photo(
    options: CutoutOptions, size: tuple[int, int]
) -> None:
    """By its longest side, or by its pixels."""
    done = cut_out(saved(gradient(960, 640)), disc(), options)
    assert (done.width, done.height) == size == values(done.data).shape[1::-1]


def noise(width: int = 64, height: int = 64) -> Picture:
    """Return a picture that no encoder compresses well."""
    return Picture(image=Image.frombytes("RGBA", (width, height), os.urandom(width * height * 4)))


@pytest.mark.parametrize("output", [each for each in OutputFormat if each is not OutputFormat.AUTO])
def test_a_result_over_the_limit_is_refused(output: OutputFormat) -> None:
    """It has a code; it would be too large for any topic."""
    options = CutoutOptions(format=output)
    cutout = arrange(noise(), options)
    with pytest.raises(InvalidImage) as refused:
        encode(cutout, options, limits=Limits(max_result_bytes=1_000))
    assert refused.value.code is Code.RESULT_TOO_LARGE


@pytest.mark.parametrize(
    ("max_bytes", "adjusted", "width"),
    [(40_000, None, 64), (12_000, Adjusted.LOSSY, 64), (6_000, Adjusted.SMALLER, 45)],
)
def test_auto_steps_down_until_it_fits(
    max_bytes: int, adjusted: Adjusted | None, width: int
) -> None:
    """Lossless, lossy, then half as many pixels, which `adjusted` records."""
    limits = Limits(max_result_bytes=max_bytes)
    done = encode(noise(), CutoutOptions(format=OutputFormat.AUTO), limits=limits)
    assert len(done.data) <= max_bytes
    assert (done.content_type, done.adjusted, done.width) == ("image/webp", adjusted, width)
    assert values(done.data).shape[1] == width


def test_auto_is_refused_where_nothing_fits() -> None:
    with pytest.raises(InvalidImage) as refused:
        encode(noise(), CutoutOptions(format=OutputFormat.AUTO), limits=Limits(max_result_bytes=10))
    assert refused.value.code is Code.RESULT_TOO_LARGE


def test_a_size_beyond_the_format_is_refused() -> None:
    """WebP ends at 16,383 pixels, PNG does not, and auto is scaled down."""
    wide = Picture(image=Image.new("RGBA", (16_400, 16)))
    with pytest.raises(InvalidImage) as refused:
        encode(wide, CutoutOptions(format=OutputFormat.WEBP))
    assert refused.value.code is Code.ENCODING_FAILED
    assert encode(wide, CutoutOptions(format=OutputFormat.PNG)).width == 16_400
    done = encode(wide, CutoutOptions(format=OutputFormat.AUTO))
    assert (done.width, done.adjusted) == (16_383, Adjusted.SMALLER)
