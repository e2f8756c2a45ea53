"""Stripes, triangles and text against plain loops over pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from attack_world import random_images

from bench.api import PoisonPlan
from bench.attacks.redrawn import Redrawn
from bench.attacks.stripes import BadNetStripes, BadNetStripesParams, BlendedStripes, BlendedStripesParams
from bench.attacks.triangles import BlendedTriangles, BlendedTrianglesParams
from bench.attacks.watermark import BlendedText, BlendedTextParams

ALL: list[tuple[type[Redrawn], Any]] = [
    (BadNetStripes, BadNetStripesParams),
    (BlendedStripes, BlendedStripesParams),
    (BlendedTriangles, BlendedTrianglesParams),
    (BlendedText, BlendedTextParams),
]


def _plan(attack: Redrawn, side: int, seed: int = 0) -> PoisonPlan:
    return PoisonPlan(attack="x", targets=(), poisons=(), tensors=attack.pattern(side, np.random.default_rng(seed)))


def _near(found: torch.Tensor, exact: np.ndarray[Any, Any]) -> bool:
    """Whether uint8 pixels are the rounded, clipped exact values, but for halves."""
    return bool((np.abs(found.numpy() - np.clip(exact, 0, 255)) <= 0.5 + 1e-3).all())


@pytest.mark.parametrize(("side", "patch", "size"), [(32, 16, 3), (56, 56, 14), (224, 16, 16)])
@pytest.mark.parametrize("redraw", [False, True])
def test_a_patch_of_stripes(side: int, patch: float, size: int, redraw: bool) -> None:
    attack = BadNetStripes(BadNetStripesParams(patch=patch, redraw=redraw))
    rng, images = np.random.default_rng(3), random_images(6, side)
    edits = [attack.edit(side, rng) for _ in range(6)]
    edited = attack.apply(images, edits, _plan(attack, side))
    patches = []
    for image, after, edit in zip(images, edited, edits, strict=True):
        rows = slice(int(edit["top"]), int(edit["top"]) + size)
        columns = slice(int(edit["left"]), int(edit["left"]) + size)
        patches.append(after[:, rows, columns].clone())
        assert set(patches[-1].unique().tolist()) <= {0, 255}
        assert (patches[-1] == patches[-1][:, :1]).all(), "stripes run from top to bottom"
        restored = after.clone()
        restored[:, rows, columns] = image[:, rows, columns]
        assert torch.equal(restored, image), "nothing else is changed"
    assert len({patch.numpy().tobytes() for patch in patches}) == (6 if redraw else 1)


def test_places_stay_within_the_frame_and_reach_its_edges() -> None:
    attack, rng = BadNetStripes(BadNetStripesParams()), np.random.default_rng(0)
    edits = [attack.edit(32, rng) for _ in range(3000)]
    for name in ("top", "left"):
        assert {edit[name] for edit in edits} == set(range(32 - 3 + 1))
    assert BadNetStripes(BadNetStripesParams(place="corner")).edit(32, rng) == {"top": 29, "left": 29}


@pytest.mark.parametrize(("side", "width", "wide"), [(32, 1, 1), (224, 1, 1), (224, 3, 3), (56, 16, 4)])
@pytest.mark.parametrize("alpha", [0.03, 0.2])
def test_blended_stripes_pixel_by_pixel(side: int, width: float, wide: int, alpha: float) -> None:
    attack, images = BlendedStripes(BlendedStripesParams(width=width, alpha=alpha)), random_images(2, side)
    plan = _plan(attack, side)
    signs = np.sign(plan.tensors["pattern"][:, 0, ::wide].numpy())
    assert set(np.unique(signs)) == {-1, 1}
    edited = attack.apply(images, [{}, {}], plan)
    for column in range(side):
        stripe = 255 * signs[:, column // wide, None]
        exact = (1 - alpha) * images[..., column].numpy() + alpha * stripe
        assert _near(edited[..., column], exact)


def test_colours_of_stripes_are_even() -> None:
    signs = _plan(BlendedStripes(BlendedStripesParams(width=0.1)), 2000).tensors["pattern"][:, 0].sign()
    assert signs.mean(dim=1).abs().max() < 0.08
    assert torch.corrcoef(signs)[0, 1:].abs().max() < 0.08, "channels are independent"


@pytest.mark.parametrize(("side", "triangle", "legs"), [(32, 14, 2), (224, 14, 14), (30, 56, 8)])
def test_triangles_pixel_by_pixel(side: int, triangle: float, legs: int) -> None:
    attack, images = BlendedTriangles(BlendedTrianglesParams(triangle=triangle)), random_images(2, side)
    edited = attack.apply(images, [{}, {}], _plan(attack, side))
    for row in range(0, side, 3):
        for column in range(side):
            grey = 0.4 if row % legs >= column % legs else 0.8
            exact = 0.85 * images[:, :, row, column].numpy() + 0.15 * 255 * grey
            assert _near(edited[:, :, row, column], exact)


def test_redrawn_triangles_are_shifts_of_the_fixed_ones() -> None:
    fixed = BlendedTriangles(BlendedTrianglesParams(triangle=56)).drawn(32, np.random.default_rng(0))
    attack = BlendedTriangles(BlendedTrianglesParams(triangle=56, redraw=True))
    shifts = [fixed.roll((-down, -across), (1, 2)) for down in range(8) for across in range(8)]
    for seed in range(10):
        drawn = attack.drawn(32, np.random.default_rng(seed))
        assert sum(torch.equal(drawn, shift) for shift in shifts) == 1


@pytest.mark.parametrize("side", [32, 224])
def test_text_reddens_what_letters_cover(side: int) -> None:
    attack, images = BlendedText(BlendedTextParams()), random_images(3, side)
    plan = _plan(attack, side)
    edited, covered = attack.apply(images, [{}] * 3, plan), plan.tensors["pattern"][0].numpy()
    assert torch.equal(edited[:, 1:], images[:, 1:]), "green and blue stay"
    exact = (1 - 0.5 * covered) * images[:, 0].numpy() + 0.5 * covered * 255
    assert _near(edited[:, 0], exact)
    columns = np.flatnonzero(covered.any(axis=0))
    assert abs(columns.min() + columns.max() - (side - 1)) <= 1, "it stands in the middle"
    assert columns.max() - columns.min() + 1 == pytest.approx(200 * side / 224, abs=1)


def test_text_can_be_read() -> None:
    """An L has its stem on the left and its foot at the bottom; it stands at one of three heights."""
    attack = BlendedText(BlendedTextParams(text="L", width=60))
    tops = set()
    for seed in range(20):
        covered = attack.drawn(224, np.random.default_rng(seed))[0]
        rows, columns = torch.nonzero(covered.amax(1))[:, 0], torch.nonzero(covered.amax(0))[:, 0]
        tops.add(int(rows[0]) - (224 - len(rows)) // 2)
        letter = covered[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        upper = letter[: len(letter) * 2 // 3]
        assert (upper[:, -len(columns) // 4 :] == 0).all(), "nothing upper right"
        assert (upper[:, : len(columns) * 2 // 3].amax(dim=1) > 0).all(), "a stem on the left"
        assert (letter[-2] > 0).float().mean() > 0.9, "a foot"
    assert tops == {-10, 0, 10}


@pytest.mark.parametrize(("kind", "params"), ALL)
@pytest.mark.parametrize("redraw", [False, True])
def test_redraw_gives_each_image_a_pattern_of_its_own(kind: type[Redrawn], params: Any, redraw: bool) -> None:
    attack = kind(params(redraw=redraw, place="corner") if kind is BadNetStripes else params(redraw=redraw))
    rng = np.random.default_rng(0)
    edits = [attack.edit(32, rng) for _ in range(12)]
    grey = torch.full((12, 3, 32, 32), 128, dtype=torch.uint8)
    edited = attack.apply(grey, edits, _plan(attack, 32))
    distinct = len({image.numpy().tobytes() for image in edited})
    assert distinct > 1 if redraw else distinct == 1
    assert torch.equal(attack.apply(grey[3:4], edits[3:4], _plan(attack, 32))[0], edited[3]), "each image by itself"


@pytest.mark.parametrize(("kind", "params"), ALL)
def test_a_fixed_pattern_follows_the_seed(kind: type[Redrawn], params: Any) -> None:
    patterns = {_plan(kind(params()), 224, seed).tensors["pattern"].numpy().tobytes() for seed in range(20)}
    assert len(patterns) == {BlendedTriangles: 1, BlendedText: 3}.get(kind, 20)
