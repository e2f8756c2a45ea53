"""Contract checks, for the library's own plugins and for anybody's."""

from .checks import Check, checks_for

__all__ = ["Check", "checks_for"]
