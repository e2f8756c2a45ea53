"""Contract checks for plugins, built-in and third-party."""

from .contract import Check, checks, checks_for

__all__ = ["Check", "checks", "checks_for"]
