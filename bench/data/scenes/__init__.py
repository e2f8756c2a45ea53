"""The embedded data set."""

from .dataset import ScenesDataset

__all__ = ["ScenesDataset"]
