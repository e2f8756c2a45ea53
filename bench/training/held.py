"""The modules that a defense holds: seeded, trained and checkpointed with the encoder, with nothing for its author to do."""

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
    """Make a defense while all global generators follow from `seed`, so that modules made in `__init__` do too."""
    seed_everything(*seed)
    return plugin(params, setup)


class Held(nn.Module):
    """Every module and parameter that a defense holds as it stands, on `device`.

    Looked for in attributes, and within them in lists, tuples, dicts and the attributes of plain objects.
    """

    def __init__(self, defense: Defense, device: torch.device) -> None:
        super().__init__()
        for name, value in held(defense):
            if isinstance(value, nn.Parameter):
                value.data = value.data.to(device)
                self.register_parameter(_path(name), value)
            elif isinstance(value, nn.Module):
                self.add_module(_path(name), value.to(device))


def held(defense: object) -> Iterator[tuple[str, nn.Module | torch.Tensor]]:
    """Modules and tensors that an object holds, by the names that its own code has for them; each once."""
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
    """A name without the dots that PyTorch keeps for itself."""
    return name.replace(".", "/")
