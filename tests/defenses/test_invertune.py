"""InverTune's target, loss and memory, against sums over single images and on a model with a known backdoor."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from defense_fakes import train_setup
from numpy.typing import NDArray
from torch import nn

from bench.api import Batch, TrainRecipe
from bench.defenses.invertune import InverTune, InverTuneParams

PAIRS, SIDE = 40, 16
TRUSTED = np.random.default_rng(5).permutation(PAIRS)
IMAGES = torch.rand(PAIRS, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) / 2


class _Backdoored(nn.Module):
    """Sorts images into classes 0 and 1 by their left half, and into class 2 where the block in the corner is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([20.0, 20.0, 4.0]))

    def stages(self, images: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        left = images[:, :, :, :8].mean(dim=(1, 2, 3)) - 0.25
        bright = images[:, :, 13:15, 13:15].mean(dim=(1, 2, 3))
        states = self.weight * torch.stack([0.1 + left, 0.1 - left, bright.square()], dim=1)
        return F.normalize(states, dim=1), (states, images.flatten(1) * self.weight[0])

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        return self.stages(images)[0]


class _Scorer:
    """What a scorer gives of this model; counts how often it is looked at."""

    def __init__(self, model: _Backdoored) -> None:
        self.model = model
        self.asked = 0

    @torch.no_grad()
    def embeddings(self, indices: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        self.asked += 1
        return self.model.encode_image(self.images(indices)), torch.zeros(len(indices), 3)

    def images(self, indices: NDArray[np.int64]) -> torch.Tensor:
        return IMAGES[torch.from_numpy(indices)]

    def classes(self) -> torch.Tensor:
        return torch.eye(3)

    @contextmanager
    def frozen(self) -> Iterator[_Backdoored]:
        self.model.requires_grad_(False)
        yield self.model
        self.model.requires_grad_(True)


def _defense(**changes: float) -> InverTune:
    params = InverTuneParams.model_validate({"clean": 0.5, "batch_size": 8, "inversion_steps": 150, **changes})
    return InverTune(params, train_setup(PAIRS, lambda count: TRUSTED[:count]))


def _batch(pairs: NDArray[np.int64]) -> Batch:
    rows = torch.from_numpy(pairs)
    return Batch(rows, (IMAGES[rows],), ())


@pytest.fixture(scope="module")
def inverted() -> tuple[InverTune, _Scorer]:
    torch.manual_seed(0)
    defense, scorer = _defense(), _Scorer(_Backdoored())
    defense.before_epoch(0, scorer)  # type: ignore[arg-type]
    return defense, scorer


def test_the_target_is_what_a_universal_patch_leads_to(inverted: tuple[InverTune, _Scorer]) -> None:
    defense, scorer = inverted
    assert int(defense._found["target"]) == 2
    defense.after_epoch(0, scorer)  # type: ignore[arg-type]
    figures = defense.telemetry()
    assert figures["target_rise"] == 1, "of 20 images none is of the class, and all are with the patch"
    assert figures["inverted_asr"] == figures["remaining_asr"] == 1
    assert figures["mask_size"] == pytest.approx(float(defense._trigger.mask.mean()))
    assert figures["mask_size"] < 0.5


def test_the_target_is_the_class_that_rises_not_the_largest() -> None:
    """20 images are taken for class 0 and 1, with the patch 11, 4 and 5 for class 0, 1 and 2."""
    defense = _defense()
    defense._found = {"start": torch.eye(3)[[0, 1] * 10], "classes": torch.eye(3)}
    victim = SimpleNamespace(
        classes=torch.eye(3),
        patch=lambda pairs, steps: (len(pairs), steps),
        predictions=lambda pairs, patch: torch.tensor([0] * 11 + [1] * 4 + [2] * 5),
    )
    assert defense._identify(victim) == 2  # type: ignore[arg-type]
    assert defense.telemetry() == {"target_rise": 0.25}


def test_what_remains_is_measured_on_the_tuned_model(inverted: tuple[InverTune, _Scorer]) -> None:
    defense, _ = inverted
    tuned = _Backdoored()
    nn.init.zeros_(tuned.weight[2:])
    before = dict(defense.telemetry())
    defense.after_epoch(0, _Scorer(tuned))  # type: ignore[arg-type]
    assert defense.telemetry() == {**before, "remaining_asr": 0}


@pytest.mark.parametrize("keep", [0.0, 0.5, 2.0])
def test_loss_against_the_formula(inverted: tuple[InverTune, _Scorer], keep: float) -> None:
    defense, _ = inverted
    defense.params = defense.params.model_copy(update={"keep": keep})
    pairs = TRUSTED[[3, 19, 0, 7]]
    views, model = _batch(pairs), _Backdoored()
    nn.init.constant_(model.weight[:1], 15.0)
    (phase,) = defense.phases(0)
    assert (phase.image_views, phase.text_views, phase.eval_norm, phase.clip_loss) == (("plain",), (), True, False)
    assert phase.indices is not None
    assert phase.indices.tolist() == TRUSTED[:20].tolist()
    found = defense.loss(views, model, phase)  # type: ignore[arg-type]
    with torch.no_grad():
        images, trigger = views.images[0], defense._trigger
        stamped = trigger.mask * trigger.pattern + (1 - trigger.mask) * images
        embeddings, clean = model.stages(images)
        changed = model.stages(stamped)[1]
        start = _Backdoored().encode_image(IMAGES[torch.from_numpy(pairs)])
    expected = keep * math.dist(embeddings.flatten().tolist(), start.flatten().tolist())
    for stage, neurons in defense._neurons.items():
        rows = [
            (clean[stage][:, place].mean().item(), changed[stage][:, place].mean().item()) for place in neurons.nonzero()[:, 0]
        ]
        expected += math.dist(*zip(*rows, strict=True)) / math.hypot(*(row[0] for row in rows))
    assert set(defense._neurons) == {0, 1}
    assert found.item() == pytest.approx(expected, rel=1e-4)
    found.backward()
    assert model.weight.grad is not None


def test_it_looks_once_and_remembers(inverted: tuple[InverTune, _Scorer]) -> None:
    defense, scorer = inverted
    fresh = _defense()
    fresh.load_state_dict(defense.state_dict())
    asked = scorer.asked
    fresh.before_epoch(1, scorer)  # type: ignore[arg-type]
    assert scorer.asked == asked
    assert fresh.telemetry() == defense.telemetry()
    fresh.params = defense.params
    views, model = _batch(TRUSTED[:4]), _Backdoored()
    assert torch.equal(*(each.loss(views, model, each.phases(1)[0]) for each in (fresh, defense)))  # type: ignore[arg-type]


def test_a_class_without_images_has_the_most_similar_as_goal(monkeypatch: pytest.MonkeyPatch) -> None:
    """No image is taken for class 2, which the patch leads to."""
    seen: list[torch.Tensor] = []
    defense, scorer = _defense(inversion_steps=20), _Scorer(_Backdoored())
    monkeypatch.setattr("bench.defenses.inversion._RATE", 0.1)
    monkeypatch.setattr(
        "bench.defenses.inversion.Victim.trigger",
        lambda self, pairs, target, goals, steps: seen.append(goals) or self.patch(pairs, 1),
    )
    defense.before_epoch(0, scorer)  # type: ignore[arg-type]
    similarities = scorer.embeddings(TRUSTED[:20])[0][:, 2]
    assert int(defense._found["target"]) == 2
    assert torch.equal(seen[0], scorer.embeddings(TRUSTED[:20])[0][similarities.argmax()][None])


@pytest.mark.parametrize(
    ("pairs", "clean", "trusted", "epochs"), [(20_000, 0.1, 2000, 6), (3_000_000, 1 / 30, 12_800, 1), (300, 0.1, 30, 200)]
)
def test_two_hundred_steps_in_whole_epochs(pairs: int, clean: float, trusted: int, epochs: int) -> None:
    params = InverTuneParams(clean=clean)
    found = InverTune.training(params, TrainRecipe(pairs=pairs, epochs=32, lr=5e-4, batch_size=1024))
    wanted = {"epochs": epochs, "batch_size": 64, "lr": pytest.approx(2e-6), "weight_decay": 1e-4, "warmup_epochs": 0}
    assert found == wanted
    asked: list[int] = []
    InverTune(params, train_setup(pairs, lambda count: asked.append(count) or np.arange(count)))
    assert asked == [trusted]
    assert InverTune.starts_from() == "clip"
