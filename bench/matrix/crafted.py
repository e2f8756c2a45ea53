"""Crafted plans, kept in the cache folder under the digest of all that they depend on, so that none is optimised twice."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file

from bench.api import Attack, AttackContext, PoisonPlan
from bench.canonical import digest
from bench.models.frozen import FrozenSurrogate


def crafted(
    attack: Attack, ctx: AttackContext, plan: PoisonPlan, surrogate: FrozenSurrogate, parts: tuple[Any, ...], cache: Path | None
) -> PoisonPlan:
    """The plan completed against the surrogate; `parts` are what the plan follows from (`keys.poison_parts`)."""
    name = digest(("crafted", parts, plan.hash(), surrogate.digest()))
    file = cache / "crafted" / f"{name}.safetensors" if cache else None
    if file and file.exists():
        with contextlib.suppress(Exception):  # a damaged cache file is made anew, whatever its damage
            return _read(file)
    made = attack.craft(ctx, plan, surrogate)
    if file:
        _keep(made, file)
    return made


def _read(file: Path) -> PoisonPlan:
    with safe_open(file, framework="pt") as kept:
        plan, wanted = PoisonPlan.model_validate_json(kept.metadata()["plan"]), kept.metadata()["hash"]
        plan = plan.model_copy(update={"tensors": {name: kept.get_tensor(name) for name in sorted(kept.keys())}})
    if plan.hash() != wanted:
        raise ValueError(f"{file} is damaged")
    return plan


def _keep(plan: PoisonPlan, file: Path) -> None:
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    tensors = {name: tensor.contiguous() for name, tensor in plan.tensors.items()}
    with contextlib.suppress(OSError):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            save_file(tensors, temporary, {"plan": plan.model_dump_json(), "hash": plan.hash()})
            os.replace(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)
