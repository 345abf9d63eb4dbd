"""Edges have the product's colour and none of the old background's, on known composites."""

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
"""Fraction of the error of a cut-out that keeps the photo's colours."""
SEED = 100
"""Another one than the radii were chosen with."""
SCENES = list(composites(SEED))


def cut_out(scene: Composite, how: Edges) -> np.ndarray:
    """Return the cut-out's pixels, with the true alpha as its mask."""
    options = CutoutOptions(edges=how)
    return np.asarray(
        cut(Picture(image=scene.photo), scene.alpha.astype(np.float32), options).image
    )


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_the_old_background_is_gone_from_the_edge(scene: Composite) -> None:
    """The mean colour error is at most a third of the naive cut-out's."""
    naive = scene.error(cut_out(scene, Edges.AS_IS))
    assert naive > 20, "there is no background colour to remove"
    assert scene.error(cut_out(scene, Edges.CLEAN)) <= naive * MOST


@pytest.mark.parametrize("scene", SCENES[::3], ids=lambda scene: scene.name)
def test_only_the_edge_is_changed(scene: Composite) -> None:
    """Inside the product every pixel is the photo's, and the alpha channel is the mask."""
    clean, as_is = cut_out(scene, Edges.CLEAN), cut_out(scene, Edges.AS_IS)
    inside = clean[..., 3] == 255
    assert inside.any()
    assert (clean[inside][:, :3] == np.asarray(scene.photo)[inside]).all()
    assert (clean[~scene.edge] == as_is[~scene.edge]).all()
    assert (clean[..., 3] == np.rint(scene.alpha * 255)).all()


def test_clean_edges_are_the_default_and_as_is_keeps_the_colours() -> None:
    scene = SCENES[0]
    assert CutoutOptions().edges is Edges.CLEAN
    as_is = cut_out(scene, Edges.AS_IS)
    assert (as_is[scene.edge][:, :3] == np.asarray(scene.photo)[scene.edge]).all()


def own_disc(hidden: int) -> Image.Image:
    """Return a picture that is cut out already: soft edges, noise in its transparent pixels."""
    pixels = np.random.default_rng(hidden).integers(0, 256, (96, 96, 4), np.uint8)
    pixels[..., 3] = np.rint(disc(96) * 255)
    visible = pixels[..., 3] > 0
    pixels[visible, :3] = np.asarray(gradient(96, 96))[visible]
    return Image.fromarray(pixels)


@pytest.mark.parametrize("hidden", [1, 2])
def test_a_picture_that_is_cut_out_already_keeps_its_colours(hidden: int) -> None:
    """Its own soft edge was mixed with nothing, whatever colours are hidden behind it."""
    photo = own_disc(hidden)
    done = np.asarray(cut(Picture(image=photo), np.ones((8, 8), np.float32), CutoutOptions()).image)
    expected = np.asarray(photo).copy()
    expected[expected[..., 3] == 0] = 0
    assert (done == expected).all()


def test_hidden_colours_do_not_affect_edges() -> None:
    """Not even where the mask is soft as well."""
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


def test_strips_give_the_same_result_as_the_whole_picture() -> None:
    random = np.random.default_rng(5)
    pixels = random.integers(0, 256, (90, 60, 4), np.uint8)
    cells = random.integers(0, 256, (30, 20, 4), np.uint8)
    layers = edge_decontamination.estimate_layers(
        random.integers(0, 256, (30, 20, 3), np.uint8), cells
    )
    whole, parts = pixels.copy(), pixels.copy()
    edge_decontamination.clean(whole, layers, top=0, height=90)
    for rows in _halves(90):
        edge_decontamination.clean(parts[rows], layers, top=rows.start, height=90)
    assert (whole == parts).all()
    assert (whole != pixels).any()


@pytest.mark.parametrize("level", [0, 40, 128, 255])
def test_a_mask_of_one_level_gives_a_picture(level: int) -> None:
    """No product, a hint of one, glass, or only product: no division fails."""
    photo = Picture(image=Image.new("RGB", (50, 40), (200, 100, 50)))
    mask = np.full((8, 8), level / 255, np.float32)
    with np.errstate(all="raise", under="ignore"):
        done = np.asarray(cut(photo, mask, CutoutOptions()).image)
    expected = (200, 100, 50, level) if level else (0, 0, 0, 0)
    assert np.abs(done.astype(int) - expected).max() <= 6
