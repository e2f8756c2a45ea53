from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from evaluator_fakes import FakeContext, bundle

from bench.api import Params
from bench.evaluators.bdetclip import BDetCLIP
from bench.evaluators.decree import DECREE, DECREEParams, _likeness, _Weight, smallest_trigger
from bench.evaluators.detection import Detection
from bench.evaluators.suspicion import ranked
from bench.registry import evaluators
from bench.testing import small


def _auroc(score: np.ndarray, poisoned: np.ndarray) -> float:
    pairs = [(bad > good) + 0.5 * (bad == good) for bad in score[poisoned] for good in score[~poisoned]]
    return float(np.mean(pairs))


def _average_precision(score: np.ndarray, poisoned: np.ndarray) -> float:
    """The sum over distinct thresholds of precision times what recall grows by."""
    total, before = 0.0, 0.0
    for threshold in sorted(set(score.tolist()), reverse=True):
        caught = score >= threshold
        recall = float((caught & poisoned).sum() / poisoned.sum())
        total += (recall - before) * float((caught & poisoned).sum() / caught.sum())
        before = recall
    return total


def _false_positives(score: np.ndarray, poisoned: np.ndarray) -> float:
    thresholds = [t for t in set(score.tolist()) if (score[poisoned] >= t).mean() >= 0.95]
    return float((score[~poisoned] >= max(thresholds)).mean())


@pytest.mark.parametrize("seed", range(8))
def test_ranking_against_loops(seed: int) -> None:
    """Whole numbers make ties."""
    rng = np.random.default_rng(seed)
    poisoned = rng.random(60) < 0.3
    score = (rng.integers(8, size=60) + 2 * poisoned).astype(float)
    found = {each.metric: each for each in ranked("pairs", score, poisoned)}
    assert found["auroc"].value == pytest.approx(_auroc(score, poisoned))
    assert found["average_precision"].value == pytest.approx(_average_precision(score, poisoned))
    assert found["fpr_at_95_tpr"].value == pytest.approx(_false_positives(score, poisoned))
    assert [found[name].n for name in found] == [min(poisoned.sum(), (~poisoned).sum()), poisoned.sum(), (~poisoned).sum()]


def test_the_interval_of_an_auroc_covers() -> None:
    """Two normal distributions a deviation apart have an AUROC of 0.760."""
    rng, covered = np.random.default_rng(0), 0
    for _ in range(60):
        poisoned = np.arange(150) < 30
        found = ranked("pairs", rng.normal(size=150) + poisoned, poisoned)[0]
        covered += found.ci_low <= 0.7602 <= found.ci_high
    assert covered >= 56


def _detected(score: list[float], kept: list[bool] | None, poisoned: list[bool]) -> dict[str, float]:
    class Scores:
        pass

    scores = Scores()
    scores.score, scores.poisoned = np.array(score, dtype=np.float32), np.array(poisoned)  # type: ignore[attr-defined]
    scores.kept = None if kept is None else np.array(kept)  # type: ignore[attr-defined]
    ctx = FakeContext(bundle())
    ctx.pair_scores = lambda: scores  # type: ignore[attr-defined]
    return {each.metric: each.value for each in Detection(Params()).evaluate(ctx)}  # type: ignore[arg-type]


def test_what_is_left_at_the_defenses_own_threshold() -> None:
    found = _detected([3, 1, 2, 0, 0], [False, True, False, True, True], [True, True, False, False, False])
    assert (found["poisons_kept"], found["clean_dropped"]) == (1 / 2, pytest.approx(1 / 3))
    assert found["auroc"] == pytest.approx((3 + 2) / 6)
    assert "poisons_kept" not in _detected([1, 0], None, [True, False])


def test_a_pair_without_a_score_is_the_least_suspicious() -> None:
    assert _detected([5, np.nan, 1], None, [False, True, False])["auroc"] == 0
    assert _detected([5, np.nan, 1], None, [True, False, False])["auroc"] == 1
    assert _detected([np.nan, np.nan], None, [True, False]) == {}


class Prompted:
    """Images are scalars along one axis; texts with a random sentence lie on the other one."""

    def __init__(self, probes: torch.Tensor, clean: torch.Tensor, noise: frozenset[str]) -> None:
        self.probes, self.clean, self.noise = probes, clean, noise

    def image_features(self, images: object) -> torch.Tensor:
        return self.clean if images is small.bundle().test.images else self.probes

    def text_features(self, captions: list[str]) -> torch.Tensor:
        prompts = {prompt for prompts in small.bundle().vocabulary.prompts() for prompt in prompts}
        noisy = [
            any(caption.startswith(f"{prompt} ") for prompt in prompts) and len(caption.split()) > 9 for caption in captions
        ]
        return torch.tensor([[0.0, 1.0] if each else [1.0, 0.0] for each in noisy])

    def classifier(self, vocabulary: object) -> torch.Tensor:
        return torch.eye(2)


def test_bdetclip_with_known_scores() -> None:
    """The direction is (1, -1) times the classes, so that an image (x, y) has a score that grows with x - y."""
    data = small.bundle()
    rng = np.random.default_rng(0)
    angles = torch.from_numpy(rng.uniform(0, 0.3, size=len(data.test))).float()
    clean = torch.stack([angles.cos(), angles.sin()], dim=1)
    ctx = small.eval_context(evaluators["bdetclip"])
    bent = torch.linspace(0.2, 1.5, len(ctx.probes))
    model = Prompted(torch.stack([bent.cos(), bent.sin()], dim=1), clean, frozenset())
    evaluator = BDetCLIP(BDetCLIP.Params(references=20))
    found = {each.metric: each for each in evaluator.evaluate(replace(ctx, model=model))}  # type: ignore[arg-type, type-var]
    direction = evaluator.direction(replace(ctx, model=model), np.random.default_rng(0))  # type: ignore[arg-type, type-var]
    assert direction[0] > 0
    assert direction[1] < 0
    assert found["detected"].value > 0.7, "all probes bent further than any clean image are rejected"
    assert found["false_alarms"].value < 0.2
    (kept,) = ctx.kept
    rejected, triggered = kept.rejected, kept.target >= 0  # type: ignore[operator]
    assert (rejected[triggered].mean(), rejected[~triggered].mean()) == (found["detected"].value, found["false_alarms"].value)  # type: ignore[index]
    assert (np.diff(kept.suspicion[triggered]) > 0).all(), "the further bent, the more suspicious"  # type: ignore[index]
    assert kept.target[triggered].tolist() == [probe.label for probe in ctx.probes]  # type: ignore[index]
    assert found["auroc"].value > 0.9
    assert found["auroc"].n == min(len(ctx.probes), len(data.test) - 20)
    assert found["false_alarms"].n == len(data.test) - 20
    unrejected = (bent < 0.3).numpy() & (np.array([probe.label for probe in ctx.probes]) == 0)
    assert found["asr_undetected"].value <= unrejected.mean()


class Patched:
    """A linear model with a backdoor: the nearer a corner is to white, the nearer an embedding to one vector."""

    def __init__(self, strength: float, side: int = 12) -> None:
        generator = torch.Generator().manual_seed(0)
        self.weights = torch.randn(3 * side * side, 8, generator=generator) / side
        self.target = torch.randn(8, generator=generator)
        self.strength = strength

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        stamped = images[:, :, -3:, -3:].mean(dim=(1, 2, 3))
        found = (images - 0.5).flatten(1) @ self.weights
        found = found + self.strength * torch.sigmoid(10 * (stamped - 0.85))[:, None] * self.target
        return torch.nn.functional.normalize(found, dim=1)


def test_decree_finds_a_smaller_trigger_in_a_model_with_a_backdoor() -> None:
    images = torch.rand(64, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    params = DECREEParams(passes=60, batch_size=32)
    sizes = [
        smallest_trigger(Patched(strength), images, params, torch.Generator().manual_seed(2))  # type: ignore[arg-type]
        for strength in (0.0, 40.0)
    ]
    assert sizes[1] < 0.1, "the corner is a sixteenth of the image"
    assert sizes[0] > 0.3


def test_decree_of_a_model_that_embeds_all_alike_and_of_one_that_cannot_be_fooled() -> None:
    class Alike:
        def encode_image(self, images: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.normalize(1e-6 * images.flatten(1)[:, :4] + torch.ones(4), dim=1)

    class Unlike:
        def encode_image(self, images: torch.Tensor) -> torch.Tensor:
            return torch.eye(len(images)) + 0 * images.sum()

    images, params = torch.rand(32, 3, 8, 8), DECREEParams(passes=60, batch_size=16)
    assert smallest_trigger(Alike(), images, params, torch.Generator().manual_seed(0)) < 0.05  # type: ignore[arg-type]
    assert smallest_trigger(Unlike(), images, params, torch.Generator().manual_seed(0)) == 1  # type: ignore[arg-type]


def test_likeness_is_the_mean_off_the_diagonal() -> None:
    rows = torch.nn.functional.normalize(torch.randn(7, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    off = ~torch.eye(7, dtype=torch.bool)
    assert float(_likeness(rows)) == pytest.approx(float((rows @ rows.T)[off].mean()), abs=1e-6)


def test_the_weight_changes_fivefold_after_six_steps_of_a_kind() -> None:
    weight = _Weight()
    for success in [True] * 5 + [False] + [True] * 5:
        weight.step(success)
    assert weight.value == 1e-3
    weight.step(True)
    assert weight.value == pytest.approx(5e-3)
    for _ in range(12):
        weight.step(False)
    assert weight.value == pytest.approx(2e-4)


def test_a_decree_score_is_one_of_the_model() -> None:
    entry = evaluators["decree"]
    (found,) = DECREE(DECREEParams(**DECREE.test_params())).evaluate(small.eval_context(entry))  # type: ignore[arg-type]
    assert (found.metric, found.task, found.n) == ("pl1", "model", 32)
    assert 0 < found.value <= 1
    assert DECREE.metrics[0].role == "model"
