"""Optimal transport against a linear programme; matching part by part against brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from defense_fakes import DIM, FakeEncoder, FakeScorer, batch, train_setup
from loss_formulas import eq1
from scipy.optimize import linprog

from bench.defenses.otcclip import OTCCLIP, OTCCLIPParams
from bench.defenses.transport import distance, sinkhorn

TAU = 0.1


def _set(rows: int, seed: int, absent: int = 0) -> torch.Tensor:
    found = F.normalize(torch.randn(rows, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=1)
    return torch.cat([found, torch.zeros(absent, 4, dtype=torch.float64)])


def _least_cost(one: torch.Tensor, other: torch.Tensor) -> float:
    """The linear programme over couplings of even weights on the rows that are not zero."""
    one, other = one[one.any(dim=1)], other[other.any(dim=1)]
    p, q = len(one), len(other)
    costs = (1 - one @ other.T).numpy()
    sums = np.zeros((p + q, p * q))
    for row in range(p):
        sums[row, row * q : (row + 1) * q] = 1
    for column in range(q):
        sums[p + column, column::q] = 1
    return float(linprog(costs.ravel(), A_eq=sums, b_eq=[1 / p] * p + [1 / q] * q).fun)


@pytest.mark.parametrize(("p", "q", "absent"), [(1, 1, 0), (1, 5, 2), (5, 1, 0), (4, 4, 3), (6, 3, 1), (5, 7, 0)])
def test_distance_against_a_linear_programme(p: int, q: int, absent: int) -> None:
    pairs = [(_set(p, seed, absent), _set(q, seed + 50, absent)) for seed in range(4)]
    ones, others = (torch.stack(side) for side in zip(*pairs, strict=True))
    found = distance(ones, others, epsilon=0.002, iterations=3000).tolist()
    assert found == pytest.approx([_least_cost(one, other) for one, other in pairs], abs=2e-3)


def test_plans_keep_the_weights() -> None:
    rows, columns = torch.tensor([[True] * 5, [True] * 3 + [False] * 2]), torch.tensor([[True] * 4, [False, True, True, False]])
    plan = sinkhorn(torch.rand(2, 5, 4, dtype=torch.float64), rows, columns, 0.1, 500)
    assert torch.allclose(plan.sum(dim=2), rows.double() / rows.sum(dim=1, keepdim=True))
    assert torch.allclose(plan.sum(dim=1), columns.double() / columns.sum(dim=1, keepdim=True))


def test_the_gradient_is_that_of_the_costs_at_the_plan() -> None:
    one, other = _set(3, 0)[None].requires_grad_(), _set(4, 1)[None]
    distance(one, other, 0.1, 50).sum().backward()
    plan = sinkhorn(1 - one.detach() @ other.mT, torch.ones(1, 3).bool(), torch.ones(1, 4).bool(), 0.1, 50)
    assert one.grad is not None
    assert torch.allclose(one.grad, -plan @ other)


class _WithParts(FakeEncoder):
    """The parts of an image are its rows of pixels, those of a caption its tokens, of which some after the first are absent."""

    def __init__(self) -> None:
        super().__init__()
        self.part = torch.randn(6, DIM, generator=torch.Generator().manual_seed(3))

    def image_parts(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.encode_image(images), F.normalize(images.transpose(1, 2).flatten(2) @ self.part, dim=-1)

    def text_parts(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        words = F.normalize(torch.stack([tokens * 1.0, tokens % 7, tokens % 5, tokens % 3], dim=2), dim=-1)
        return self.encode_text(tokens), words * ((tokens > 16) | (torch.arange(3) == 0))[..., None]


Held = tuple[int, torch.Tensor, torch.Tensor]


def _apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return distance(one[None], other[None], 0.1, 20).item()


def _match(image: torch.Tensor, places: torch.Tensor, pool: list[Held]) -> Held:
    nearest = sorted(pool, key=lambda held: -float(image @ held[1]))[:3]
    return min(nearest, key=lambda held: _apart(places, held[2]))


def test_matching_against_brute_force() -> None:
    params = OTCCLIPParams(pool=0.3, candidates=3, alignment=0.5, epsilon=0.1, iterations=20)
    defense, encoder = OTCCLIP(params, train_setup(40)), _WithParts()
    scorer = FakeScorer(np.zeros(40, dtype=np.float32))
    pool: list[Held] = []
    for epoch in range(2):
        defense.before_epoch(epoch, scorer)
        (phase,) = defense.phases(epoch)
        assert (phase.name, phase.image_views, phase.text_views) == (("train", "match")[epoch], ("strong",) * 2, ("eda",) * 2)
        for step in range(3):
            views = batch(5, seed=10 * epoch + step, pairs=np.arange(5) + 5 * step)
            with torch.no_grad():
                (images, places), (_, seen) = (encoder.image_parts(view) for view in views.images)
                (texts, words), (_, said) = (encoder.text_parts(view) for view in views.texts)
            within = sum(_apart(places[i], seen[i]) + _apart(words[i], said[i]) for i in range(5)) / 10
            own = list(zip(range(5 * step, 5 * step + 5), texts, words, strict=True))
            matched = [_match(images[i], places[i], pool) for i in range(5)] if epoch else own
            between = sum(_apart(places[i], held[2]) for i, held in enumerate(matched)) / 5
            expected = eq1(images.tolist(), [held[1].tolist() for held in matched], TAU) + 0.5 * (between + within)
            assert defense.loss(views, encoder, phase).item() == pytest.approx(expected, rel=1e-4)  # type: ignore[arg-type]
            if epoch:
                assert defense.observed()["text_neighbour"][views.indices].tolist() == [held[0] for held in matched]
            pool = [*pool, *own][-12:]
    fresh = OTCCLIP(params, train_setup(40))
    fresh.load_state_dict(defense.state_dict())
    views = batch(5, seed=99)
    assert torch.equal(*(each.loss(views, encoder, phase) for each in (defense, fresh)))  # type: ignore[arg-type]
