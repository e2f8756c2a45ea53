"""Contract checks, for the library's own plugins and for anybody's."""

from .contract import Check, checks, checks_for

__all__ = ["Check", "checks", "checks_for"]
