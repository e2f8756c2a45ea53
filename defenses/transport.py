"""Optimal transport between sets of unit vectors."""

from __future__ import annotations

import torch


def distance(one: torch.Tensor, other: torch.Tensor, epsilon: float, iterations: int) -> torch.Tensor:
    """Entropic optimal transport distance between corresponding sets, with cost 1 - cosine similarity: float (n,).

    Sinkhorn's iterations (Cuturi 2013) have no gradient; it flows through the costs at the resulting plan.

    Parameters
    ----------
    one, other : float (n, p, d), (n, q, d)
        Unit rows with equal weights. Rows of zeros are padding; each set has at least one other row.
    """
    costs = 1 - one @ other.mT
    with torch.no_grad():
        plan = sinkhorn(costs, one.any(dim=2), other.any(dim=2), epsilon, iterations)
    return (plan * costs).sum(dim=(1, 2))


def sinkhorn(costs: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, epsilon: float, iterations: int) -> torch.Tensor:
    """Transport plans (n, p, q) between equal weights on `rows`, bool (n, p), and `columns`, bool (n, q)."""
    supply, demand = ((each / each.sum(dim=1, keepdim=True)).to(costs).log() for each in (rows, columns))
    kernel = -costs / epsilon
    u = torch.where(rows, 0.0, -torch.inf)
    for _ in range(iterations):
        v = demand - torch.logsumexp(kernel + u[:, :, None], dim=1)
        u = supply - torch.logsumexp(kernel + v[:, None, :], dim=2)
    return (kernel + u[:, :, None] + v[:, None, :]).exp()
