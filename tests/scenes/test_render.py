from __future__ import annotations

import dataclasses
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
    """Shares of the frame of 4 square units."""
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
    assert scenes.scale.min() >= 0.62
    assert scenes.scale.max() <= 0.88
    for place in (scenes.x, scenes.y):
        assert (np.abs(place) + scenes.scale <= 0.98 + 1e-6).all()
    assert np.array_equal(scenes.big, scenes.scale > 0.75)


@pytest.mark.parametrize("side", [16, 32, 64])
def test_images_follow_the_scenes_alone(side: int) -> None:
    torch.manual_seed(0)
    first = render(_scenes(20), side)
    torch.manual_seed(1)
    assert torch.equal(first, render(_scenes(20), side))
    assert first.shape == (20, 3, side, side)
    assert first.dtype == torch.uint8
    assert not torch.equal(first, render(_scenes(20, seed=1), side))


def _object(scenes: Scenes, row: int, side: int) -> np.ndarray:
    """The pixels well within the object, by looking its outline up for each: bool (side, side)."""
    outline = list(OUTLINES.values())[scenes.shape[row]]
    inside = np.ones((side, side), dtype=bool)
    centres = (np.arange(side) + 0.5) / side * 2 - 1
    for dx, dy in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        x, y = np.meshgrid(centres + dx / side * 1.5, centres + dy / side * 1.5)
        along, down = (x - scenes.x[row]) / scenes.scale[row], (y - scenes.y[row]) / scenes.scale[row]
        c, s = math.cos(scenes.angle[row]), math.sin(scenes.angle[row])
        inside &= outline(along * c + down * s, down * c - along * s)
    return inside


def test_plain_objects_have_the_colour_of_the_palette() -> None:
    scenes = dataclasses.replace(_scenes(300), texture=np.full(300, PLAIN))
    pixels = render(scenes, 32).numpy() / 255
    palette = np.array([_RGB[name] for name in grammar.COLOURS])
    right = 0
    for row in range(300):
        region = _object(scenes, row, 32)
        assert region.sum() > 10
        mean = pixels[row][:, region].mean(axis=1)
        distances = np.linalg.norm(palette - mean, axis=1)
        right += distances.argmin() == scenes.colour[row]
        assert distances[scenes.colour[row]] < 0.35
        assert pixels[row][:, region].std(axis=1).max() < 0.06
    assert right > 290


@pytest.mark.parametrize("texture", [name for name in grammar.TEXTURES if name != "plain"])
def test_textured_objects_have_two_colours(texture: str) -> None:
    scenes = dataclasses.replace(_scenes(60), texture=np.full(60, grammar.TEXTURES.index(texture)))
    pixels = render(scenes, 64).numpy() / 255
    spreads = [pixels[row][:, _object(scenes, row, 64)].std(axis=1).max() for row in range(60)]
    assert min(spreads) > 0.08


def test_backgrounds_can_be_told_apart_by_their_colour() -> None:
    scenes = _scenes(400)
    pixels = render(scenes, 32).numpy() / 255
    corner = pixels[:, :, :3, :].mean(axis=(2, 3))
    centres = np.stack([corner[:200][scenes.background[:200] == kind].mean(axis=0) for kind in range(6)])
    found = np.linalg.norm(corner[200:, None] - centres, axis=2).argmin(axis=1)
    assert (found == scenes.background[200:]).mean() > 0.75


def test_what_is_drawn_does_not_hang_on_the_batch() -> None:
    """The same world, shorter: poses and attributes differ, but a scene's object stays where its numbers say."""
    scenes = dataclasses.replace(_scenes(130), texture=np.full(130, PLAIN))
    pixels = render(scenes, 32).numpy() / 255
    palette = np.array([_RGB[name] for name in grammar.COLOURS])
    for row in (0, 127, 128, 129):
        mean = pixels[row][:, _object(scenes, row, 32)].mean(axis=1)
        assert np.linalg.norm(palette[scenes.colour[row]] - mean) < 0.35
