from __future__ import annotations

from collections import deque

import numpy as np
import pytest
import torch
from defense_fakes import CPU, unit
from loss_formulas import nearest

from defenses.pool import Pool


def _held(pool: Pool) -> set[tuple[float, ...]]:
    return {tuple(row) for row in pool.embeddings[: len(pool)].tolist()}


@pytest.mark.parametrize("size", [1, 2, 7, 16])
@pytest.mark.parametrize("seed", range(5))
def test_first_in_first_out_against_a_deque(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pool, expected = Pool(size, 3, CPU), deque[tuple[float, ...]](maxlen=size)
    for step in range(30):
        new = unit(int(rng.integers(0, 2 * size + 2)), 3, seed=1000 * seed + step)
        pool.push(new)
        expected.extend(tuple(row) for row in new.tolist())
        assert len(pool) == len(expected)
        assert _held(pool) == set(expected)


@pytest.mark.parametrize(("size", "pushed"), [(1, 1), (5, 3), (16, 16), (16, 40)])
@pytest.mark.parametrize("dim", [2, 5])
def test_nearest_against_euclidean_distances(size: int, pushed: int, dim: int) -> None:
    pool = Pool(size, dim, CPU)
    new = unit(pushed, dim, seed=1)
    pool.push(new)
    queries = unit(50, dim, seed=2)
    expected = nearest(queries.double().tolist(), new[-size:].double().tolist())
    assert np.allclose(pool.nearest(queries).numpy(), expected, atol=1e-7)


def test_what_is_not_yet_filled_is_never_found() -> None:
    pool = Pool(8, 2, CPU)
    pool.push(torch.tensor([[1.0, 0.0]]))
    assert torch.equal(pool.nearest(torch.tensor([[-1.0, 0.0]])), torch.tensor([[1.0, 0.0]]))


def test_an_embedding_finds_itself_until_it_leaves() -> None:
    pool, rows = Pool(4, 3, CPU), unit(6, 3, seed=3)
    pool.push(rows[:4])
    assert torch.equal(pool.nearest(rows[:4]), rows[:4])
    pool.push(rows[4:])
    assert torch.equal(pool.nearest(rows[2:]), rows[2:])
    assert not torch.equal(pool.nearest(rows[:1]), rows[:1])


def test_an_empty_pool() -> None:
    with pytest.raises(LookupError, match="empty"):
        Pool(4, 3, CPU).nearest(unit(1, 3, seed=0))


def test_no_graph_and_no_alias_of_what_is_pushed() -> None:
    pool, new = Pool(4, 3, CPU), unit(4, 3, seed=4).requires_grad_()
    pool.push(2 * new)
    found = pool.nearest(new)
    assert not pool.embeddings.requires_grad
    assert not found.requires_grad
    with torch.no_grad():
        new.zero_()
    assert pool.embeddings.abs().sum() > 0


@pytest.mark.parametrize("pushes", [[2], [3, 2], [5], [4, 4, 3], [11]])
def test_state_round_trip(pushes: list[int]) -> None:
    pool, copy = Pool(5, 3, CPU), Pool(5, 3, CPU)
    for step, count in enumerate(pushes):
        pool.push(unit(count, 3, seed=step))
    copy.load_state_dict(pool.state_dict())
    assert len(copy) == len(pool)
    for step in range(4):
        new = unit(2, 3, seed=100 + step)
        queries = unit(9, 3, seed=200 + step)
        assert torch.equal(pool.nearest(queries), copy.nearest(queries))
        pool.push(new)
        copy.push(new)
        assert torch.equal(pool.embeddings, copy.embeddings)
