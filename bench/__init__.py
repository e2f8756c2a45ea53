"""bench: attacks x defenses x data sets x evaluators for CLIP-like models trained on web data."""

__version__ = "0.2.0"
