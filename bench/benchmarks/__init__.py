"""Measurements of parts: commands, not tests."""
