"""Canonical JSON, run and evaluation keys, and the seeds that follow from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from bench.config import PluginSpec, RunSpec

ENGINE = 1
"""Raised when a change to the engine alters the numbers of runs."""


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: Any) -> str:
    """The first 16 hexadecimal digits of the sha256 of the canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


def run_key(spec: RunSpec) -> str:
    return digest({"engine": ENGINE, **spec.model_dump(mode="json", exclude_none=True)})


def eval_key(spec: RunSpec, evaluator: PluginSpec, clean: RunSpec | None, tasks: Mapping[str, str] | None = None) -> str:
    """`tasks` are the fingerprints of the downstream tasks that it is measured on beyond those of the data set."""
    parts = {
        "run": run_key(spec),
        "evaluator": evaluator.model_dump(mode="json", exclude_none=True),
        "clean": run_key(clean) if clean else None,
    }
    return digest({**parts, "tasks": dict(tasks)} if tasks else parts)


def seed_of(*parts: Any) -> int:
    """A 63-bit seed that depends on all parts."""
    return int.from_bytes(hashlib.sha256(canonical(parts).encode()).digest()[:8], "big") >> 1


def generator(*parts: Any) -> np.random.Generator:
    return np.random.default_rng(seed_of(*parts))


def poison_parts(spec: RunSpec) -> tuple[Any, ...]:
    """What the poison depends on: data, attack, seed; never the defense."""
    assert spec.attack is not None
    attack = spec.attack.model_dump(mode="json", exclude_none=True, exclude={"builds_on"})
    return ("poison", spec.data.fingerprint, attack, spec.seed)


def initial_parts(spec: RunSpec) -> tuple[Any, ...]:
    """What the initial weights depend on: model, seed."""
    return ("initial", spec.model.model_dump(mode="json"), spec.seed)


def order_parts(spec: RunSpec, poison: str | None) -> tuple[Any, ...]:
    """What positions, order and augmentations depend on: seed, and the digest of the poison, which no defense can guess."""
    return ("order", spec.seed, poison)
