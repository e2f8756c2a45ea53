from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from evaluator_fakes import NAMES, FakeContext, PointModel, Points, bundle, points, task

from bench.api import Params, Probe, class_mean, share
from bench.evaluators.asr_linear_probe import ASRLinearProbe
from bench.evaluators.linear_probe import LinearProbe, LinearProbeParams
from bench.evaluators.zero_shot import ZeroShot

TRAIN = [0, 1, 2] * 20
TEST = [0, 1, 2, 2, 1, 0, 0]


def _separable(shift: int = 0) -> FakeContext:
    images = (points(TRAIN, noise=0.05, seed=1), points(TEST, noise=0.05, seed=2))
    return FakeContext(bundle(tasks=(task("kind", TRAIN, TEST, images, NAMES),)), model=PointModel(shift=shift))


@pytest.mark.parametrize("wrong", [0, 1, 4, 7])
def test_zero_shot_counts_right_answers(wrong: int) -> None:
    labels = [(label + (row < wrong)) % 3 for row, label in enumerate(TEST)]
    data = bundle(tasks=(task("kind", TRAIN, labels, (points(TRAIN), points(TEST)), NAMES),))
    (found,) = ZeroShot(Params()).evaluate(FakeContext(data))
    assert (found.metric, found.task, found.n) == ("top1", "kind", 7)
    assert found.value == pytest.approx((7 - wrong) / 7)
    assert found.ci_low <= found.value <= found.ci_high


def test_zero_shot_of_every_task_with_its_own_classes() -> None:
    images = (points([0], count=5), points([0, 4, 3], count=5))
    five = task("five", [0], [0, 4, 4], images, ("a", "b", "c", "d", "e"))
    three = task("three", TRAIN, TEST, (points(TRAIN), points(TEST)), NAMES)
    found = ZeroShot(Params()).evaluate(FakeContext(bundle(tasks=(five, three))))
    assert [(each.task, each.value, each.n) for each in found] == [("five", pytest.approx(2 / 3), 3), ("three", 1.0, 7)]


def test_without_training_images_zero_shot_does_the_same() -> None:
    nothing = Points(torch.zeros(0, 3))
    data = bundle(tasks=(task("kind", [], TEST, (nothing, points(TEST)), NAMES),))
    assert ZeroShot(Params()).evaluate(FakeContext(data))[0].value == 1


@pytest.mark.parametrize("shift", [0, 1, 2])
def test_a_linear_probe_finds_what_is_linearly_separable(shift: int) -> None:
    """Where zero-shot classification needs the model's own classes, a probe learns them."""
    ctx = _separable(shift)
    assert LinearProbe(LinearProbeParams()).evaluate(ctx)[0].value == 1
    assert ZeroShot(Params()).evaluate(ctx)[0].value == (1 if shift == 0 else 0)


def test_a_linear_probe_is_the_logistic_regression_of_its_own_gradient() -> None:
    """At the optimum the gradient of mean loss and penalty is zero: checked on held-out answers of Newton's method."""
    rng = np.random.default_rng(0)
    train, test = (rng.normal(size=(n, 3)) for n in (80, 300))
    train, test = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (train, test))
    labels = (train @ [1.0, -2.0, 0.5] + rng.normal(scale=0.3, size=80) > 0).astype(int)
    x = np.c_[(train - train.mean(0)) / train.std(0), np.ones(80)]
    w, penalty = np.zeros(4), np.diag([1, 1, 1, 0]) / 0.5
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ w))
        w -= np.linalg.solve((x.T * p * (1 - p)) @ x + penalty, x.T @ (p - labels) + penalty @ w)
    margin = np.c_[(test - train.mean(0)) / train.std(0), np.ones(300)] @ w
    sure = np.abs(margin) > 0.02
    images = tuple(Points(torch.from_numpy(each).float()) for each in (train, test[sure]))
    two = task("two", labels.tolist(), (margin[sure] > 0).astype(int).tolist(), images, ("no", "yes"))  # type: ignore[arg-type]
    (found,) = LinearProbe(LinearProbeParams(c=0.5)).evaluate(FakeContext(bundle(tasks=(two,))))
    assert (found.value, found.n) == (1.0, int(sure.sum()))


def test_a_linear_probe_of_shuffled_labels_is_at_chance() -> None:
    rng = np.random.default_rng(0)
    labels, truth = rng.integers(3, size=300).tolist(), rng.integers(3, size=600).tolist()
    data = bundle(tasks=(task("kind", labels, truth, (points(labels, noise=50), points(truth, noise=50, seed=1)), NAMES),))
    (found,) = LinearProbe(LinearProbeParams()).evaluate(FakeContext(data))
    assert found.value == pytest.approx(1 / 3, abs=0.08)


def test_attack_success_on_a_linear_probe() -> None:
    """The probe learns each model's own features; floor and success are shares of the same images."""
    ctx = _separable()
    answers, labels = [0, 0, 1, 2, 0], [0, 0, 0, 0, 1]
    probes = [Probe("test", 0, label, {}) for label in labels]
    ctx = FakeContext(
        bundle(test=[(0,)], tasks=ctx.bundle.tasks), probes=probes, pictures=points(answers), clean=PointModel(shift=1)
    )
    asr, floor = ASRLinearProbe(LinearProbeParams()).evaluate(ctx)
    assert (asr.metric, asr.value, asr.n) == ("asr_probe", 2 / 5, 5)
    assert (floor.metric, floor.value, floor.n) == ("asr_probe_floor", 2 / 5, 5)
    assert ASRLinearProbe.lacks(ctx.bundle) is None
    assert ASRLinearProbe.lacks(bundle()) is not None


@pytest.mark.parametrize("seed", range(5))
def test_mean_per_class_against_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.choice(7, size=200, p=[0.5, 0.2, 0.1, 0.1, 0.05, 0.03, 0.02])
    hits = rng.random(200) < 0.2 + labels / 10
    found = class_mean("mean_per_class", "kind", hits, labels)
    shares = [sum(hits[labels == label]) / sum(labels == label) for label in sorted(set(labels.tolist()))]
    assert found.value == pytest.approx(sum(shares) / len(shares))
    assert found.n == 200
    assert 0 <= found.ci_low < found.value < found.ci_high <= 1


@pytest.mark.parametrize("hit", [False, True])
def test_mean_per_class_at_its_ends(hit: bool) -> None:
    found = class_mean("mean_per_class", "kind", np.full(7, hit), np.array([0, 0, 0, 3, 3, 9, 9]))
    assert found.value == hit
    assert found.ci_low <= found.value <= found.ci_high
    with pytest.raises(ValueError, match="no image"):
        class_mean("mean_per_class", "kind", np.zeros(0, dtype=bool), np.zeros(0, dtype=int))


def test_classes_of_one_size_have_the_interval_of_a_share() -> None:
    hits = np.array([True, False, False, True, True, True])
    found = class_mean("mean_per_class", "kind", hits, np.array([0, 0, 1, 1, 2, 2]))
    alone = share("top1", "kind", hits)
    assert (found.value, found.n) == (pytest.approx(alone.value), alone.n)
    assert (found.ci_low, found.ci_high) == (pytest.approx(alone.ci_low), pytest.approx(alone.ci_high))


@pytest.mark.parametrize("evaluator", [ZeroShot(Params()), LinearProbe(LinearProbeParams())], ids=["zero_shot", "linear_probe"])
def test_tasks_that_ask_for_it_have_the_mean_per_class_beside_top1(evaluator: ZeroShot | LinearProbe) -> None:
    labels = [0, 1, 2, 2, 1, 0, 1]
    plain = task("plain", TRAIN, labels, (points(TRAIN, noise=0.05), points(TEST)), NAMES)
    found = evaluator.evaluate(FakeContext(bundle(tasks=(plain, replace(plain, name="uneven", mean_per_class=True)))))
    assert [(each.metric, each.task) for each in found] == [("top1", "plain"), ("top1", "uneven"), ("mean_per_class", "uneven")]
    assert found[1].value == pytest.approx(6 / 7)
    assert found[2].value == pytest.approx((1 + 2 / 3 + 1) / 3)
