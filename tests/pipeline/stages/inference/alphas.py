"""Alpha channels for tests: of products that are cut out already, and of photos."""

from collections.abc import Callable, Iterator, Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

SIDE = 240
Box = tuple[float, float, float, float]
Draw = Callable[[ImageDraw.ImageDraw, int], object]


def drawn(draw: Draw, *, width: int = SIDE, height: int = SIDE, scale: int = 4) -> Image.Image:
    """Draw an alpha channel, with smooth edges if `scale` is more than 1."""
    image = Image.new("L", (width * scale, height * scale))
    draw(ImageDraw.Draw(image), scale)
    return image.resize((width, height), Image.Resampling.BOX)


def box(*sides: float, fill: int = 255, corner: float = 0) -> Draw:
    """Draw a rectangle, perhaps with rounded corners."""
    return lambda draw, scale: draw.rounded_rectangle(
        [*(side * scale for side in sides[:2]), *(side * scale - 1 for side in sides[2:])],
        radius=corner * scale,
        fill=fill,
    )


def disc(*sides: float, fill: int = 255) -> Draw:
    """Draw an ellipse in this box."""
    return lambda draw, scale: draw.ellipse([side * scale for side in sides], fill=fill)


def polygon(*corners: tuple[float, float], fill: int = 255) -> Draw:
    """Draw a polygon."""
    return lambda draw, scale: draw.polygon([(x * scale, y * scale) for x, y in corners], fill=fill)


def lines(*points: tuple[float, float], width: float) -> Draw:
    """Draw connected lines."""
    return lambda draw, scale: draw.line(
        [(x * scale, y * scale) for x, y in points], fill=255, width=round(width * scale)
    )


def all_of(*draws: Draw) -> Draw:
    """Draw one after another."""
    return lambda draw, scale: [each(draw, scale) for each in draws]


SHIRT = polygon(
    (46, 72), (94, 34), (115, 46), (137, 34), (185, 72), (158, 115), (164, 98), (164, 206),
    (67, 206), (67, 98), (50, 115), (24, 91)
)  # fmt: skip
BOTTLE = all_of(box(72, 72, 168, 235, corner=20), box(103, 10, 137, 96))


def _soft(alpha: Image.Image, radius: float) -> Image.Image:
    return alpha.filter(ImageFilter.GaussianBlur(radius))


def _wavy(amplitude: float, inset: float) -> Draw:
    """Draw a towel: nearly a rectangle, with sides that are not straight."""
    random = np.random.default_rng(5)
    along = np.linspace(inset, SIDE - inset, 60)
    waves = random.uniform(0, amplitude, (4, len(along)))
    near, far = inset + waves[:2], SIDE - inset - waves[2:]
    return polygon(
        *zip(along, near[0], strict=True),
        *zip(far[0], along, strict=True),
        *reversed([*zip(along, far[1], strict=True)]),
        *reversed([*zip(near[1], along, strict=True)]),
    )


def _bicycle(draw: ImageDraw.ImageDraw, scale: int) -> None:
    for middle in (62, 178):
        disc_of = (middle - 43, 101, middle + 43, 187)
        draw.ellipse([side * scale for side in disc_of], outline=255, width=2 * scale)
        for angle in np.linspace(0, np.pi, 12, endpoint=False):
            dx, dy = 43 * np.cos(angle), 43 * np.sin(angle)
            lines((middle - dx, 144 - dy), (middle + dx, 144 + dy), width=0.5)(draw, scale)
    lines((62, 144), (96, 86), (163, 86), (178, 144), width=3)(draw, scale)


def _lace(draw: ImageDraw.ImageDraw, scale: int) -> None:
    disc(20, 20, 220, 220)(draw, scale)
    for x in range(24, 216, 8):
        for y in range(24, 216, 8):
            disc(x, y, x + 6, y + 6, fill=0)(draw, scale)


def _necklace(draw: ImageDraw.ImageDraw, scale: int) -> None:
    for x in range(30, 210, 9):
        y = 60 + 110 * (1 - ((x - 120) / 90) ** 2)
        draw.ellipse([side * scale for side in (x, y, x + 8, y + 8)], outline=255, width=scale)


def _zoomed(alpha: Image.Image, part: Box) -> Image.Image:
    return alpha.resize((SIDE, SIDE), box=part)


@cache
def products() -> Mapping[str, Image.Image]:
    """Return alpha channels that isolate a product, by name."""
    return dict(_products())


@cache
def photos(width: int = SIDE, height: int = SIDE) -> Mapping[str, Image.Image]:
    """Return alpha channels of photos whose background is still there, by name."""
    return dict(_photos(width, height))


def _products() -> Iterator[tuple[str, Image.Image]]:
    shirt, bottle, ball = drawn(SHIRT), drawn(BOTTLE), drawn(disc(70, 50, 170, 150))
    yield "shirt", shirt
    yield "shirt, hard edges", drawn(SHIRT, scale=1)
    yield "shirt that reaches all borders", shirt.crop(shirt.getbbox())
    yield "shirt beyond all borders", _zoomed(shirt, (57, 38, 164, 206))
    yield (
        "shoulders at the top",
        drawn(polygon((0, 240), (0, 20), (60, 0), (180, 0), (240, 20), (240, 240))),
    )
    yield "a corner is empty", drawn(polygon((0, 0), (180, 0), (240, 72), (240, 240), (0, 240)))
    yield (
        "nearly the whole picture",
        drawn(
            polygon(
                (0, 0), (206, 0), (240, 29), (240, 240), (58, 240), (43, 211), (29, 240), (0, 240)
            )
        ),
    )
    yield "bottle", bottle
    yield "bottle that reaches all borders", bottle.crop(bottle.getbbox())
    yield "bottle on the lower border", ImageChops.offset(bottle, 0, 5)
    yield "plate", drawn(disc(20, 20, 220, 220))
    yield "plate that reaches all borders", drawn(disc(0, 0, 240, 240))
    yield "tray that reaches all borders", drawn(disc(0, 0, 300, 200), width=300, height=200)
    yield "fur", _soft(ball, 2)
    yield "ring", drawn(all_of(disc(50, 50, 190, 190), disc(54, 54, 186, 186, fill=0)))
    yield "necklace", drawn(_necklace)
    yield "lace", drawn(_lace)
    yield "bicycle", drawn(_bicycle)
    yield "picture frame", drawn(all_of(box(20, 20, 220, 220), box(50, 50, 190, 190, fill=0)))
    yield (
        "three products",
        drawn(
            all_of(
                disc(10, 90, 70, 150),
                polygon((95, 150), (120, 70), (150, 150)),
                box(170, 80, 225, 150, corner=12),
            )
        ),
    )
    yield "telephone", drawn(box(70, 20, 170, 220, corner=20))
    yield (
        "box from above",
        drawn(polygon((38, 72), (120, 43), (202, 72), (202, 168), (120, 206), (38, 168))),
    )
    yield "matchbox, drawn with a ruler", drawn(box(70, 80, 170, 200))
    yield "book, not quite straight", drawn(polygon((38, 48), (202, 52), (199, 192), (41, 190)))
    yield "towel", drawn(_wavy(3, 30))
    yield "towel that reaches all borders", drawn(_wavy(4, 0))
    yield "glass", bottle.point(lambda level: level * 110 // 255)
    yield "pane of glass", drawn(box(70, 20, 170, 220, fill=120))
    yield "veil", _soft(drawn(polygon((120, 14), (202, 226), (38, 226), fill=90)), 2)
    shadow = _soft(drawn(disc(30, 200, 210, 235, fill=140)), 6)
    yield "bottle with a soft shadow", ImageChops.lighter(bottle, shadow)
    yield (
        "ball with a soft shadow",
        ImageChops.lighter(ball, _soft(drawn(disc(65, 130, 175, 165, fill=150)), 5)),
    )
    yield "nothing", Image.new("L", (SIDE, SIDE))
    yield "next to nothing", Image.new("L", (SIDE, SIDE), 3)


def _photos(width: int, height: int) -> Iterator[tuple[str, Image.Image]]:
    def of(draw: Draw, *, scale: int = 4) -> Image.Image:
        return drawn(draw, width=width, height=height, scale=scale)

    whole = (0, 0, width, height)
    inner = (width // 10, height // 10, width - width // 10, height - height // 10)
    shorter = min(width, height)
    yield "opaque", Image.new("L", (width, height), 255)
    noise = np.random.default_rng(3).integers(254, 256, (height, width))
    yield "noise", Image.fromarray(noise.astype(np.uint8))
    for share in (0.05, 0.2, 0.36):
        for scale in (1, 4):
            rounded = of(box(*whole, corner=share * shorter), scale=scale)
            yield f"corners rounded to {share}, drawn at {scale}", rounded
    margin = box(2, 1, width - 2, height - 1, corner=0.1 * shorter)
    yield "rounded corners within a narrow margin", of(margin)
    upper = of(box(0, 0, width, 2 * height, corner=0.2 * shorter))
    yield "upper corners rounded", upper
    square = drawn(box(0, 0, SIDE, SIDE, corner=50))
    yield "elliptical corners", square.resize((width, height), Image.Resampling.BILINEAR)
    frame = of(box(*inner), scale=1)
    yield "frame", frame
    yield (
        "frame, resized",
        frame.resize((width * 2 // 3, height * 2 // 3), Image.Resampling.LANCZOS),
    )
    shadow = ImageChops.offset(_soft(frame.point(lambda level: level // 2), 4), 0, 3)
    yield "frame and a shadow", ImageChops.lighter(frame, shadow)
    yield "above and below", of(box(0, inner[1], width, inner[3]), scale=1)
    yield "a strip at one side", of(box(0, 0, inner[2], height), scale=1)
    across = all_of(box(*whole), box(0, inner[1], width, 2 * inner[1], fill=0))
    yield "a strip across", of(across, scale=1)
    yield "watermark", of(all_of(box(*whole), disc(*(side / 2 for side in inner), fill=0)))
    y, x = np.mgrid[:height, :width] + 0.5
    out = np.hypot(x / width - 0.5, y / height - 0.5) * 2
    yield "vignette", _faded((1 - out) / 0.4)
    yield "vignette beyond the borders", _faded((1.2 - out) / 0.4)
    inside = np.minimum(np.minimum(x, width - x), np.minimum(y, height - y))
    yield "fading sides", _faded(inside / shorter * 6)
    yield "fading downwards", _faded((1 - y / height) * 2)


def _faded(alpha: NDArray[np.float64]) -> Image.Image:
    return Image.fromarray(np.rint(np.clip(alpha, 0, 1) * 255).astype(np.uint8))
