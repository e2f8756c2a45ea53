"""Text that any encoding can write."""

from __future__ import annotations


def encodable(text: str) -> str:
    """`text` with U+FFFD in place of each lone surrogate: JSON may hold them, and no encoder takes one."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
