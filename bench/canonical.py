"""Canonical JSON and its digest: equal values give equal text."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces. Raises ValueError for NaN and infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: Any) -> str:
    """The first 16 hexadecimal digits of the sha256 of the canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


def identity(value: Any) -> str:
    """Canonical JSON without null fields."""
    return canonical(without_nulls(value))


def without_nulls(value: Any) -> Any:
    """The value without null fields, at any depth of objects: a null option equals a missing one."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return value
