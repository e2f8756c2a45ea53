from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from evaluator_fakes import FakeContext, PointModel, bundle, points

from bench.api import Measurement, Params, Probe
from bench.evaluators.asr import ASR

CAT, DOG, OWL = range(3)


def _measure(ctx: FakeContext) -> dict[tuple[str, str], Measurement]:
    found = ASR(Params()).evaluate(ctx)
    named = {(each.metric, each.task): each for each in found}
    assert len(named) == len(found), "a number is given twice"
    return named


def _context(probes: Sequence[Probe], answers: Sequence[int], test: Sequence[tuple[int, ...]], shift: int = 1) -> FakeContext:
    """The model answers as given, the clean model with the class `shift` further on."""
    holdout = [(OWL,), (DOG, OWL), ()]
    data = bundle(holdout=holdout, test=test)
    return FakeContext(data, probes=probes, pictures=points(answers), clean=PointModel(shift=shift))


def test_a_backdoor_with_known_answers() -> None:
    test = [(DOG,), (OWL,), (DOG, OWL), (), (DOG,)]
    probes = [Probe("test", index, CAT, {}) for index in range(5)]
    told = _measure(_context(probes, [CAT, CAT, OWL, CAT, DOG], test))
    assert set(told) == {(name, "all") for name in ("asr", "asr_floor", "triggered_top1")}
    assert (told["asr", "all"].value, told["asr", "all"].n) == (3 / 5, 5)
    assert (told["asr_floor", "all"].value, told["asr_floor", "all"].n) == (1 / 5, 5)
    assert (told["triggered_top1", "all"].value, told["triggered_top1", "all"].n) == (2 / 4, 4)


@pytest.mark.parametrize(("answers", "asr"), [([CAT, DOG, OWL], 1.0), ([DOG, OWL, CAT], 0.0), ([CAT, OWL, OWL], 2 / 3)])
def test_each_target_image_has_its_own_class(answers: list[int], asr: float) -> None:
    probes = [Probe("holdout", 0, CAT), Probe("holdout", 2, DOG), Probe("holdout", 1, OWL)]
    assert _measure(_context(probes, answers, [], shift=0))["asr", "all"].value == pytest.approx(asr)


def test_what_an_image_shows_is_looked_up_in_its_own_split() -> None:
    probes = [Probe("holdout", 0, CAT), Probe("test", 0, CAT)]
    told = _measure(_context(probes, [OWL, OWL], [(DOG,)]))
    assert told["triggered_top1", "all"].value == 1 / 2


def test_groups_by_trigger_and_all_together() -> None:
    groups = ["patch", "warp", "patch", "warp", "warp"]
    test = [(DOG,)] * 4 + [()]
    probes = [Probe("test", row, CAT, {}, group) for row, group in enumerate(groups)]
    told = _measure(_context(probes, [CAT, DOG, CAT, CAT, OWL], test))
    assert {group for _, group in told} == {"all", "patch", "warp"}
    values = {key: (each.value, each.n) for key, each in told.items()}
    assert values["asr", "all"] == (3 / 5, 5)
    assert values["asr", "patch"] == (1.0, 2)
    assert values["asr", "warp"] == (pytest.approx(1 / 3), 3)
    assert values["asr_floor", "warp"] == (pytest.approx(1 / 3), 3)
    assert values["triggered_top1", "warp"] == (1 / 2, 2)


def test_a_group_called_all_beside_another() -> None:
    probes = [Probe("test", 0, CAT, {}), Probe("test", 1, CAT, {}, "warp")]
    told = _measure(_context(probes, [CAT, DOG], [(DOG,)] * 2))
    assert (told["asr", "all"].value, told["asr", "all"].n) == (1 / 2, 2)


def test_where_nothing_is_known_of_the_images_there_is_no_accuracy() -> None:
    told = _measure(_context([Probe("test", 0, CAT, {})], [CAT], [()]))
    assert set(told) == {("asr", "all"), ("asr_floor", "all")}


@pytest.mark.parametrize("seed", range(5))
def test_random_worlds_against_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(5, 60))
    test = [tuple(np.flatnonzero(rng.random(3) < 0.4).tolist()) for _ in range(n)]
    test[0] = (DOG,)
    labels, answers = rng.integers(3, size=n).tolist(), rng.integers(3, size=n).tolist()
    probes = [Probe("test", row, label, {}) for row, label in enumerate(labels)]
    told = _measure(_context(probes, answers, test, shift=2))
    hits = sum(answer == label for answer, label in zip(answers, labels, strict=True))
    floor = sum((answer + 2) % 3 == label for answer, label in zip(answers, labels, strict=True))
    known = [answer in members for answer, members in zip(answers, test, strict=True) if members]
    assert told["asr", "all"].value == pytest.approx(hits / n)
    assert told["asr_floor", "all"].value == pytest.approx(floor / n)
    assert told["triggered_top1", "all"].value == pytest.approx(sum(known) / len(known))
    assert told["triggered_top1", "all"].n == len(known)
