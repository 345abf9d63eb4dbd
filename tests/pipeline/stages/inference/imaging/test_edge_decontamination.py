"""Edges carry the product's colour and none of the old background's, on composites with a truth."""

from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from erasestream.pipeline.stages.inference.imaging import edge_decontamination
from erasestream.pipeline.stages.inference.imaging.compose import cut
from erasestream.pipeline.stages.inference.imaging.decode import Picture
from erasestream.schemas.options import CutoutOptions, Edges
from tests.pipeline.stages.inference.imaging.composites import Composite, composites
from tests.pipeline.stages.inference.pictures import disc, gradient

MOST = 1 / 3
"""Of the error that a cut-out has which keeps the photo's colours."""
SEED = 100
"""Not the one that the radii were chosen with."""
SCENES = list(composites(SEED))


def colours(scene: Composite, how: Edges) -> np.ndarray:
    """The cut-out's pixels, with the true alpha as its mask."""
    options = CutoutOptions(edges=how)
    return np.asarray(
        cut(Picture(image=scene.photo), scene.alpha.astype(np.float32), options).image
    )


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_the_old_background_is_gone_from_the_edge(scene: Composite) -> None:
    """The mean error of the colour is at most a third of the naive cut-out's."""
    naive = scene.error(colours(scene, Edges.AS_IS))
    assert naive > 20, "else there would be nothing to take out"
    assert scene.error(colours(scene, Edges.CLEAN)) <= naive * MOST


@pytest.mark.parametrize("scene", SCENES[::3], ids=lambda scene: scene.name)
def test_nothing_but_the_edge_is_changed(scene: Composite) -> None:
    """Inside the product every pixel is the photo's, and the alpha channel is the mask."""
    clean, as_is = colours(scene, Edges.CLEAN), colours(scene, Edges.AS_IS)
    inside = clean[..., 3] == 255
    assert inside.any()
    assert (clean[inside][:, :3] == np.asarray(scene.photo)[inside]).all()
    assert (clean[~scene.edge] == as_is[~scene.edge]).all()
    assert (clean[..., 3] == np.rint(scene.alpha * 255)).all()


def test_clean_edges_are_the_default() -> None:
    """And `as_is` leaves the photo's colours."""
    scene = SCENES[0]
    assert CutoutOptions().edges is Edges.CLEAN
    as_is = colours(scene, Edges.AS_IS)
    assert (as_is[scene.edge][:, :3] == np.asarray(scene.photo)[scene.edge]).all()


def own_disc(hidden: int) -> Image.Image:
    """A picture that is cut out already: soft at its rim, and noise under what is transparent."""
    pixels = np.random.default_rng(hidden).integers(0, 256, (96, 96, 4), np.uint8)
    pixels[..., 3] = np.rint(disc(96) * 255)
    visible = pixels[..., 3] > 0
    pixels[visible, :3] = np.asarray(gradient(96, 96))[visible]
    return Image.fromarray(pixels)


@pytest.mark.parametrize("hidden", [1, 2])
def test_what_is_cut_out_already_keeps_its_colours(hidden: int) -> None:
    """Its own soft rim was mixed with nothing, whatever colours are hidden behind it."""
    photo = own_disc(hidden)
    done = np.asarray(cut(Picture(image=photo), np.ones((8, 8), np.float32), CutoutOptions()).image)
    expected = np.asarray(photo).copy()
    expected[expected[..., 3] == 0] = 0
    assert (done == expected).all()


def test_hidden_colours_get_into_no_edge() -> None:
    """Where the mask is soft as well, what is under the transparent makes no difference."""
    mask = np.tile(np.linspace(0, 1, 96, dtype=np.float32), (96, 1))
    one, other = (
        np.asarray(cut(Picture(image=own_disc(hidden)), mask, CutoutOptions()).image)
        for hidden in (1, 2)
    )
    assert (one == other).all()
    soft = (one[..., 3] > 0) & (one[..., 3] < 255)
    assert (one[soft][:, :3] != np.asarray(own_disc(1))[soft][:, :3]).any()


def _halves(height: int) -> Iterator[slice]:
    yield slice(0, height // 3)
    yield slice(height // 3, height)


def test_strips_give_the_same_as_the_whole() -> None:
    """Where a strip ends is not to be seen."""
    random = np.random.default_rng(5)
    pixels = random.integers(0, 256, (90, 60, 4), np.uint8)
    cells = random.integers(0, 256, (30, 20, 4), np.uint8)
    sides = edge_decontamination.sides(random.integers(0, 256, (30, 20, 3), np.uint8), cells)
    whole, parts = pixels.copy(), pixels.copy()
    edge_decontamination.clean(whole, sides, top=0, height=90)
    for rows in _halves(90):
        edge_decontamination.clean(parts[rows], sides, top=rows.start, height=90)
    assert (whole == parts).all()
    assert (whole != pixels).any()


@pytest.mark.parametrize("level", [0, 40, 128, 255])
def test_a_mask_of_one_level_gives_a_picture(level: int) -> None:
    """No product, a hint of one, glass, or nothing but product: no division fails."""
    photo = Picture(image=Image.new("RGB", (50, 40), (200, 100, 50)))
    mask = np.full((8, 8), level / 255, np.float32)
    with np.errstate(all="raise", under="ignore"):
        done = np.asarray(cut(photo, mask, CutoutOptions()).image)
    expected = (200, 100, 50, level) if level else (0, 0, 0, 0)
    assert np.abs(done.astype(int) - expected).max() <= 6
