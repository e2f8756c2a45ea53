"""Modules held by a defense: seeded, trained and checkpointed along with the encoder, automatically."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

import torch
from torch import nn

from bench.api import Defense, Params, TrainSetup
from bench.training.seeds import seed_everything

_LEAVES = (Params, TrainSetup, ModuleType, type, str, bytes)


def construct(plugin: Callable[[Params, TrainSetup], Defense], params: Params, setup: TrainSetup, *seed: Any) -> Defense:
    """Construct a defense with all global random generators seeded, so that modules made in `__init__` are reproducible."""
    seed_everything(*seed)
    return plugin(params, setup)


class HeldModules(nn.Module):
    """All modules and parameters that a defense holds, moved to `device`.

    They are found in its attributes, and in lists, tuples, dicts and plain objects therein.
    """

    def __init__(self, defense: Defense, device: torch.device) -> None:
        super().__init__()
        for name, value in find_held(defense):
            if isinstance(value, nn.Parameter):
                value.data = value.data.to(device)
                self.register_parameter(_path(name), value)
            elif isinstance(value, nn.Module):
                self.add_module(_path(name), value.to(device))


def find_held(defense: object) -> Iterator[tuple[str, nn.Module | torch.Tensor]]:
    """Modules and tensors held by an object, with their names in its code, such as self.head; without duplicates."""
    yield from _within("self", defense, set())


def _within(name: str, value: object, seen: set[int]) -> Iterator[tuple[str, nn.Module | torch.Tensor]]:
    if isinstance(value, _LEAVES) or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, nn.Module | torch.Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _within(f"{name}[{key!r}]", each, seen)
    elif isinstance(value, list | tuple):
        for number, each in enumerate(value):
            yield from _within(f"{name}[{number}]", each, seen)
    elif not callable(value):
        for key, each in getattr(value, "__dict__", {}).items():
            yield from _within(f"{name}.{key}", each, seen)


def _path(name: str) -> str:
    """The name without dots, which PyTorch does not allow in names of modules."""
    return name.replace(".", "/")
