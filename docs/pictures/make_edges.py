"""Draw `edges.png` and print the table of `docs/edges.md`: `python -m docs.pictures.make_edges`.

One row for each scene shows a part of the edge, scaled up three times: the photo, and on white the
cut-out with the photo's colours, the one with clean edges, and the ground truth.
"""  # noqa: INP001 (a script that runs by itself)

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from erasestream.pipeline.stages.inference.imaging.compose import cut
from erasestream.pipeline.stages.inference.imaging.decode import Picture
from erasestream.schemas.options import CutoutOptions, Edges
from tests.pipeline.stages.inference.imaging.composites import Composite, composites

PART = (275, 200, 355, 260)
SCALE = 3
GAP = 8
SHOWN = {"soft, green", "out of focus, green", "fur, green"}
HERE = Path(__file__).parent


def cut_out(scene: Composite, edges: Edges) -> Image.Image:
    """Return the cut-out, with the true alpha as its mask."""
    mask = scene.alpha.astype(np.float32)
    return cut(Picture(image=scene.photo), mask, CutoutOptions(edges=edges)).image


def on_white(image: Image.Image) -> Image.Image:
    """Return the picture on white, as a shop shows it."""
    ground = Image.new("RGB", image.size, "white")
    ground.paste(image, mask=image.getchannel("A"))
    return ground


def truth(scene: Composite) -> Image.Image:
    """Return the product's own colours with the true alpha."""
    image = Image.fromarray(scene.foreground.round().astype(np.uint8))
    image.putalpha(Image.fromarray(np.rint(scene.alpha * 255).astype(np.uint8)))
    return image


def row(scene: Composite, naive: Image.Image, clean: Image.Image) -> Image.Image:
    """Return the four parts side by side."""
    views = [scene.photo, on_white(naive), on_white(clean), on_white(truth(scene))]
    parts = [view.crop(PART) for view in views]
    parts = [part.resize((part.width * SCALE, part.height * SCALE), 0) for part in parts]
    width = parts[0].width
    line = Image.new("RGB", (len(parts) * (width + GAP) - GAP, parts[0].height), "white")
    for number, part in enumerate(parts):
        line.paste(part, (number * (width + GAP), 0))
    return line


def main() -> None:
    """Write the picture, print the table."""
    rows = []
    sys.stdout.write("| Scene | Naive | Clean | Ratio |\n|---|---|---|---|\n")
    for scene in composites():
        naive, clean = cut_out(scene, Edges.AS_IS), cut_out(scene, Edges.CLEAN)
        before, after = (scene.error(np.asarray(image)) for image in (naive, clean))
        line = f"| {scene.name} | {before:.1f} | {after:.1f} | {after / before:.2f} |\n"
        sys.stdout.write(line)
        if scene.name in SHOWN:
            rows.append(row(scene, naive, clean))
    height = rows[0].height + GAP
    sheet = Image.new("RGB", (rows[0].width, len(rows) * height - GAP), "white")
    for number, line in enumerate(rows):
        sheet.paste(line, (0, number * height))
    sheet.save(HERE / "edges.png", optimize=True)


if __name__ == "__main__":
    main()
