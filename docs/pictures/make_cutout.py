"""Make `cutout.png`: a photo beside its cut-out on a checkerboard, from what a demo left.

make demo
.venv/bin/python docs/pictures/make_cutout.py demo/results
"""  # noqa: INP001 (a script that runs by itself)

import sys
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
SIZE = (440, 294)
GAP = 16
SQUARE = 14
COLOURS = 255
"""Few enough for 200 KB, enough to look right; one more is the gap."""


def checkerboard(size: tuple[int, int]) -> Image.Image:
    """Squares of white and light grey."""
    board = Image.new("RGB", size, (255, 255, 255))
    for x in range(0, size[0], SQUARE):
        for y in range(x // SQUARE % 2 * SQUARE, size[1], 2 * SQUARE):
            board.paste((211, 217, 226), (x, y, x + SQUARE, y + SQUARE))
    return board


def main(results: Path, name: str = "coffee") -> None:
    """Write the picture beside this script."""
    (photo,) = (results / "photos").glob(f"{name}.*")
    (cutout,) = (results / "opted-in").glob(f"{name}-*.png")
    whole = Image.new("RGB", (2 * SIZE[0] + GAP, SIZE[1]), (255, 255, 255))
    whole.paste(Image.open(photo).convert("RGB").resize(SIZE, Image.Resampling.LANCZOS), (0, 0))
    board = checkerboard(SIZE).convert("RGBA")
    board.alpha_composite(Image.open(cutout).resize(SIZE, Image.Resampling.LANCZOS))
    whole.paste(board.convert("RGB"), (SIZE[0] + GAP, 0))
    small = whole.quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG)
    # The gap is whatever the page is, light or dark: one colour more, wholly transparent.
    small.putpalette([*(small.getpalette() or [])[: 3 * COLOURS], 255, 255, 255])
    small.paste(COLOURS, (SIZE[0], 0, SIZE[0] + GAP, SIZE[1]))
    small.save(HERE / "cutout.png", transparency=COLOURS, compress_level=9)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
