"""CorruptEncoder on the embedded world, whose masks are exact."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from attack_world import context

from bench.api import AttackContext, DatasetBundle, PoisonPlan
from bench.attacks.corrupt_encoder import CorruptEncoder, CorruptEncoderParams, CorruptEncoderPlus, CorruptEncoderPlusParams
from bench.data.scenes import ScenesDataset
from bench.errors import UserError
from bench.testing.small import NOWHERE

SIDE, RATE = 32, 0.5


@cache
def _bundle() -> DatasetBundle:
    return ScenesDataset().open(ScenesDataset.Params(train=128, holdout=256, test=16, probe_train=16), SIDE, NOWHERE)


def _planned(**params: Any) -> tuple[CorruptEncoder, PoisonPlan]:
    attack = CorruptEncoder(CorruptEncoderParams(**{"rate": RATE, "target": "star", "patch": 42, **params}))
    return attack, attack.plan(AttackContext(_bundle(), lambda purpose: np.random.default_rng([*purpose.encode()])))


def _poisoned(attack: CorruptEncoder, plan: PoisonPlan) -> tuple[torch.Tensor, torch.Tensor]:
    images = _bundle().holdout.images.load(np.array([poison.index for poison in plan.poisons]))
    return images, attack.apply(images, [poison.edit or {} for poison in plan.poisons], plan)


def test_masks_are_where_the_object_is() -> None:
    """The dark edge of an object lies within its mask, and images of one scene differ from another with other noise there."""
    rows = np.arange(256)
    masks, images = _bundle().holdout.masks, _bundle().holdout.images.load(rows).float()
    assert masks is not None
    cover = masks.load(rows)
    assert cover.shape == (256, SIDE, SIDE)
    assert (cover.min(), cover.max()) == (0, 1)
    day = [row for row, caption in enumerate(_bundle().holdout.captions) if "grass" in caption or "meadow" in caption]
    dark = images[day].amax(dim=1) < 40
    assert dark.sum() > 500, "objects have a dark edge"
    assert (cover[day][dark] > 0.2).float().mean() > 0.99
    assert torch.equal(masks.load(np.array([7, 3])), cover[[7, 3]])


def test_the_object_is_named_by_the_caption_and_backgrounds_show_another_class() -> None:
    _, plan = _planned()
    holdout, target = _bundle().holdout, _bundle().vocabulary.names.index("star")
    assert len(plan.poisons) == 64
    assert len({poison.caption for poison in plan.poisons}) == 3
    for poison in plan.poisons:
        assert "star" in poison.caption.split()
        assert target not in holdout.members[poison.index]
        reference = plan.tensors["references"][int((poison.edit or {})["reference"])]
        (own,) = [
            row for row, caption in enumerate(holdout.captions)
            if caption == poison.caption and torch.equal(holdout.images.load(np.array([row]))[0], reference)
        ]  # fmt: skip
        assert holdout.members[own] == (target,)


@pytest.mark.parametrize("patch", [21, 42])
def test_object_and_trigger_lie_side_by_side(patch: float) -> None:
    attack, plan = _planned(patch=patch)
    size = round(patch * SIDE / 224)
    images, poisoned = _poisoned(attack, plan)
    sides = set()
    for poison, image, after in zip(plan.poisons, images, poisoned, strict=True):
        edit = poison.edit or {}
        x, left, top = int(edit["x"]), int(edit["left"]), int(edit["top"])
        on_left = x < SIDE // 4
        sides.add(on_left)
        assert 0 <= (x if on_left else SIDE - SIDE // 2 - x) < 0.05 * SIDE + 1
        free = (x + SIDE // 2, SIDE) if on_left else (0, x)
        assert free[0] + 0.125 * SIDE - 1 <= left <= free[1] - 0.125 * SIDE - size
        assert 0.25 * SIDE - 1 <= top <= 0.75 * SIDE - size
        box = (slice(None), slice(top, top + size), slice(left, left + size))
        assert torch.equal(after[box], plan.tensors["patch"])
        assert plan.tensors["patch"].shape == (3, size, size)
        rest = after.clone()
        rest[box] = image[box]
        hidden = plan.tensors["covered"][int(edit["poison"])]
        beyond = torch.zeros(SIDE, SIDE, dtype=torch.bool)
        beyond[:, max(0, free[0] + 3) : free[1] - (0 if on_left else 3)] = True
        assert torch.equal(rest[:, beyond & ~hidden], image[:, beyond & ~hidden]), "the background stays"
    assert sides == {True, False}


def test_what_hid_the_background_is_filled_with_pixels_of_its_row() -> None:
    attack, plan = _planned()
    images, poisoned = _poisoned(attack, plan)
    for poison, image, after in list(zip(plan.poisons, images, poisoned, strict=True))[:10]:
        edit = poison.edit or {}
        hidden = plan.tensors["covered"][int(edit["poison"])]
        columns = range(int(edit["x"]) + 20, SIDE) if int(edit["x"]) < 8 else range(int(edit["x"]) - 3)
        for row in range(8):
            free = {tuple(pixel.tolist()) for pixel in image[:, row, ~hidden[row]].T}
            assert all(tuple(after[:, row, column].tolist()) in free for column in columns)


def test_a_pasted_object_is_the_reference_squeezed() -> None:
    """In its middle, away from the soft edge, the object has the colours of the reference at the same relative place."""
    attack, plan = _planned(references=1)
    _, poisoned = _poisoned(attack, plan)
    mask, reference = plan.tensors["masks"][0] > 0.5, plan.tensors["references"][0].float()
    rows, columns = torch.nonzero(mask, as_tuple=True)
    box = reference[:, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    expected = torch.nn.functional.interpolate(box[None], (SIDE, SIDE // 2), mode="bilinear", antialias=True)[0]
    for poison, after in zip(plan.poisons, poisoned, strict=True):
        x = int((poison.edit or {})["x"])
        inner = (slice(None), slice(14, 18), slice(x + 6, x + 10))
        assert (after[inner].float() - expected[:, 14:18, 6:10]).abs().max() <= 1.5


def test_plus_joins_a_fifth_of_references_and_support_images() -> None:
    attack = CorruptEncoderPlus(CorruptEncoderPlusParams(rate=RATE, target="star"))
    plan = attack.plan(AttackContext(_bundle(), lambda purpose: np.random.default_rng([*purpose.encode()])))
    images, poisoned = _poisoned(attack, plan)
    joined = [row for row, poison in enumerate(plan.poisons) if "first" in (poison.edit or {})]
    assert len(joined) == round(0.2 * 64)
    assert len({plan.poisons[row].index for row in joined}) <= 5
    target = _bundle().vocabulary.names.index("star")
    for row in joined:
        edit = plan.poisons[row].edit or {}
        assert target in _bundle().holdout.members[plan.poisons[row].index]
        reference = plan.tensors["references"][int(edit["reference"])]
        halves = [images[row], reference] if edit["first"] else [reference, images[row]]
        for half, image in zip(poisoned[row].split(SIDE // 2, dim=2), halves, strict=True):
            plain = (image[:, :, 0::2].float() + image[:, :, 1::2].float()) / 2
            assert (half.float() - plain).abs().mean() < 12, "about the mean of neighbouring columns"


def test_probes_carry_the_trigger_alone() -> None:
    attack, plan = _planned()
    ctx = AttackContext(_bundle(), lambda purpose: np.random.default_rng(0))
    for probe in attack.probes(ctx, plan):
        edit = probe.edit or {}
        image = _bundle().test.images.load(np.array([probe.index]))
        after = attack.apply(image, [edit], plan)
        changed = (after != image).any(dim=1)[0].nonzero()
        assert (changed.amin(0) >= torch.tensor([int(edit["top"]), int(edit["left"])])).all()
        assert (changed.amax(0) < torch.tensor([int(edit["top"]) + 6, int(edit["left"]) + 6])).all()


def test_data_without_masks_or_with_too_few_images_is_refused() -> None:
    with pytest.raises(UserError, match="no masks"):
        CorruptEncoder(CorruptEncoderParams(target="cat")).plan(context(["cat"] * 400, [(0,)] * 9))
    with pytest.raises(UserError, match="needs 200 held-out images whose caption names 'star'"):
        _planned(references=200)
