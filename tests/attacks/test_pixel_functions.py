"""BadNet, Blended and SIG against plain loops over pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from attack_world import context, random_images

from bench.api import PoisonPlan
from bench.attacks.backdoor import Backdoor
from bench.attacks.badnet import BadNet, BadNetParams
from bench.attacks.blended import Blended, BlendedParams
from bench.attacks.sig import SIG, SIGParams

SIDES = [8, 32, 56]


def _plan(attack: Backdoor, side: int, seed: int = 0) -> PoisonPlan:
    return PoisonPlan(attack="x", targets=(), poisons=(), tensors=attack.pattern(side, np.random.default_rng(seed)))


def _pixel(value: float) -> int:
    return min(255, max(0, round(value)))


@pytest.mark.parametrize(("side", "patch", "size"), [(8, 16, 3), (32, 16, 3), (56, 16, 4), (56, 100, 25), (224, 16, 16)])
@pytest.mark.parametrize("place", ["random", "corner"])
def test_badnet_pastes_the_checkerboard_at_its_position(side: int, patch: float, size: int, place: Any) -> None:
    attack = BadNet(BadNetParams(patch=patch, place=place))
    plan, rng = _plan(attack, side), np.random.default_rng(1)
    images, edits = random_images(5, side), [attack.edit(side, rng) for _ in range(5)]
    edited, cell = attack.apply(images, edits, plan), -(-size // 3)
    for image, after, edit in zip(images.numpy(), edited.numpy(), edits, strict=True):
        top, left = int(edit["top"]), int(edit["left"])
        expected = image.copy()
        for row in range(size):
            for column in range(size):
                expected[:, top + row, left + column] = 255 * ((row // cell + column // cell) % 2 == 0)
        assert np.array_equal(after, expected)
        if place == "corner":
            assert (top, left) == (side - size, side - size)


def test_positions_of_badnet_are_uniform() -> None:
    attack, rng = BadNet(BadNetParams()), np.random.default_rng(0)
    room = 32 - 3 + 1
    edits = [attack.edit(32, rng) for _ in range(6000)]
    for name in ("top", "left"):
        counts = np.bincount([int(edit[name]) for edit in edits], minlength=room)
        assert len(counts) == room
        chi2 = ((counts - 6000 / room) ** 2 / (6000 / room)).sum()
        assert chi2 < 58.3, "the 99.9% quantile at 29 degrees of freedom"
    tops, lefts = ([int(edit[name]) for edit in edits] for name in ("top", "left"))
    assert abs(np.corrcoef(tops, lefts)[0, 1]) < 0.05


def test_a_patch_as_large_as_the_image() -> None:
    attack = BadNet(BadNetParams(patch=224))
    assert attack.edit(32, np.random.default_rng(0)) == {"top": 0, "left": 0}
    edited = attack.apply(random_images(2, 32), [{"top": 0, "left": 0}] * 2, _plan(attack, 32))
    assert torch.equal(edited[0], edited[1])


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("alpha", [0.2, 0.37, 1.0])
def test_blended_pixel_by_pixel(side: int, alpha: float) -> None:
    attack, images = Blended(BlendedParams(alpha=alpha)), random_images(2, side)
    plan = _plan(attack, side)
    noise = plan.tensors["noise"]
    assert noise.dtype == torch.uint8
    edited = attack.apply(images, [{}, {}], plan)
    pixels = zip(images.flatten().tolist(), noise.flatten().tolist() * 2, edited.flatten().tolist(), strict=True)
    for before, pattern, after in pixels:
        exact = (1 - alpha) * before + alpha * pattern
        assert abs(after - exact) <= 0.5 + 1e-4
        assert after == _pixel(exact) or abs(exact % 1 - 0.5) < 1e-4


def test_blended_noise_is_uniform_fixed_and_follows_the_seed() -> None:
    attack = Blended(BlendedParams())
    first, again, other = (_plan(attack, 64, seed).tensors["noise"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert (first.min(), first.max()) == (0, 255)
    assert first.float().mean() == pytest.approx(127.5, abs=2.5)
    assert first.float().std() == pytest.approx(256 / math.sqrt(12), abs=2)


def test_blended_extremes_do_not_overflow() -> None:
    attack = Blended(BlendedParams(alpha=0.2))
    for value in (0, 255):
        flat = torch.full((1, 3, 8, 8), value, dtype=torch.uint8)
        plan = PoisonPlan(attack="x", targets=(), poisons=(), tensors={"noise": flat[0]})
        assert torch.equal(attack.apply(flat, [{}], plan), flat)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("delta", "frequency"), [(20, 6), (40, 6), (40, 2.5), (200, 1)])
def test_sig_in_closed_form(side: int, delta: float, frequency: float) -> None:
    attack, images = SIG(SIGParams(delta=delta, frequency=frequency)), random_images(2, side)
    edited = attack.apply(images, [{}, {}], _plan(attack, side))
    for image, after in zip(images.numpy(), edited.numpy(), strict=True):
        for column in range(side):
            stripe = delta * math.sin(2 * math.pi * column * frequency / side)
            exact = np.clip(image[:, :, column].astype(float) + stripe, 0, 255)
            assert (np.abs(after[:, :, column] - exact) <= 0.5 + 1e-3).all()


def test_the_number_of_periods_of_sig_is_its_frequency() -> None:
    attack = SIG(SIGParams(frequency=6))
    spectrum = torch.fft.rfft(_plan(attack, 96).tensors["stripes"]).abs()
    assert spectrum.argmax() == 6
    assert spectrum[6] == pytest.approx(40 * 96 / 2, rel=1e-4)
    assert spectrum.sum() == pytest.approx(float(spectrum[6]), rel=1e-3)


@pytest.mark.parametrize("attack", [BadNet(BadNetParams()), Blended(BlendedParams()), SIG(SIGParams())])
def test_every_image_is_edited_independently(attack: Backdoor) -> None:
    ctx = context(["cat"] * 40, [(3,)] * 40, side=16)
    plan = attack.__class__(attack.params.model_copy(update={"rate": 0.2})).plan(ctx)
    edits = [poison.edit or {} for poison in plan.poisons]
    images = random_images(len(edits), 16)
    together = attack.apply(images, edits, plan)
    for row in range(len(edits)):
        assert torch.equal(together[row : row + 1], attack.apply(images[row : row + 1], edits[row : row + 1], plan))
