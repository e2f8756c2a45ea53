"""What the gradient of a loss reaches, and whether all of it is optimised."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from bench.api import Defense
from bench.training.held import held


class NotOptimised(RuntimeError):
    """Something that receives gradient is not optimised, so that it would stay as it is."""


class Reach:
    """Looks once at each phase of a run: does the gradient of its loss reach anything that `optimizer` does not train?"""

    def __init__(self, optimizer: torch.optim.Optimizer, defense: Defense) -> None:
        self._optimised = {id(tensor) for group in optimizer.param_groups for tensor in group["params"]}
        self._defense = defense
        self._seen: set[str] = set()

    def check(self, loss: torch.Tensor, phase: str) -> None:
        """Raise NotOptimised where it does, naming what it can."""
        if phase in self._seen:
            return
        self._seen.add(phase)
        strange = [leaf for leaf in leaves(loss) if id(leaf) not in self._optimised]
        if not strange:
            return
        names = _names(self._defense)
        found = sorted({names.get(id(leaf), f"a tensor of shape {tuple(leaf.shape)}") for leaf in strange})
        raise NotOptimised(
            f"the loss of phase '{phase}' has gradient in {', '.join(found)}, and that is not optimised: make what is to be "
            "trained in __init__ and hold it in an attribute, as nn.Module or nn.Parameter; detach() what is not"
        )


def leaves(loss: torch.Tensor) -> Iterator[torch.Tensor]:
    """The tensors that `loss.backward()` would accumulate gradient in, each once."""
    if loss.is_leaf:
        if loss.requires_grad:
            yield loss
        return
    waiting: list[Any] = [loss.grad_fn]
    seen = set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            yield node.variable
        waiting += [following for following, _ in node.next_functions]


def _names(defense: Defense) -> dict[int, str]:
    """What the defense's code calls each of its tensors, by identity."""
    found: dict[int, str] = {}
    for name, value in held(defense):
        if isinstance(value, nn.Module):
            found |= {id(tensor): f"{name}.{own}" for own, tensor in value.named_parameters()}
        else:
            found[id(value)] = name
    return found
