from __future__ import annotations

from collections import deque

import numpy as np
import pytest
import torch
from defense_fakes import CPU, unit
from loss_formulas import nearest_rows

from bench.defenses.pool import Pool

Held = tuple[int, tuple[float, ...]]


def _together(embeddings: torch.Tensor, pairs: torch.Tensor) -> list[Held]:
    assert pairs.dtype == torch.int64
    return [(pair, tuple(row)) for pair, row in zip(pairs.tolist(), embeddings.tolist(), strict=True)]


def _held(pool: Pool) -> set[Held]:
    return {*_together(pool.embeddings[: len(pool)], pool.pairs[: len(pool)])}


@pytest.mark.parametrize("size", [1, 2, 7, 16])
@pytest.mark.parametrize("seed", range(5))
def test_first_in_first_out_against_a_deque(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pool, expected = Pool(size, 3, CPU), deque[Held](maxlen=size)
    for step in range(30):
        new = unit(int(rng.integers(0, 2 * size + 2)), 3, seed=1000 * seed + step)
        pairs = torch.from_numpy(rng.integers(100, size=len(new)))
        pool.push(new, pairs)
        expected.extend(_together(new, pairs))
        assert len(pool) == len(expected)
        assert _held(pool) == set(expected)
        if expected:
            assert {*_together(*pool.nearest(unit(5, 3, seed=step)))} <= set(expected)


@pytest.mark.parametrize(("size", "pushed"), [(1, 1), (5, 3), (16, 16), (16, 40)])
@pytest.mark.parametrize("dim", [2, 5])
def test_nearest_against_euclidean_distances(size: int, pushed: int, dim: int) -> None:
    pool = Pool(size, dim, CPU)
    new, pairs = unit(pushed, dim, seed=1), 7 + 3 * torch.arange(pushed)
    pool.push(new, pairs)
    queries = unit(50, dim, seed=2)
    rows = nearest_rows(queries.double().tolist(), new[-size:].double().tolist())
    found, of = pool.nearest(queries)
    assert torch.equal(found, new[-size:][rows])
    assert torch.equal(of, pairs[-size:][rows])


def test_what_is_not_yet_filled_is_never_found() -> None:
    pool = Pool(8, 2, CPU)
    pool.push(torch.tensor([[1.0, 0.0]]), torch.tensor([3]))
    assert _together(*pool.nearest(torch.tensor([[-1.0, 0.0]]))) == [(3, (1.0, 0.0))]


def test_an_embedding_finds_itself_until_it_leaves() -> None:
    pool, rows, pairs = Pool(4, 3, CPU), unit(6, 3, seed=3), torch.arange(6)
    pool.push(rows[:4], pairs[:4])
    assert _together(*pool.nearest(rows[:4])) == _together(rows[:4], pairs[:4])
    pool.push(rows[4:], pairs[4:])
    assert _together(*pool.nearest(rows[2:])) == _together(rows[2:], pairs[2:])
    assert pool.nearest(rows[:2])[1].min() >= 2


def test_an_empty_pool() -> None:
    with pytest.raises(LookupError, match="empty"):
        Pool(4, 3, CPU).nearest(unit(1, 3, seed=0))


def test_no_graph_and_no_alias_of_what_is_pushed() -> None:
    pool, new, pairs = Pool(4, 3, CPU), unit(4, 3, seed=4).requires_grad_(), torch.arange(1, 5)
    pool.push(2 * new, pairs)
    found, _ = pool.nearest(new)
    assert not pool.embeddings.requires_grad
    assert not found.requires_grad
    with torch.no_grad():
        new.zero_()
        pairs.zero_()
    assert pool.embeddings.abs().sum() > 0
    assert pool.pairs.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("pushes", [[2], [3, 2], [5], [4, 4, 3], [11]])
def test_state_round_trip(pushes: list[int]) -> None:
    pool, copy = Pool(5, 3, CPU), Pool(5, 3, CPU)
    for step, count in enumerate(pushes):
        pool.push(unit(count, 3, seed=step), 100 * step + torch.arange(count))
    copy.load_state_dict(pool.state_dict())
    assert _held(copy) == _held(pool)
    for step in range(4):
        new, pairs = unit(2, 3, seed=100 + step), 1000 + 2 * step + torch.arange(2)
        queries = unit(9, 3, seed=200 + step)
        assert _together(*pool.nearest(queries)) == _together(*copy.nearest(queries))
        pool.push(new, pairs)
        copy.push(new, pairs)
        assert _together(pool.embeddings, pool.pairs) == _together(copy.embeddings, copy.pairs)
