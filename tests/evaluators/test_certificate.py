"""Certificates against every poisoning of tiny training sets."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch

from bench.evaluators.certificate import Certificate, _grid
from bench.evaluators.votes import (
    decided,
    general_sizes,
    inserted_knn_sizes,
    inserted_rnn_sizes,
    knn,
    rnn,
    stand_jointly,
)
from bench.registry import evaluators
from bench.testing.small import eval_context

Example = tuple[float, int]
"""A place on the line, and a class."""
CLASSES = 3


def _nearest(point: float, examples: Sequence[Example], k: int) -> int:
    votes = Counter(label for _, label in sorted(examples, key=lambda each: abs(each[0] - point))[:k])
    return max(range(CLASSES), key=lambda label: (votes[label], -label))


def _within(point: float, examples: Sequence[Example], radius: float) -> int:
    votes = Counter(label for place, label in examples if abs(place - point) <= radius)
    return max(range(CLASSES), key=lambda label: (votes[label], -label))


def _inserted(examples: Sequence[Example], e: int, places: Sequence[float]) -> Iterator[list[Example]]:
    """All sets with up to e more examples, at the given places."""
    new = list(itertools.product(places, range(CLASSES)))
    for count in range(e + 1):
        for added in itertools.combinations_with_replacement(new, count):
            yield [*examples, *added]


def _poisoned(examples: Sequence[Example], e: int, places: Sequence[float]) -> Iterator[list[Example]]:
    """All sets that e replacements make, with additions and removals alone among them: max(n, n') - shared <= e."""
    for removed in range(e + 1):
        for kept in itertools.combinations(examples, len(examples) - removed):
            yield from _inserted(kept, e, places)


def _line(seed: int, n: int) -> list[Example]:
    rng = np.random.default_rng(seed)
    return [
        (float(place), int(label)) for place, label in zip(rng.uniform(-1, 1, n), rng.integers(CLASSES, size=n), strict=True)
    ]


def _knn_neighbours(examples: Sequence[Example], k: int) -> np.ndarray:
    return np.array([[label for _, label in sorted(examples, key=lambda each: abs(each[0]))[:k]]])


def _counted(labels: Sequence[int]) -> np.ndarray:
    return np.bincount(np.array(labels, dtype=int), minlength=CLASSES)[None]


@pytest.mark.parametrize("seed", range(40))
def test_knn_with_additions_is_exact(seed: int) -> None:
    """The certified size stands against all, and one more example breaks it."""
    examples, k, places = _line(seed, 5), 4, [0.0]
    (size,) = inserted_knn_sizes(_knn_neighbours(examples, k), CLASSES)
    before = _nearest(0.0, examples, k)
    for e in range(min(int(size) + 2, 5)):
        stands = all(_nearest(0.0, each, k) == before for each in _inserted(examples, e, places))
        assert stands == (e <= size)


@pytest.mark.parametrize("seed", range(25))
def test_knn_with_replacements_stands(seed: int) -> None:
    examples, k = _line(seed, 6), 5
    _, gaps = decided(_counted([label for _, label in sorted(examples, key=lambda each: abs(each[0]))[:k]]))
    e = int(general_sizes(gaps)[0])
    before = _nearest(0.0, examples, k)
    for each in _poisoned(examples, min(e, 2), [0.0, 3.0]):
        assert _nearest(0.0, each, k) == before


@pytest.mark.parametrize("seed", range(25))
def test_rnn_is_exact_in_both_threat_models(seed: int) -> None:
    examples = _line(seed, 5)
    votes = _counted([label for place, label in examples if abs(place) <= 0.9])
    before = _within(0.0, examples, 0.9)
    predicted, gaps = decided(votes)
    assert predicted[0] == before
    for e in range(3):
        added = all(_within(0.0, each, 0.9) == before for each in _inserted(examples, e, [0.0]))
        assert added == (e <= inserted_rnn_sizes(gaps)[0])
        replaced = all(_within(0.0, each, 0.9) == before for each in _poisoned(examples, e, [0.0]))
        assert replaced or e > general_sizes(gaps)[0]
        if votes[0, before] >= e:
            assert replaced == (e <= general_sizes(gaps)[0]), "the bound is not tight where there are enough votes to remove"


@pytest.mark.parametrize("seed", range(12))
def test_what_stands_jointly_stands_whatever_the_one_poison(seed: int) -> None:
    """Two or three test points, all within reach of a point in the middle; the worst of all poisons never beats the bound."""
    rng = np.random.default_rng(seed)
    points, radius = [-0.5, 0.0, 0.5], 0.6
    examples = [(point + float(rng.uniform(-0.09, 0.09)), label) for label, point in enumerate(points) for _ in range(3)]
    examples = [each for each in examples if rng.random() < 0.9]
    before = [_within(point, examples, radius) for point in points]
    votes = np.concatenate([_counted([c for place, c in examples if abs(place - point) <= radius]) for point in points])
    predicted, gaps = decided(votes)
    assert predicted.tolist() == before
    for e in (1, 2):
        worst = min(
            sum(_within(point, each, radius) == label for point, label in zip(points, before, strict=True))
            for each in _poisoned(examples, e, [-0.5, 0.0, 0.5])
        )
        joint = stand_jointly(gaps, predicted, e)
        assert joint <= worst
        assert joint >= int((general_sizes(gaps) >= e).sum()), "a joint bound is no worse than single ones"


def test_the_joint_bound_by_trying_every_set_of_flips() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        gaps, e = rng.integers(1, 12, size=4), int(rng.integers(6))
        flips = max(
            len(chosen)
            for count in range(5)
            for chosen in itertools.combinations(gaps.tolist(), count)
            if not chosen or (sum(chosen) <= (count + 1) * e and max(chosen) <= 2 * e)
        )
        assert stand_jointly(gaps, np.arange(4), e) == 4 - flips
        single = sum(stand_jointly(gaps[[row]], np.zeros(1, dtype=int), e) for row in range(4))
        assert stand_jointly(gaps, np.zeros(4, dtype=int), e) == single, "points of one prediction are in groups of their own"


def test_joint_beats_individual_where_gaps_are_alike() -> None:
    """Gaps of 3 with e = 2: each may flip alone, all four cannot: 4 x 3 > 5 x 2."""
    gaps = np.full(4, 3)
    assert int((general_sizes(gaps) >= 2).sum()) == 0
    assert stand_jointly(gaps, np.arange(4), 2) == 2


def test_ties_go_to_the_first_class() -> None:
    predicted, gaps = decided(np.array([[2, 2, 0], [1, 2, 2], [3, 0, 1], [0, 0, 0]]))
    assert predicted.tolist() == [0, 1, 0, 0]
    assert gaps.tolist() == [1, 1, 3, 1]


def test_votes_against_loops() -> None:
    rng = np.random.default_rng(0)
    points, voters = (torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(n, 4))), dim=1).float() for n in (7, 30))
    classes = rng.integers(CLASSES, size=30)
    similarity = (points @ voters.T).numpy()
    expected = np.array([[classes[voter] for voter in np.argsort(-row)[:9]] for row in similarity])
    assert np.array_equal(knn(points, voters, classes, 9), expected)
    near = [_counted([classes[voter] for voter in range(30) if row[voter] >= 0.2])[0] for row in similarity]
    assert np.array_equal(rnn(points, voters, classes, 0.2, CLASSES), np.array(near))


def test_the_curve_falls_and_holds_the_attacks_budget() -> None:
    entry = evaluators["certificate"]
    ctx = eval_context(entry)
    found = Certificate(Certificate.Params()).evaluate(ctx)  # type: ignore[arg-type]
    assert _grid(256, 16) == [0, 1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert _grid(4, 3) == [0, 1, 2, 3, 4]
    for metric in Certificate.metrics:
        curve = {int(each.task): each.value for each in found if each.metric == metric.name}
        assert list(curve) == _grid(256, ctx.poisons)
        assert list(curve.values()) == sorted(curve.values(), reverse=True)
        assert curve[256] == 0
    values = {(each.metric, each.task): each.value for each in found}
    assert values["rnn_general", "0"] == values["rnn_insert", "0"] == values["rnn_joint", "0"] > 0
    for e in ("1", "2", "4"):
        assert values["rnn_general", e] <= values["rnn_joint", e]
        assert values["rnn_general", e] <= values["rnn_insert", e]
        assert values["knn_general", e] <= values["knn_insert", e]


def test_it_is_the_same_beside_every_defense() -> None:
    ctx = eval_context(evaluators["certificate"])
    from dataclasses import replace

    other = replace(ctx, model=ctx.clean_model())
    assert Certificate(Certificate.Params()).evaluate(ctx) == Certificate(Certificate.Params()).evaluate(other)  # type: ignore[arg-type]
