"""Text that can be encoded, and text that stands for a value."""

from __future__ import annotations

import tomllib
from typing import Any


def encodable(text: str) -> str:
    """`text` with each lone surrogate, which JSON may contain, replaced by U+FFFD."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def toml_or_text(text: str) -> Any:
    """The TOML value that `text` is, else `text` without spaces around it."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text.strip()
