"""Run keys, evaluation keys, and the seeds derived from a run's specification."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from bench.canonical import canonical, digest
from bench.config import PluginSpec, RunSpec


def run_key(spec: RunSpec) -> str:
    return digest(spec.model_dump(mode="json", exclude_none=True))


def eval_key(spec: RunSpec, evaluator: PluginSpec, clean: RunSpec | None, tasks: Mapping[str, str] | None = None) -> str:
    """The key of an evaluation; `tasks` are the fingerprints of downstream tasks beyond those of the data set."""
    parts = {
        "run": run_key(spec),
        "evaluator": evaluator.model_dump(mode="json", exclude_none=True),
        "clean": run_key(clean) if clean else None,
    }
    return digest({**parts, "tasks": dict(tasks)} if tasks else parts)


def seed_of(*parts: Any) -> int:
    """A 63-bit seed derived from all parts, which must be JSON values."""
    return int.from_bytes(hashlib.sha256(canonical(parts).encode()).digest()[:8], "big") >> 1


def generator(*parts: Any) -> np.random.Generator:
    return np.random.default_rng(seed_of(*parts))


def poison_parts(spec: RunSpec) -> tuple[Any, ...]:
    """The seed parts of the poison: data, attack, seed; never the defense."""
    assert spec.attack is not None
    attack = spec.attack.model_dump(mode="json", exclude_none=True, exclude={"builds_on"})
    return ("poison", spec.data.fingerprint, attack, spec.seed)


def initial_parts(spec: RunSpec) -> tuple[Any, ...]:
    """The seed parts of the initial weights: model, with the weights given, and seed."""
    return ("initial", spec.model.model_dump(mode="json", exclude_none=True), spec.seed)


def order_parts(spec: RunSpec, poison: str | None) -> tuple[Any, ...]:
    """The seed parts of positions, order and augmentations: seed, and the digest of the poison, which no defense can guess."""
    return ("order", spec.seed, poison)
