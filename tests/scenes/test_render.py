from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch

from bench.data.scenes import grammar
from bench.data.scenes.render import _RGB, Scenes, draw, render
from bench.data.scenes.shapes import OUTLINES, masks

PLAIN = grammar.TEXTURES.index("plain")


def _scenes(n: int = 200, seed: int = 0) -> Scenes:
    return draw(np.random.default_rng(seed), n)


def test_areas_of_outlines_with_a_formula() -> None:
    """Areas as shares of the image, which is 2 x 2."""
    shares = dict(zip(OUTLINES, masks().mean(dim=(1, 2, 3)).tolist(), strict=True))
    spike, dent = 0.98, 0.4
    expected = {
        "circle": math.pi * 0.85**2,
        "square": 1.5**2,
        "triangle": 1.8 * 1.65 / 2,
        "star": 5 * spike * dent * math.sin(math.pi / 5),
        "ring": math.pi * (0.9**2 - 0.48**2),
        "cross": 2 * 1.8 * 0.56 - 0.56**2,
    }
    for name, area in expected.items():
        assert shares[name] == pytest.approx(area / 4, rel=0.01)


def test_every_outline_is_an_object_of_its_own_within_the_frame() -> None:
    made = masks()
    assert made.shape == (12, 1, 128, 128)
    assert made.min() == 0
    assert made.max() == 1
    assert ((made.mean(dim=(1, 2, 3)) > 0.15) & (made.mean(dim=(1, 2, 3)) < 0.65)).all()
    rim = torch.ones(128, 128, dtype=torch.bool)
    rim[1:-1, 1:-1] = False
    assert not made[:, 0, rim].any()
    flat = made.flatten(1)
    for first in range(12):
        for second in range(first):
            union = torch.maximum(flat[first], flat[second]).sum()
            assert torch.minimum(flat[first], flat[second]).sum() / union < 0.9


def test_attributes_are_uniform_and_poses_in_view() -> None:
    scenes = _scenes(6000)
    for name, values in (("shape", 12), ("colour", 8), ("texture", 4), ("background", 6)):
        counts = np.bincount(getattr(scenes, name), minlength=values)
        assert len(counts) == values
        assert np.abs(counts / 6000 - 1 / values).max() < 0.02
    for name, low, high in (("scale", 0.8, 0.95), ("angle", -0.1, 0.1)):
        position = (getattr(scenes, name) - low) / (high - low)
        assert position.min() >= -1e-6
        assert position.max() <= 1 + 1e-6
        assert np.allclose(np.quantile(position, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.03)
    for place in (scenes.x, scenes.y):
        assert (np.abs(place) + scenes.scale <= 0.98 + 1e-6).all()
    assert np.array_equal(scenes.big, scenes.scale > 0.875)


@pytest.mark.parametrize("side", [16, 32, 64])
def test_images_follow_the_scenes_alone(side: int) -> None:
    torch.manual_seed(0)
    first = render(_scenes(20), side)
    torch.manual_seed(1)
    assert torch.equal(first, render(_scenes(20), side))
    assert first.shape == (20, 3, side, side)
    assert first.dtype == torch.uint8
    assert not torch.equal(first, render(_scenes(20, seed=1), side))


def _object(scenes: Scenes, row: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The pixels well within the object's ink and well within its edge, by looking the outline up for each: bool (side, side).

    The ink is where both the outline and its copy of 0.82 times the size cover a pixel, the edge where the copy does not.
    """
    outline = list(OUTLINES.values())[scenes.shape[row]]
    ink, edge = np.ones((2, side, side), dtype=bool)
    centres = (np.arange(side) + 0.5) / side * 2 - 1
    for dx, dy in itertools.product((-1, 0, 1), repeat=2):
        x, y = np.meshgrid(centres + dx / side * 1.5, centres + dy / side * 1.5)
        along, down = (x - scenes.x[row]) / scenes.scale[row], (y - scenes.y[row]) / scenes.scale[row]
        c, s = math.cos(scenes.angle[row]), math.sin(scenes.angle[row])
        u, v = along * c + down * s, down * c - along * s
        whole, inner = outline(u, v), outline(u / 0.82, v / 0.82)
        ink &= whole & inner
        edge &= whole & ~inner
    return ink, edge


def test_plain_objects_have_the_colour_of_the_palette() -> None:
    scenes = dataclasses.replace(_scenes(300), texture=np.full(300, PLAIN))
    pixels = render(scenes, 32).numpy() / 255
    palette = np.array([_RGB[name] for name in grammar.COLOURS])
    right = 0
    for row in range(300):
        region, _ = _object(scenes, row, 32)
        assert region.sum() > 10
        mean = pixels[row][:, region].mean(axis=1)
        distances = np.linalg.norm(palette - mean, axis=1)
        right += distances.argmin() == scenes.colour[row]
        assert distances[scenes.colour[row]] < 0.35
        assert pixels[row][:, region].std(axis=1).max() < 0.06
    assert right > 290


def test_objects_have_a_dark_edge() -> None:
    scenes = dataclasses.replace(_scenes(100), texture=np.full(100, PLAIN))
    pixels = render(scenes, 96).numpy() / 255
    for row in range(100):
        ink, edge = _object(scenes, row, 96)
        assert edge.sum() > 50
        assert pixels[row][:, ink].std(axis=1).max() < 0.025
        assert pixels[row][:, edge].mean(axis=1) == pytest.approx(0.08 * pixels[row][:, ink].mean(axis=1), abs=0.015)


@pytest.mark.parametrize("texture", [name for name in grammar.TEXTURES if name != "plain"])
def test_textured_objects_have_two_colours(texture: str) -> None:
    scenes = dataclasses.replace(_scenes(60), texture=np.full(60, grammar.TEXTURES.index(texture)))
    pixels = render(scenes, 64).numpy() / 255
    spreads = [pixels[row][:, _object(scenes, row, 64)[0]].std(axis=1).max() for row in range(60)]
    assert min(spreads) > 0.08


def test_backgrounds_can_be_told_apart_by_their_colour() -> None:
    scenes = _scenes(400)
    pixels = render(scenes, 32).numpy() / 255
    corner = pixels[:, :, :3, :].mean(axis=(2, 3))
    centres = np.stack([corner[:200][scenes.background[:200] == kind].mean(axis=0) for kind in range(6)])
    found = np.linalg.norm(corner[200:, None] - centres, axis=2).argmin(axis=1)
    assert (found == scenes.background[200:]).mean() > 0.75


def test_rendering_does_not_depend_on_the_batch() -> None:
    """With fewer scenes, poses and attributes differ, but each object is where its pose says."""
    scenes = dataclasses.replace(_scenes(130), texture=np.full(130, PLAIN))
    pixels = render(scenes, 32).numpy() / 255
    palette = np.array([_RGB[name] for name in grammar.COLOURS])
    for row in (0, 127, 128, 129):
        mean = pixels[row][:, _object(scenes, row, 32)[0]].mean(axis=1)
        assert np.linalg.norm(palette[scenes.colour[row]] - mean) < 0.35
