"""Canonical JSON and its digest: equal values give equal text, on any machine and without PyTorch."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces. Raises ValueError for a number that JSON cannot say."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: Any) -> str:
    """The first 16 hexadecimal digits of the sha256 of the canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


def identity(value: Any) -> str:
    """The canonical JSON without nulls."""
    return canonical(without_nulls(value))


def without_nulls(value: Any) -> Any:
    """The value without the null entries of its objects: a null option and an absent one are the same."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return value
