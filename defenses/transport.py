"""Optimal transport between sets of unit vectors."""

from __future__ import annotations

import torch


def distance(one: torch.Tensor, other: torch.Tensor, epsilon: float, iterations: int) -> torch.Tensor:
    """Entropic optimal transport of each set to the one in the same place, at the cost 1 - cosine: float (n,).

    one: (n, p, d), other: (n, q, d), of unit rows; rows of zeros are not there, at least one is; weights are even. Sinkhorn's
    iterations (Cuturi 2013) are without gradient, which goes through the costs alone, at the plan that they give.
    """
    costs = 1 - one @ other.mT
    with torch.no_grad():
        plan = sinkhorn(costs, one.any(dim=2), other.any(dim=2), epsilon, iterations)
    return (plan * costs).sum(dim=(1, 2))


def sinkhorn(costs: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, epsilon: float, iterations: int) -> torch.Tensor:
    """Plans (n, p, q) for costs (n, p, q) between even weights on `rows`, bool (n, p), and `columns`, bool (n, q)."""
    supply, demand = ((each / each.sum(dim=1, keepdim=True)).to(costs).log() for each in (rows, columns))
    kernel = -costs / epsilon
    u = torch.where(rows, 0.0, -torch.inf)
    for _ in range(iterations):
        v = demand - torch.logsumexp(kernel + u[:, :, None], dim=1)
        u = supply - torch.logsumexp(kernel + v[:, None, :], dim=2)
    return (kernel + u[:, :, None] + v[:, None, :]).exp()
