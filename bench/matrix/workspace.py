"""What cells share while a matrix runs: opened data, tokens, poison plans."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch

from bench import keys
from bench.api import Attack, AttackContext, DataPlace, DatasetBundle, PoisonPlan
from bench.config import DataSpec, RunSpec, Settings
from bench.data.poisoned import PoisonedPairs
from bench.errors import UserError
from bench.models import factory
from bench.registry import attacks, datasets


def cache_folder() -> Path | None:
    """BENCH_CACHE, or the user's cache folder; None where neither can be written."""
    base = os.environ.get("BENCH_CACHE")
    folder = Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "clip-poison-bench"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


class Workspace:
    """One data source at one model's image size; everything in it is computed once."""

    def __init__(self, settings: Settings, data: str, root: Path | None) -> None:
        entry = datasets[data]
        if entry.plugin.needs_root and root is None:
            raise UserError(f"--data {data}: say where it lies with --data-root DIR")
        self.model = settings.model
        params = settings.data(entry.plugin)
        side = factory.image_size(self.model.name)
        self.bundle: DatasetBundle = entry.plugin().open(params, side, DataPlace(root, cache_folder()))
        self.data = DataSpec(**entry.identity(), params=params.model_dump(mode="json"), fingerprint=self.bundle.fingerprint)
        self._rows: dict[str, torch.Tensor] = {}
        self._plans: dict[str, tuple[Attack, PoisonPlan, AttackContext]] = {}

    @cached_property
    def tokenizer(self) -> factory.Tokenizer:
        return factory.tokenizer(self.model.name)

    def tokens(self, captions: Sequence[str]) -> torch.Tensor:
        """int64 (n, length); each distinct caption is tokenised once."""
        new = [caption for caption in dict.fromkeys(captions) if caption not in self._rows]
        if new:
            self._rows.update(zip(new, self.tokenizer(new), strict=True))
        return torch.stack([self._rows[caption] for caption in captions])

    def poison(self, spec: RunSpec) -> tuple[Attack, PoisonPlan, AttackContext]:
        """The attack of a cell and its plan; the same for every defense."""
        assert spec.attack is not None
        parts = keys.poison_parts(spec)
        key = keys.digest(parts)
        if key not in self._plans:
            plugin = attacks[spec.attack.name].plugin
            attack = plugin(plugin.Params.model_validate(spec.attack.params))
            ctx = AttackContext(self.bundle, lambda purpose: keys.generator(*parts, purpose))
            self._plans[key] = attack, attack.plan(ctx), ctx
        return self._plans[key]

    def pairs(self, spec: RunSpec) -> PoisonedPairs:
        """The training set of a cell."""
        if spec.attack is None:
            return PoisonedPairs(self.bundle)
        attack, plan, _ = self.poison(spec)
        return PoisonedPairs(self.bundle, attack, plan)
