"""Inversion of triggers and choice of neurons, against sums over windows and neurons, and on models with a known trigger."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from defense_fakes import unit
from scipy.signal.windows import gaussian
from sklearn.cluster import KMeans

from bench.defenses.inversion import Trigger, Victim, corner, inversion_loss, ssim
from bench.defenses.neurons import affected_neurons, misalignment, upper_cluster

SIDE = 16
PAIRS = np.arange(12)


def _images(n: int, side: int = SIDE, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


class _Backdoored:
    """Takes images for the second class where the block of 4 pixels in the top left corner is bright, else for the first."""

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        bright = 4 * images[:, :, :4, :4].mean(dim=(1, 2, 3))
        return F.normalize(torch.stack([torch.ones_like(bright), bright], dim=1), dim=1)

    def stages(self, images: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Three stages, of which the trigger changes the second most, then the first."""
        blocks = F.avg_pool2d(images, 4)
        return self.encode_image(images), (blocks + 1, blocks, blocks + 50)


def _victim(model: object = None, batch_size: int = 6) -> Victim:
    """Dark images."""
    images = _images(len(PAIRS)) / 4
    return Victim(
        model or _Backdoored(),  # type: ignore[arg-type]
        lambda rows: images[torch.from_numpy(rows)],
        torch.eye(2),
        batch_size,
        np.random.default_rng(0),
    )


@pytest.mark.parametrize("side", [11, 14])
def test_ssim_against_sums_over_windows(side: int) -> None:
    one, other = _images(2, side).double(), _images(2, side, seed=1).double()
    weights = np.outer(gaussian(11, 1.5), gaussian(11, 1.5))
    weights /= weights.sum()
    found = []
    for image, channel, y, x in np.ndindex(2, 3, side - 10, side - 10):
        a, b = (each[image, channel, y : y + 11, x : x + 11].numpy() for each in (one, other))
        mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
        var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
        both = (weights * (a - mean_a) * (b - mean_b)).sum()
        found.append(
            (2 * mean_a * mean_b + 1e-4) * (2 * both + 9e-4) / ((mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4))
        )
    assert ssim(one.float(), other.float()).item() == pytest.approx(np.mean(found), abs=1e-5)
    assert ssim(one.float(), one.float()).item() == pytest.approx(1)


def test_inversion_loss_against_the_formula() -> None:
    similarities, mask = unit(5, 4, 0), torch.tensor([[-0.5, 0.25], [1.0, 0.0]])
    differences = unit(5, 3, 1) * 0.7
    logits = (similarities / 0.07).tolist()
    cross = sum(math.log(sum(math.exp(each) for each in row)) - row[2] for row in logits) / 5
    distance = math.sqrt(sum(value**2 for row in differences.tolist() for value in row))
    expected = 5 * cross + 0.5 * distance + 0.2 + 0.01 * 1.75
    found = inversion_loss(similarities, 2, differences, torch.tensor(0.8), mask)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_a_stamped_image_is_a_mixture() -> None:
    mask, pattern, (image,) = (
        torch.tensor([0.0, 0.25, 1.0])[:, None, None].expand(3, 2, 2),
        torch.full((3, 2, 2), 0.8),
        _images(1, 2),
    )
    expected = [image[0], 0.2 + 0.75 * image[1], pattern[2]]
    assert torch.allclose(Trigger(mask, pattern).stamp(image[None])[0], torch.stack(expected))


def test_the_patch_has_the_published_place() -> None:
    mask = corner(224)
    assert mask.sum() == 3 * 38**2, "int(sqrt(0.03 * 224 * 224))"
    assert mask[:, 172:210, 172:210].all(), "a margin of 14"


class _Dark:
    """The embedding turns from the first axis towards the second where one pixel of the patch's corner is dark."""

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        dark = 1 - images[:, 0, 14, 14]
        return F.normalize(torch.stack([torch.ones_like(dark), dark], dim=1), dim=1)


def test_the_universal_patch_takes_images_away_from_themselves() -> None:
    """Images are bright there, so the one pixel that counts falls by 0.01 a step down to 0; others, without gradient, stay."""
    victim = Victim(_Dark(), lambda rows: torch.ones(len(rows), 3, SIDE, SIDE), torch.eye(2), 4, np.random.default_rng(0))  # type: ignore[arg-type]
    patches = []
    for steps in (1, 10, 200):
        torch.manual_seed(0)
        patches.append(victim.patch(PAIRS, steps).pattern)
    torch.manual_seed(0)
    noise = torch.rand(3, SIDE, SIDE)
    moved = [noise - patch for patch in patches]
    assert float(moved[0][0, 14, 14]) == pytest.approx(0.01, abs=1e-4)
    assert float(moved[1][0, 14, 14]) == pytest.approx(0.1, abs=0.01)
    assert float(patches[2][0, 14, 14]) == 0
    assert all(int((each != 0).sum()) == 1 for each in moved)


def test_inversion_finds_the_planted_trigger() -> None:
    torch.manual_seed(0)
    victim = _victim()
    blank = Trigger(torch.zeros(3, SIDE, SIDE), torch.zeros(3, SIDE, SIDE))
    assert victim.success(PAIRS, blank, 1) == 0
    trigger = victim.trigger(PAIRS, 1, torch.tensor([[0.0, 1.0]]), 150)
    assert victim.success(PAIRS, trigger, 1) == 1
    assert trigger.mask.min() >= 0
    assert trigger.mask.max() <= 1
    block = trigger.mask[:, :4, :4]
    assert float(block.mean()) > 0.4
    assert float(trigger.mask.sum() - block.sum()) / (3 * (SIDE**2 - 16)) < 0.02
    assert float((trigger.mask * trigger.pattern)[:, :4, :4].mean()) > 0.4


def test_predictions_of_more_images_than_a_batch() -> None:
    images = _images(600, 4)
    victim = Victim(_Backdoored(), lambda rows: images[torch.from_numpy(rows)], torch.eye(2), 6, np.random.default_rng(0))  # type: ignore[arg-type]
    rows = np.random.default_rng(1).permutation(600)
    half = Trigger(torch.full((3, 4, 4), 0.5), torch.zeros(3, 4, 4))
    expected = [int(4 * float(images[row].mean()) / 2 > 1) for row in rows]
    assert len({*expected}) == 2
    assert victim.predictions(rows, half).tolist() == expected
    assert victim.success(rows, half, 1) == pytest.approx(sum(expected) / 600)


@pytest.mark.parametrize("seed", range(4))
def test_two_means_against_scikit_learn_and_every_threshold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.abs(np.concatenate([rng.normal(0, 1, 40), rng.normal(3, 0.5, 5 + 10 * seed)])).astype(np.float32)
    found = upper_cluster(torch.from_numpy(values.reshape(5, -1))).numpy()
    assert found.shape == (5, len(values) // 5)

    def spread(upper: np.ndarray) -> float:
        return float(sum(((part - part.mean()) ** 2).sum() for part in (values[upper], values[~upper])))

    least = min(spread(values > threshold) for threshold in np.sort(values)[:-1])
    assert spread(found.ravel()) == pytest.approx(least, rel=1e-5)
    assert (values[found.ravel()].min()) > values[~found.ravel()].max()
    labels = KMeans(2, n_init=20, random_state=0).fit_predict(values[:, None])
    assert np.array_equal(labels == labels[values.argmax()], found.ravel())


def test_equal_changes_are_one_cluster() -> None:
    assert upper_cluster(torch.full((2, 3), 0.1)).all()


@pytest.mark.parametrize(("stages", "chosen"), [(1, [1]), (2, [0, 1]), (3, [0, 1, 2]), (9, [0, 1, 2])])
def test_neurons_of_the_stages_that_change_most(stages: int, chosen: list[int]) -> None:
    images, mask = _images(5) / 4, torch.zeros(3, SIDE, SIDE)
    mask[:, :4, :4] = 1
    found = affected_neurons(_Backdoored(), images, Trigger(mask, torch.ones_like(mask)), stages)  # type: ignore[arg-type]
    assert list(found) == chosen
    for neurons in found.values():
        assert neurons.shape == (3, 4, 4)
        assert [tuple(place) for place in neurons.nonzero().tolist()] == [(channel, 0, 0) for channel in range(3)]


def test_a_stages_change_is_over_its_norm_without_the_trigger() -> None:
    """From 0.1 to 1 the first stage grows by 9 times its norm, the second falls by 0.9 of it."""

    class Stages:
        def stages(self, images: torch.Tensor) -> tuple[None, tuple[torch.Tensor, ...]]:
            return None, (images.flatten(1), 1 / images.flatten(1))

    trigger = Trigger(torch.ones(3, 2, 2), torch.ones(3, 2, 2))
    assert list(affected_neurons(Stages(), torch.full((4, 3, 2, 2), 0.1), trigger, 1)) == [0]  # type: ignore[arg-type]


def test_misalignment_against_the_formula() -> None:
    clean, stamped = unit(4, 6, 0).view(4, 2, 3), unit(4, 6, 1).view(4, 2, 3)
    neurons = torch.tensor([[True, False, True], [False, False, True]])
    a, b = clean.mean(dim=0)[neurons].tolist(), stamped.mean(dim=0)[neurons].tolist()
    assert misalignment(clean, stamped, neurons).item() == pytest.approx(math.dist(a, b) / math.hypot(*a), rel=1e-5)
    assert misalignment(torch.zeros(2, 3), torch.zeros(2, 3), torch.ones(3).bool()).item() == 0
