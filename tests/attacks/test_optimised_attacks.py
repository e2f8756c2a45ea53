"""BadCLIP and the attack on SafeCLIP's split, on a small smooth surrogate."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from attack_world import context, random_images

from bench.api import AttackContext, PoisonPlan
from bench.attacks.adaptive_split import AdaptiveSplit, AdaptiveSplitParams, towards
from bench.attacks.badclip import BadCLIP, BadCLIPParams, centred, info_nce
from bench.attacks.badnet import BadNet, BadNetParams

SIDE = 12
KEYS = ["cat", "dog", "both", "none", "near"] * 20
CAT = {"A cat, asleep", "cat meets dog"}


class FakeSurrogate:
    """A random network of pixels; a caption's checksum decides its embedding."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.first = torch.randn(3 * SIDE * SIDE, 32, generator=generator) / SIDE
        self.second = torch.randn(32, 6, generator=generator)
        self.words = F.normalize(torch.randn(100, 6, generator=generator), dim=-1)

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        return F.normalize(torch.tanh((images.flatten(1) - 0.5) @ self.first) @ self.second, dim=-1)

    def encode_captions(self, captions: Sequence[str]) -> torch.Tensor:
        return self.words[[zlib.crc32(caption.encode()) % 100 for caption in captions]]


def _context(seed: int = 0) -> AttackContext:
    return context(KEYS, [(1,), (2,), ()] * 8, [(0,), (1,), (), (1, 0), (2,)], side=SIDE, seed=seed)


def _badclip(**params: Any) -> BadCLIP:
    small = {"rate": 0.1, "target": "cat", "patch": 112, "images": 40, "epochs": 20, "batch_size": 20, "lr": 0.05}
    return BadCLIP(BadCLIPParams(**{**small, **params}))


def _similarity(attack: BadCLIP, plan: PoisonPlan) -> float:
    """Of patched training images with captions of the target."""
    surrogate = FakeSurrogate()
    rows = np.array([row for row, key in enumerate(KEYS) if key in ("dog", "none", "near")])
    images = _context().bundle.train.images.load(rows)
    patched = surrogate.encode_image(attack.apply(images, [{}] * len(rows), plan).float() / 255)
    texts = surrogate.encode_captions(sorted(CAT)).mean(dim=0)
    return float((patched @ texts).mean())


def test_a_patch_is_optimised_towards_the_target() -> None:
    attack, ctx = _badclip(weight=0), _context()
    plan = attack.plan(ctx)
    crafted = attack.craft(ctx, plan, FakeSurrogate())
    assert crafted.tensors["patch"].shape == (3, 6, 6)
    assert crafted.poisons == plan.poisons
    assert crafted.hash() == attack.craft(ctx, plan, FakeSurrogate()).hash() != plan.hash()


@pytest.mark.parametrize("weight", [10, 500])
def test_the_triplet_loss_draws_patched_images_to_the_target_and_from_themselves(weight: float) -> None:
    attack, ctx, surrogate = _badclip(weight=weight), _context(), FakeSurrogate()
    plan = attack.plan(ctx)
    crafted = attack.craft(ctx, plan, surrogate)
    train = ctx.bundle.train
    cats, others = ([row for row in range(100) if (KEYS[row] in ("cat", "both")) == wanted] for wanted in (True, False))
    positives = surrogate.encode_image(train.images.load(np.array(cats)).float() / 255).mean(dim=0)
    clean = train.images.load(np.array(others))
    negatives = surrogate.encode_image(clean.float() / 255)

    def margin(each: PoisonPlan) -> float:
        patched = surrogate.encode_image(attack.apply(clean, [{}] * len(clean), each).float() / 255)
        return float(((patched * positives).sum(dim=1) - (patched * negatives).sum(dim=1)).mean())

    assert margin(crafted) > margin(plan) + 0.1


def test_the_patch_stands_in_the_middle_and_the_surrogate_sees_the_pixels_that_are_trained_on() -> None:
    attack = _badclip()
    plan = attack.plan(_context())
    images = random_images(3, SIDE)
    edited = attack.apply(images, [{}] * 3, plan)
    expected = images.clone()
    expected[:, :, 3:9, 3:9] = plan.tensors["patch"]
    assert torch.equal(edited, expected)
    patch = plan.tensors["patch"].float() / 255
    assert torch.allclose(centred(images.float() / 255, patch), expected.float() / 255)


def test_info_nce_in_closed_form() -> None:
    images, texts = (F.normalize(torch.randn(5, 3, generator=torch.Generator().manual_seed(seed)), dim=-1) for seed in (0, 1))
    total = 0.0
    for own in range(5):
        row = [float(images[own] @ text) / 0.1 for text in texts]
        column = [float(image @ texts[own]) / 0.1 for image in images]
        total += np.log(np.exp(row).sum()) - row[own] + np.log(np.exp(column).sum()) - column[own]
    assert float(info_nce(images, texts, 0.1)) == pytest.approx(total / 10, rel=1e-5)


def _adaptive(**params: Any) -> AdaptiveSplit:
    return AdaptiveSplit(AdaptiveSplitParams(**{"rate": 0.1, "target": "cat", "captions": 8, **params}))


def _cosines(attack: AdaptiveSplit, plan: PoisonPlan) -> torch.Tensor:
    surrogate, ctx = FakeSurrogate(), _context()
    images = ctx.bundle.holdout.images.load(np.array([poison.index for poison in plan.poisons]))
    edited = attack.apply(images, [poison.edit or {} for poison in plan.poisons], plan)
    texts = surrogate.encode_captions([poison.caption for poison in plan.poisons])
    return (surrogate.encode_image(edited.float() / 255) * texts).sum(dim=1)


@pytest.mark.parametrize("epsilon", [0, 4, 32])
def test_poisons_grow_similar_within_the_budget_and_the_patch_stays(epsilon: float) -> None:
    attack, ctx = _adaptive(epsilon=epsilon), _context()
    plan = attack.plan(ctx)
    crafted = attack.craft(ctx, plan, FakeSurrogate())
    before, after = _cosines(attack, plan), _cosines(attack, crafted)
    assert (after >= before - 1e-3).all()
    assert after.mean() > before.mean() + 0.05
    images = ctx.bundle.holdout.images.load(np.array([poison.index for poison in plan.poisons]))
    edits = [poison.edit or {} for poison in plan.poisons]
    plain = BadNet(BadNetParams()).apply(images, edits, plan)
    moved = attack.apply(images, edits, crafted).int() - plain.int()
    assert moved.abs().max() == epsilon
    for row, edit in enumerate(edits):
        patch = moved[row, :, int(edit["top"]) : int(edit["top"]) + 3, int(edit["left"]) : int(edit["left"]) + 3]
        assert not patch.any(), "the trigger is what is evaluated"
    assert all(poison.caption in CAT for poison in crafted.poisons)


def test_the_caption_is_the_most_similar_of_those_offered() -> None:
    attack, ctx, surrogate = _adaptive(captions=200, steps=0), _context(), FakeSurrogate()
    crafted = attack.craft(ctx, attack.plan(ctx), surrogate)
    images = ctx.bundle.holdout.images.load(np.array([poison.index for poison in crafted.poisons]))
    patched = BadNet(BadNetParams()).apply(images, [poison.edit or {} for poison in crafted.poisons], crafted)
    for poison, image in zip(crafted.poisons, patched, strict=True):
        embedded = surrogate.encode_image(image[None].float() / 255)[0]
        best = max(CAT, key=lambda text: float(embedded @ surrogate.encode_captions([text])[0]))
        assert poison.caption == best


def test_probes_are_those_of_badnet_and_a_null_budget_needs_no_model() -> None:
    attack, ctx = _adaptive(), _context()
    plan = attack.plan(ctx)
    assert attack.probes(ctx, plan) == BadNet(BadNetParams(rate=0.1, target="cat")).probes(ctx, plan)
    assert attack.needs_surrogate()
    assert not _adaptive(captions=1, steps=0).needs_surrogate()
    assert not _adaptive(captions=1, epsilon=0).needs_surrogate()


def test_one_step_is_a_signed_gradient_step_where_pixels_are_free() -> None:
    surrogate, images = FakeSurrogate(), random_images(3, SIDE).float() / 255
    texts, free = surrogate.words[:3], torch.ones(3, 3, SIDE, SIDE)
    free[:, :, :4] = 0
    leaf = images.clone().requires_grad_()
    (surrogate.encode_image(leaf) * texts).sum().backward()
    assert leaf.grad is not None
    expected = (images + 0.1 * leaf.grad.sign() * free).clamp(0, 1)
    assert torch.isclose(towards(images, texts, free, surrogate, 0.1, 1), expected).float().mean() > 0.99
