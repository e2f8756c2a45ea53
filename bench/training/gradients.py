"""Checks that every tensor that receives gradient is optimised."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from bench.api import Defense
from bench.training.held import find_held


class NotOptimised(RuntimeError):
    """A tensor that receives gradient is not optimised, so it would never change."""


class GradientCheck:
    """Checks the first loss of each phase for gradient in tensors that `optimizer` does not train."""

    def __init__(self, optimizer: torch.optim.Optimizer, defense: Defense) -> None:
        self._optimised = {id(tensor) for group in optimizer.param_groups for tensor in group["params"]}
        self._defense = defense
        self._checked: set[str] = set()

    def check(self, loss: torch.Tensor, phase: str) -> None:
        """Raise NotOptimised naming the tensors, if there are any."""
        if phase in self._checked:
            return
        self._checked.add(phase)
        unoptimised = [leaf for leaf in leaves(loss) if id(leaf) not in self._optimised]
        if not unoptimised:
            return
        names = _names(self._defense)
        found = sorted({names.get(id(leaf), f"a tensor of shape {tuple(leaf.shape)}") for leaf in unoptimised})
        raise NotOptimised(
            f"the loss of phase '{phase}' has gradient in {', '.join(found)}, which is not optimised: create what is to be "
            "trained in __init__ and keep it in an attribute, as nn.Module or nn.Parameter; detach() anything else"
        )


def leaves(loss: torch.Tensor) -> Iterator[torch.Tensor]:
    """The leaf tensors that `loss.backward()` would accumulate gradient in, without duplicates."""
    if loss.is_leaf:
        if loss.requires_grad:
            yield loss
        return
    pending: list[Any] = [loss.grad_fn]
    seen = set()
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            yield node.variable
        pending += [parent for parent, _ in node.next_functions]


def _names(defense: Defense) -> dict[int, str]:
    """The name of each tensor in the defense's code, by id."""
    found: dict[int, str] = {}
    for name, value in find_held(defense):
        if isinstance(value, nn.Module):
            found |= {id(tensor): f"{name}.{own}" for own, tensor in value.named_parameters()}
        else:
            found[id(value)] = name
    return found
