"""Text that can be encoded."""

from __future__ import annotations


def encodable(text: str) -> str:
    """`text` with each lone surrogate, which JSON may contain, replaced by U+FFFD."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
