from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from attack_world import CAPTIONS, context, random_images
from torch import nn

from bench.api import AttackContext, PoisonPlan
from bench.attacks.label_consistent import LabelConsistent, LabelConsistentParams, harden
from bench.data.poisoned import PoisonedPairs
from bench.errors import UserError

SIDE = 12
KEYS = ["cat", "dog", "both", "none", "near"] * 20


class FakeSurrogate(nn.Module):
    """A small random network. Embeddings of captions depend on their length and are similar, as in a trained CLIP."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = torch.randn(3 * SIDE * SIDE, 16, generator=generator) / SIDE
        self.second = torch.randn(16, 4, generator=generator)
        self.words = F.normalize(3 + torch.randn(100, 4, generator=generator), dim=-1)

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        return F.normalize(torch.tanh((images.flatten(1) - 0.5) @ self.first) @ self.second, dim=-1)

    def encode_captions(self, captions: Sequence[str]) -> torch.Tensor:
        return self.words[[len(caption) for caption in captions]]


def _attack(**params: Any) -> LabelConsistent:
    return LabelConsistent(LabelConsistentParams(**{"rate": 0.1, "target": "cat", "min_captions": 1, **params}))


def _context(seed: int = 0) -> AttackContext:
    return context(KEYS, [(0,)] * 4, [(0,), (1,), (), (1, 0), (2,)], side=SIDE, seed=seed)


def _crafted(attack: LabelConsistent, seed: int = 0) -> PoisonPlan:
    ctx = _context(seed)
    return attack.craft(ctx, attack.plan(ctx), FakeSurrogate())


def test_poisons_are_training_pairs_whose_own_caption_names_the_target() -> None:
    ctx = _context()
    plan = _attack().plan(ctx)
    assert len(plan.poisons) == 10
    assert len({poison.index for poison in plan.poisons}) == 10
    for poison in plan.poisons:
        assert poison.split == "train"
        assert KEYS[poison.index] in ("cat", "both")
        assert poison.caption == ctx.bundle.train.captions[poison.index] == CAPTIONS[KEYS[poison.index]]
        assert poison.uid == f"train-{poison.index}"
    assert {KEYS[poison.index] for poison in plan.poisons} == {"cat", "both"}


def test_pairs_are_replaced_not_added_and_captions_stay() -> None:
    ctx, attack = _context(), _attack()
    plan = _crafted(attack)
    pairs = PoisonedPairs(ctx.bundle, attack, plan)
    assert len(pairs) == len(KEYS)
    assert list(pairs.captions) == list(ctx.bundle.train.captions)
    before, after = (source.load(np.arange(len(KEYS))) for source in (ctx.bundle.train.images, pairs))
    changed = (before != after).flatten(1).any(dim=1)
    assert np.flatnonzero(changed.numpy()).tolist() == sorted(poison.index for poison in plan.poisons)


@pytest.mark.parametrize(("side", "patch", "size"), [(8, 21, 3), (12, 21, 3), (32, 21, 3), (56, 21, 5), (28, 112, 14)])
@pytest.mark.parametrize("amplitude", [255, 64.0])
def test_the_trigger_pixel_by_pixel(side: int, patch: float, size: int, amplitude: float) -> None:
    attack = _attack(patch=patch, amplitude=amplitude)
    trigger = attack.pattern(side, np.random.default_rng(0))["trigger"]
    cell = -(-size // 3)
    for row in range(side):
        for column in range(side):
            y, x = min(row, side - 1 - row), min(column, side - 1 - column)
            sign = (1 if (y // cell + x // cell) % 2 == 0 else -1) if y < size and x < size else 0
            assert trigger[:, row, column].tolist() == pytest.approx([amplitude * sign] * 3)


def test_apply_adds_trigger_and_change_and_clips() -> None:
    attack, images = _attack(amplitude=60), random_images(3, SIDE)
    plan = _crafted(attack)
    edited = attack.apply(images, [{"change": 2}, {}, {"change": 0}], plan)
    trigger, changes = plan.tensors["trigger"], plan.tensors["changes"]
    for row, number in ((0, 2), (1, None), (2, 0)):
        exact = images[row].float() + trigger + (changes[number] if number is not None else 0)
        assert torch.equal(edited[row], exact.round().clamp(0, 255).to(torch.uint8))


@pytest.mark.parametrize("share", [0.1, 0.4, 0.9])
def test_interpolation_uses_a_training_image_of_another_class(share: float) -> None:
    attack, ctx = _attack(interpolation=share, epsilon=0), _context()
    plan = attack.plan(ctx)
    rows = np.array([poison.index for poison in plan.poisons])
    without_trigger = plan.model_copy(update={"tensors": {**plan.tensors, "trigger": torch.zeros(3, SIDE, SIDE)}})
    edits = [poison.edit or {} for poison in plan.poisons]
    mixed = attack.apply(ctx.bundle.train.images.load(rows), edits, without_trigger).float()
    everything = ctx.bundle.train.images.load(np.arange(len(KEYS))).float()
    mates = set()
    for row, found in zip(rows, mixed, strict=True):
        distance = ((1 - share) * everything[row] + share * everything - found).abs().amax(dim=(1, 2, 3))
        (mate,) = np.flatnonzero(distance.numpy() < 1)
        assert KEYS[mate] not in ("cat", "both")
        mates.add(mate)
    assert len(mates) == len(rows)


def test_a_perturbation_starts_from_the_mixture() -> None:
    plain, both = _attack(interpolation=0.4, epsilon=0).plan(_context()), _crafted(_attack(interpolation=0.4, epsilon=8))
    difference = both.tensors["changes"].int() - plain.tensors["changes"].int()
    assert difference.abs().max() == 8


def test_probes_carry_the_trigger_without_perturbation() -> None:
    attack, ctx = _attack(), _context()
    probes = attack.probes(ctx, attack.plan(ctx))
    assert [(probe.split, probe.index, probe.label, probe.edit) for probe in probes] == [
        ("test", index, 0, {}) for index in (1, 2, 4)
    ]


def _loss(surrogate: FakeSurrogate, images: torch.Tensor, classes: torch.Tensor, target: int) -> torch.Tensor:
    """-log of the target's zero-shot probability at temperature 0.01, for each image."""
    logits = 100 * surrogate.encode_image(images) @ classes.T
    return torch.logsumexp(logits, dim=1) - logits[:, target]


def _margin(surrogate: FakeSurrogate, images: torch.Tensor, classes: torch.Tensor, target: int) -> torch.Tensor:
    """The similarity to the best other class minus the similarity to the target."""
    cosines = surrogate.encode_image(images) @ classes.T
    return cosines[:, [row for row in range(len(classes)) if row != target]].amax(dim=1) - cosines[:, target]


@pytest.mark.parametrize(("epsilon", "steps"), [(4 / 255, 1), (4 / 255, 20), (16 / 255, 5), (16 / 255, 20), (0.3, 20)])
def test_harden_stays_in_the_ball_and_moves_away_from_the_class(epsilon: float, steps: int) -> None:
    surrogate, images = FakeSurrogate(), random_images(8, SIDE).float() / 255
    images[0], images[1] = 0, 1
    for target in range(4):
        harder = harden(images, surrogate.words[:4], target, surrogate, epsilon, steps)
        assert not harder.requires_grad
        assert (harder - images).abs().max() <= epsilon + 1e-6
        assert harder.min() >= 0
        assert harder.max() <= 1
        before, after = (_margin(surrogate, each, surrogate.words[:4], target) for each in (images, harder))
        assert (after > before).all()


def test_one_step_of_harden_is_a_signed_gradient_step() -> None:
    surrogate, images = FakeSurrogate(), random_images(3, SIDE).float() / 255
    leaf = images.clone().requires_grad_()
    _loss(surrogate, leaf, surrogate.words[:4], 2).sum().backward()
    assert leaf.grad is not None
    expected = (images + 0.1 * leaf.grad.sign()).clamp(0, 1)
    found = harden(images, surrogate.words[:4], 2, surrogate, 0.1, 1)
    assert torch.isclose(found, expected).float().mean() > 0.99, "but for gradients that round to zero"


def test_crafting_is_deterministic_and_within_epsilon() -> None:
    attack = _attack(epsilon=16)
    first, again = _crafted(attack), _crafted(attack)
    assert first.hash() == again.hash() != _crafted(attack, seed=1).hash()
    levels = first.tensors["changes"]
    assert levels.shape == (10, 3, SIDE, SIDE)
    assert not levels.is_floating_point()
    assert levels.abs().max() == 16
    assert first.poisons == attack.plan(_context()).poisons


def test_without_perturbation_no_surrogate_is_needed() -> None:
    assert _attack().needs_surrogate()
    assert not _attack(epsilon=0).needs_surrogate()
    assert not _attack(steps=0).needs_surrogate()
    assert not len(_attack(epsilon=0).plan(_context()).tensors["changes"])


def test_too_few_captions_of_the_target() -> None:
    with pytest.raises(UserError, match=r"50 poisons need .* 'cat', and there are 40"):
        _attack(rate=0.5).plan(_context())
    with pytest.raises(UserError, match="no class of the vocabulary"):
        _attack(rate=0.5, target="").plan(_context())
